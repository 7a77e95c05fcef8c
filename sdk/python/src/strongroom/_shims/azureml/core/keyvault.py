"""The vault of this run in the form of Azure ML SDK v1."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, TypeVar

import strongroom
from azureml.exceptions import ServiceException
from strongroom import secrets as _secrets
from strongroom._sdk import unavailable

T = TypeVar("T")

_NOT_PROVIDED = "application/NotProvided"


def call(request: Callable[[], T]) -> T:
    """Makes a request, and turns an error of strongroom into Azure ML's exception."""
    try:
        return request()
    except strongroom.Error as error:
        raised = ServiceException(error)
    # Outside the handler: the exception has the same text as its cause.
    raise raised


class Keyvault:
    """Reads, stores, lists and deletes secrets under the policy of this run."""

    def __init__(self, workspace: Any) -> None:
        self.workspace = workspace

    def set_secret(self, name: str, value: str, content_type: Any = _NOT_PROVIDED) -> None:
        """Stores a secret. It replaces an existing value."""
        if content_type != _NOT_PROVIDED:
            raise unavailable(
                "content_type", "leave `content_type` out: a component stores text values only"
            )
        call(lambda: _secrets.set(name, value))

    def set_secrets(self, secrets_batch: dict[str, str]) -> None:
        """Stores several secrets."""
        call(lambda: _secrets.set_many(secrets_batch))

    def get_secret(self, name: str) -> str:
        """Returns the value of a secret."""
        return call(lambda: _secrets.get(name))

    def get_secrets(self, secrets: builtins.list[str]) -> dict[str, str | None]:
        """Returns the values by name, ``None`` for a missing secret."""
        return call(lambda: _secrets.get_many(secrets))

    def get_secret_content_type(self, name: str) -> str:
        """Returns the content type of a secret."""
        return call(lambda: _secrets.describe(name)).content_type or _NOT_PROVIDED

    def delete_secret(self, name: str) -> None:
        """Deletes a secret."""
        call(lambda: _secrets.delete(name))

    def delete_secrets(self, secrets: builtins.list[str]) -> None:
        """Deletes several secrets."""
        call(lambda: _secrets.delete_many(secrets))

    def list_secrets(self) -> builtins.list[dict[str, str]]:
        """Returns ``[{"name": ...}]`` for the secrets that the policy lets this run list."""
        return [{"name": name} for name in call(_secrets.list)]
