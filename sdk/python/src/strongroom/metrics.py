"""Metrics of this run: numbers, which the host shows as plots, and texts, in the run's record."""

from __future__ import annotations

from collections.abc import Mapping

from . import _host

__all__ = ["log", "log_many", "log_text"]


def log(name: str, value: float, step: int | None = None) -> None:
    """Records a number.

    ``step`` orders the values of one name: an iteration or epoch, at least 0. The name has 1 to 128
    bytes and no control characters. NaN and infinities are allowed. Metrics count toward the run's
    ``metrics`` limit.
    """
    _host.current().log_metric(_host.text(name), float(value), _checked(step))


def log_many(metrics: Mapping[str, float], step: int | None = None) -> None:
    """Records several numbers with the same ``step``."""
    for name, value in metrics.items():
        log(name, value, step)


def log_text(name: str, value: str, step: int | None = None) -> None:
    """Records a value of a text metric, such as the stage of a training.

    The value has at most 8 KiB. The host keeps the newest 1,000 values of a name. Name, ``step``
    and limit are as in :func:`log`.
    """
    _host.current().log_text(_host.text(name), _host.text(value), _checked(step))


def _checked(step: int | None) -> int | None:
    if step is not None and (not isinstance(step, int) or not 0 <= step < 1 << 64):
        raise ValueError(f"the step of a metric must be a whole number of at least 0, not {step!r}")
    return step
