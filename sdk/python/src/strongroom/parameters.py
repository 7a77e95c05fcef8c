"""The parameters of this run: ``strongroom run --param NAME=VALUE``. Values are text."""

from __future__ import annotations

from typing import TypeVar, overload

from . import _host

__all__ = ["all", "get"]

T = TypeVar("T")


@overload
def get(name: str) -> str | None: ...
@overload
def get(name: str, default: T) -> str | T: ...
def get(name: str, default: object = None) -> object:
    """Returns the value of a parameter, or ``default`` if the run was started without it."""
    return _host.current().parameters().get(name, default)


def all() -> dict[str, str]:
    """Returns all parameters, sorted by name."""
    return dict(_host.current().parameters())
