"""Tags of this run: texts by name that the host keeps in the run's record."""

from __future__ import annotations

from collections.abc import Mapping

from . import _host

__all__ = ["remove", "set", "set_many"]


def set(name: str, value: object = "") -> None:
    """Sets a tag, or replaces its value.

    The value is stored as text of at most 8 KiB. The name has 1 to 128 bytes and no control
    characters. Tags count toward the run's ``metrics`` limit.
    """
    _host.current().set_tag(_host.text(name), _host.text(value))


def set_many(tags: Mapping[str, object]) -> None:
    """Sets several tags."""
    for name, value in tags.items():
        set(name, value)


def remove(name: str) -> None:
    """Removes a tag that this run has set. Does nothing if there is none."""
    _host.current().remove_tag(_host.text(name))
