"""The progress of this run, which the host shows while the run continues."""

from __future__ import annotations

from . import _host

__all__ = ["report"]


def report(done: int, total: int = 0, message: str = "") -> None:
    """Reports that ``done`` of ``total`` steps are done. A ``total`` of 0 means unknown.

    The message has at most 1,024 bytes. Reports count toward the run's ``metrics`` limit.
    """
    for number in (done, total):
        if not isinstance(number, int) or not 0 <= number < 1 << 64:
            raise ValueError(f"progress must be whole numbers of at least 0, not {number!r}")
    _host.current().report_progress(done, total, _host.text(message))
