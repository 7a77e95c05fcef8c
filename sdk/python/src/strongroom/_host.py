"""The connection to the host: inside a component its imports, otherwise ``strongroom.local``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from . import errors


@dataclasses.dataclass(frozen=True)
class Description:
    """The metadata of a secret, without its value. Times are seconds since 1970 in UTC."""

    #: The version that this run reads.
    version: str
    #: The media type or other label stored with the value.
    content_type: str | None
    #: When this version was last changed.
    updated: int | None
    #: When the secret expires in the vault.
    expires: int | None


class Host(Protocol):
    """What a run can ask of its host. Errors are those of :mod:`strongroom.errors`."""

    #: The folder with the run's inputs.
    input: Path
    #: The folder for the run's results.
    output: Path

    def get_secret(self, name: str) -> str: ...
    def get_secrets(self, names: Sequence[str]) -> dict[str, str | None]: ...
    def set_secret(self, name: str, value: str) -> None: ...
    def set_secrets(self, secrets: Mapping[str, str]) -> None: ...
    def list_secrets(self) -> list[str]: ...
    def describe_secret(self, name: str) -> Description: ...
    def delete_secret(self, name: str) -> None: ...
    def delete_secrets(self, names: Sequence[str]) -> None: ...
    def run_id(self) -> str: ...
    def parameters(self) -> dict[str, str]: ...
    def log_metric(self, name: str, value: float, step: int | None) -> None: ...
    def log_text(self, name: str, value: str, step: int | None) -> None: ...
    def log_parameter(self, name: str, value: str) -> None: ...
    def set_tag(self, name: str, value: str) -> None: ...
    def remove_tag(self, name: str) -> None: ...
    def remaining_time(self) -> float | None: ...
    def report_progress(self, done: int, total: int, message: str) -> None: ...


def text(value: object) -> str:
    """Returns a value as text that UTF-8 can encode: a lone surrogate becomes an escape."""
    return str(value).encode("utf-8", "backslashreplace").decode()


_current: Host | None = None


def use(host: Host | None) -> Host | None:
    """Makes ``host`` the host of this process, and returns the one before."""
    global _current
    before, _current = _current, host
    return before


def current() -> Host:
    """Returns the host of this process."""
    if _current is None:
        raise errors.OutsideComponent(
            "could not reach the host: this process does not run inside strongroom\n"
            "help: run the script with `strongroom run SCRIPT`, or try it without a sandbox with "
            "`python -m strongroom.local --vault memory SCRIPT`"
        )
    return _current
