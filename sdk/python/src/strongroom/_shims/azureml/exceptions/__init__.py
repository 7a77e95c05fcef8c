"""The exceptions of Azure ML SDK v1 that a component can meet."""

from typing import Any

__all__ = [
    "AuthenticationException",
    "AzureMLException",
    "RunEnvironmentException",
    "ServiceException",
    "TrainingException",
    "UserErrorException",
    "WorkspaceException",
]


class AzureMLException(Exception):
    """The base class of the exceptions of Azure ML."""

    def __init__(self, exception_message: str, inner_exception: Any = None, **kwargs: Any) -> None:
        super().__init__(exception_message)
        self._exception_message = exception_message
        self._inner_exception = inner_exception

    @property
    def message(self) -> str:
        """The text of the error."""
        return self._exception_message

    @message.setter
    def message(self, value: str) -> None:
        self._exception_message = value

    @property
    def inner_exception(self) -> Any:
        """The exception that caused this one."""
        return self._inner_exception

    def __str__(self) -> str:
        return self._exception_message


class ServiceException(AzureMLException):
    """A secret could not be read, stored or deleted."""

    def __init__(self, error: Any, **kwargs: Any) -> None:
        # The error of strongroom, which has a text and a status code.
        super().__init__(str(error), error)
        self.status_code = getattr(error, "status_code", 500)
        self.details: list[Any] = []


class UserErrorException(AzureMLException):
    """A call was not valid."""


class TrainingException(AzureMLException):
    """Training could not be started or continued."""


class RunEnvironmentException(TrainingException):
    """There is no run."""


class WorkspaceException(AzureMLException):
    """A workspace could not be used."""


class AuthenticationException(UserErrorException):
    """The user could not be authenticated."""


_OTHERS = {
    "ActivityFailedException", "AzureMLAggregatedException", "ComputeTargetException",
    "DatasetTimestampMissingError", "DiscoveryUrlNotFoundException",
    "ExperimentExecutionException", "ModelNotFoundException", "ModelPathNotFoundException",
    "ParallelRunException", "ProjectSystemException", "RunConfigurationException",
    "SnapshotException", "WebserviceException", "WorkspacePrivateEndpointException",
}  # fmt: skip

# Scripts catch them. Nothing raises them here.
for _name in sorted(_OTHERS):
    globals()[_name] = type(_name, (AzureMLException,), {"__module__": __name__})
__all__ += sorted(_OTHERS)
