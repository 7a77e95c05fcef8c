"""The credentials of ``azure.identity``. They hold nothing: the host signs in to the vault."""

from __future__ import annotations

from typing import Any, NoReturn

from azure.core.exceptions import ClientAuthenticationError

from strongroom._sdk import unavailable_function

__all__ = ["AuthenticationRequiredError", "CredentialUnavailableError"]


class CredentialUnavailableError(ClientAuthenticationError):
    """A component has no identity in Azure."""


class AuthenticationRequiredError(CredentialUnavailableError):
    """A component cannot ask a person to sign in."""


class _Credential:
    """Accepted by ``SecretClient``. Keeps none of its arguments, and returns no token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def get_token(self, *scopes: str, **kwargs: Any) -> NoReturn:
        raise CredentialUnavailableError(
            "could not get a token: a component has no identity in Azure\n"
            "help: use `azure.keyvault.secrets`, for which the host signs in"
        )

    get_token_info = get_token

    def close(self) -> None:
        pass

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *args: Any) -> None:
        pass


_NAMES = [
    "AuthorizationCodeCredential", "AzureCliCredential", "AzureDeveloperCliCredential",
    "AzurePipelinesCredential", "AzurePowerShellCredential", "CertificateCredential",
    "ChainedTokenCredential", "ClientAssertionCredential", "ClientSecretCredential",
    "DefaultAzureCredential", "DeviceCodeCredential", "EnvironmentCredential",
    "InteractiveBrowserCredential", "ManagedIdentityCredential", "OnBehalfOfCredential",
    "SharedTokenCacheCredential", "UsernamePasswordCredential", "VisualStudioCodeCredential",
    "WorkloadIdentityCredential",
]  # fmt: skip

for _name in _NAMES:
    globals()[_name] = type(
        _name, (_Credential,), {"__module__": __name__, "__doc__": _Credential.__doc__}
    )
__all__ += _NAMES

get_bearer_token_provider = unavailable_function(
    "azure.identity.get_bearer_token_provider",
    "keep the token as a secret in the vault, and read it with `SecretClient`",
)
