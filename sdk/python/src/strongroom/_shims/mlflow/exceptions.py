"""The exceptions of MLflow."""

from typing import Any


class MlflowException(Exception):
    """A call was not valid."""

    def __init__(self, message: object, error_code: Any = None, **kwargs: Any) -> None:
        self.message = str(message)
        self.error_code = error_code
        super().__init__(self.message)
