"""The exceptions of ``azure.core`` that a component can meet."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AzureError",
    "ClientAuthenticationError",
    "HttpResponseError",
    "ResourceExistsError",
    "ResourceModifiedError",
    "ResourceNotFoundError",
    "ResourceNotModifiedError",
    "ServiceRequestError",
    "ServiceResponseError",
]


class AzureError(Exception):
    """The base class of the exceptions of Azure's packages."""

    def __init__(self, message: object = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(message, *args)
        self.message = str(message)
        self.inner_exception = kwargs.get("error")
        self.exc_type = self.exc_value = self.exc_traceback = None
        self.exc_msg = self.message
        self.continuation_token = kwargs.get("continuation_token")

    def __str__(self) -> str:
        return self.message


class HttpResponseError(AzureError):
    """A request was refused. ``status_code`` has the status that Key Vault uses for the reason."""

    def __init__(self, message: object = None, response: Any = None, **kwargs: Any) -> None:
        super().__init__(message, **kwargs)
        self.response = response
        self.error = self.model = None
        self.reason = None
        self.status_code: int | None = kwargs.get("status_code")


class ResourceNotFoundError(HttpResponseError):
    """There is no usable secret of this name."""


class ResourceExistsError(HttpResponseError):
    """The vault cannot write this name now."""


class ClientAuthenticationError(HttpResponseError):
    """A credential was not accepted."""


class ResourceModifiedError(HttpResponseError):
    """The resource has changed."""


class ResourceNotModifiedError(HttpResponseError):
    """The resource has not changed."""


class ServiceRequestError(AzureError):
    """A request could not be sent."""


class ServiceResponseError(AzureError):
    """A response could not be read."""
