"""Metrics of this run: numbers that the host keeps in the run's record and shows as plots."""

from __future__ import annotations

from collections.abc import Mapping

from . import _host

__all__ = ["log", "log_many"]


def log(name: str, value: float, step: int | None = None) -> None:
    """Records a number.

    ``step`` orders the values of one name: an iteration or epoch, at least 0. The name has 1 to 128
    bytes and no control characters. NaN and infinities are allowed. Metrics count toward the run's
    ``metrics`` limit.
    """
    if step is not None and (not isinstance(step, int) or not 0 <= step < 1 << 64):
        raise ValueError(f"the step of a metric must be a whole number of at least 0, not {step!r}")
    _host.current().log_metric(name, float(value), step)


def log_many(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Records several numbers with the same ``step``."""
    for name, value in metrics.items():
        log(name, value, step)
