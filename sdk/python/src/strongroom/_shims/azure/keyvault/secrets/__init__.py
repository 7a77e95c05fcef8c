"""``SecretClient`` over the one vault that the host gives to this run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)

import strongroom
from strongroom import secrets as _secrets
from strongroom._sdk import OneOf, unavailable, unavailable_function

__all__ = [
    "DeletedSecret",
    "KeyVaultSecret",
    "KeyVaultSecretIdentifier",
    "SecretClient",
    "SecretProperties",
]

T = TypeVar("T")

_one = OneOf(
    "the vault",
    "use one `SecretClient`, and let the policy map names with `stored-as` if it has to",
)
_OPERATOR = "let an operator do it, outside the component"


def _call(request: Callable[[], T]) -> T:
    try:
        return request()
    except strongroom.NotFound as error:
        raised: HttpResponseError = ResourceNotFoundError(str(error), status_code=404)
    except strongroom.Conflict as error:
        raised = ResourceExistsError(str(error), status_code=409)
    except strongroom.Error as error:
        raised = HttpResponseError(str(error), status_code=error.status_code)
    # Outside the handlers: the exception has the same text as its cause.
    raise raised


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class SecretProperties:
    """The name and metadata of a secret."""

    def __init__(
        self, vault_url: str, name: str, description: _secrets.Description | None = None
    ) -> None:
        self.vault_url = vault_url
        self.name = name
        self.enabled = True
        self.version = description.version if description else None
        self.content_type = description.content_type if description else None
        self.updated_on = _time(description.updated) if description else None
        self.expires_on = _time(description.expires) if description else None
        self.created_on = self.not_before = self.key_id = self.tags = None
        self.managed = self.previous_version = None
        self.recoverable_days = self.recovery_level = None

    @property
    def id(self) -> str:
        """The address of the secret."""
        version = f"/{self.version}" if self.version else ""
        return f"{self.vault_url}/secrets/{self.name}{version}"

    def __repr__(self) -> str:
        return f"<SecretProperties [{self.id}]>"


class KeyVaultSecret:
    """A secret's value and properties."""

    def __init__(self, properties: SecretProperties, value: str | None) -> None:
        self.properties = properties
        self.value = value

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self.properties.name

    @property
    def id(self) -> str:
        """The address of the secret."""
        return self.properties.id

    def __repr__(self) -> str:
        return f"<KeyVaultSecret [{self.id}]>"


class DeletedSecret:
    """A deleted secret's properties."""

    def __init__(self, properties: SecretProperties) -> None:
        self.properties = properties
        self.deleted_date = self.recovery_id = self.scheduled_purge_date = None

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self.properties.name

    @property
    def id(self) -> str:
        """The address of the secret."""
        return self.properties.id


class KeyVaultSecretIdentifier:
    """The parts of a secret's address."""

    def __init__(self, source_id: str) -> None:
        parts = urlsplit(source_id)
        path = parts.path.strip("/").split("/")
        if not parts.netloc or not 2 <= len(path) <= 3:
            raise ValueError(f"'{source_id}' is not a valid ID")
        self.source_id = source_id
        self.vault_url = f"{parts.scheme}://{parts.netloc}"
        self.name = path[1]
        self.version = path[2] if len(path) == 3 else None


class _Poller:
    """An operation that has completed."""

    def __init__(self, result: DeletedSecret) -> None:
        self._result = result

    def result(self, timeout: float | None = None) -> DeletedSecret:
        return self._result

    def wait(self, timeout: float | None = None) -> None:
        pass

    def done(self) -> bool:
        return True

    def status(self) -> str:
        return "finished"


class SecretClient:
    """Reads, stores, lists and deletes secrets under the policy of this run.

    The host chooses the vault and signs in. ``vault_url`` is a name for it: a second one in the
    same run is an error. The credential is not used.
    """

    def __init__(self, vault_url: str, credential: Any, **kwargs: Any) -> None:
        if not credential:
            raise ValueError("credential should be an object supporting a token credential")
        if not vault_url:
            raise ValueError("vault_url must be the URL of an Azure Key Vault")
        url = vault_url.strip(" /")
        if "://" not in url:
            url = f"https://{url}"
        _one.check(url.lower())
        self._vault_url = url

    @property
    def vault_url(self) -> str:
        """The address that the client was created with."""
        return self._vault_url

    def get_secret(
        self, name: str, version: str | None = None, *, out_content_type: Any = None, **kwargs: Any
    ) -> KeyVaultSecret:
        """Returns a secret. A run sees one version of it, which the host chooses."""
        if version:
            raise unavailable(
                "version",
                "leave the version out, and let the policy pin it with `secret-version`",
            )
        value = _call(lambda: _secrets.get(name))
        return KeyVaultSecret(SecretProperties(self._vault_url, name), value)

    def set_secret(
        self,
        name: str,
        value: str,
        *,
        enabled: bool | None = None,
        tags: dict[str, str] | None = None,
        content_type: str | None = None,
        not_before: datetime | None = None,
        expires_on: datetime | None = None,
        **kwargs: Any,
    ) -> KeyVaultSecret:
        """Stores a secret. It replaces an existing value."""
        options = {
            "tags": tags, "content_type": content_type, "not_before": not_before,
            "expires_on": expires_on, "enabled": None if enabled else enabled,
        }  # fmt: skip
        for option, given in options.items():
            if given is not None:
                raise unavailable(option, "leave it out: a component stores values only")
        _call(lambda: _secrets.set(name, value))
        return KeyVaultSecret(SecretProperties(self._vault_url, name), value)

    def list_properties_of_secrets(self, **kwargs: Any) -> Iterator[SecretProperties]:
        """Returns the secrets that the policy lets this run list. They have names only."""
        names = _call(_secrets.list)
        return iter([SecretProperties(self._vault_url, name) for name in names])

    def begin_delete_secret(self, name: str, **kwargs: Any) -> _Poller:
        """Deletes a secret. The operation is complete when this returns."""
        _call(lambda: _secrets.delete(name))
        return _Poller(DeletedSecret(SecretProperties(self._vault_url, name)))

    def close(self) -> None:
        """Does nothing: the client holds no connection."""

    def __enter__(self) -> SecretClient:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    update_secret_properties = unavailable_function("update_secret_properties", _OPERATOR)
    list_properties_of_secret_versions = unavailable_function(
        "list_properties_of_secret_versions", "`strongroom.secrets.describe` tells the version used"
    )
    backup_secret = unavailable_function("backup_secret", _OPERATOR)
    restore_secret_backup = unavailable_function("restore_secret_backup", _OPERATOR)
    get_deleted_secret = unavailable_function("get_deleted_secret", _OPERATOR)
    list_deleted_secrets = unavailable_function("list_deleted_secrets", _OPERATOR)
    purge_deleted_secret = unavailable_function("purge_deleted_secret", _OPERATOR)
    begin_recover_deleted_secret = unavailable_function("begin_recover_deleted_secret", _OPERATOR)
    send_request = unavailable_function("send_request", "use the other methods of the client")
