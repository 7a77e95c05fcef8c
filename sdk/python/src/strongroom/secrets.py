"""Secrets of the host's vault, under the policy of this run.

Names are 1 to 127 characters of ``0-9 a-z A-Z -`` and case-insensitive. The host writes each use to
its audit log before it answers, and replaces the values in everything the run prints. Do not print
them all the same: a value in another form than the stored one may pass.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Mapping

from . import _host
from ._host import Description
from .errors import InvalidName, InvalidValue

__all__ = [
    "Description",
    "delete",
    "delete_many",
    "describe",
    "get",
    "get_many",
    "list",
    "set",
    "set_many",
]


def get(name: str) -> str:
    """Returns the value of a secret.

    A run sees one version of a secret from its first read to its end, or until it sets the name.
    Raises ``Denied`` if the policy does not grant it, ``NotFound`` if there is no usable value.
    """
    return _host.current().get_secret(_text(name, "name"))


def get_many(names: Iterable[str]) -> dict[str, str | None]:
    """Returns the values of up to 256 secrets by name, ``None`` where there is no usable value.

    If the policy does not grant one of the names, nothing is read and ``Denied`` is raised.
    """
    return _host.current().get_secrets(_names(names))


def set(name: str, value: str) -> None:
    """Stores a value of at most 25 KiB as a new version of a secret. It replaces the old value."""
    _host.current().set_secret(_text(name, "name"), _text(value, "value"))


def set_many(secrets: Mapping[str, str]) -> None:
    """Stores up to 256 values.

    The local vault stores all or none. A vault without transactions may raise ``Partial``. If the
    policy does not grant one of the names, nothing is stored and ``Denied`` is raised.
    """
    checked = {_text(name, "name"): _text(value, "value") for name, value in secrets.items()}
    _host.current().set_secrets(checked)


def list() -> builtins.list[str]:
    """Returns the names of the existing secrets that the policy lets this run list, sorted."""
    return _host.current().list_secrets()


def describe(name: str) -> Description:
    """Returns version, content type and times of a secret, without its value."""
    return _host.current().describe_secret(_text(name, "name"))


def delete(name: str) -> None:
    """Deletes a secret with all its versions. Some vaults let an operator recover it."""
    _host.current().delete_secret(_text(name, "name"))


def delete_many(names: Iterable[str]) -> None:
    """Deletes up to 256 secrets. Batches behave as in :func:`set_many`."""
    _host.current().delete_secrets(_names(names))


def _text(value: object, what: str) -> str:
    # The message names the type alone, because the value may be a secret.
    if not isinstance(value, str):
        raise TypeError(f"the {what} of a secret must be a str, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        error = InvalidName if what == "name" else InvalidValue
        raise error(
            f"could not use the {what} of a secret: it has a lone surrogate, which UTF-8 cannot "
            "encode\nhelp: decode the bytes with their own encoding, or store them as base64"
        ) from None
    return value


def _names(names: Iterable[str]) -> builtins.list[str]:
    if isinstance(names, str):
        raise TypeError("the names must be a list of str, not a str")
    return [_text(name, "name") for name in names]
