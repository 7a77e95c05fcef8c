"""The parameters of this run: ``strongroom run --param NAME=VALUE``. Values are text.

What the code itself chooses, such as a learning rate, can be logged: it is then in the run's
record, and :func:`get` and :func:`all` do not return it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, overload

from . import _host

__all__ = ["all", "get", "log", "log_many"]

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


def log(name: str, value: object) -> None:
    """Records a parameter that the code chose. Logging a name again replaces its value.

    The value is stored as text of at most 8 KiB. The name has 1 to 128 bytes and no control
    characters. Logged parameters count toward the run's ``metrics`` limit.
    """
    _host.current().log_parameter(_host.text(name), _host.text(value))


def log_many(parameters: Mapping[str, object]) -> None:
    """Records several parameters."""
    for name, value in parameters.items():
        log(name, value)
