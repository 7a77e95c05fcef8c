"""Secrets, parameters, metrics, tags and progress for code that runs in strongroom.

>>> from strongroom import metrics, parameters, progress, secrets, tags
>>> password = secrets.get("db-password")
>>> epochs = int(parameters.get("epochs", "10"))
>>> metrics.log("loss", 0.25, step=1)
>>> tags.set("team", "blue")
>>> progress.report(1, epochs, "first epoch done")

``strongroom run train.py`` runs a script in the sandbox. ``python -m strongroom.local`` runs it
without one, to try it out.
"""

from __future__ import annotations

from pathlib import Path

from . import _host, metrics, parameters, progress, secrets, tags
from .errors import (
    Conflict,
    Denied,
    Error,
    Exhausted,
    Expired,
    InvalidBatch,
    InvalidName,
    InvalidReport,
    InvalidValue,
    NotAvailable,
    NotFound,
    OutsideComponent,
    Partial,
    Unavailable,
)

__version__ = "0.1.0"

__all__ = [
    "Conflict",
    "Denied",
    "Error",
    "Exhausted",
    "Expired",
    "InvalidBatch",
    "InvalidName",
    "InvalidReport",
    "InvalidValue",
    "NotAvailable",
    "NotFound",
    "OutsideComponent",
    "Partial",
    "Unavailable",
    "input_folder",
    "metrics",
    "output_folder",
    "parameters",
    "progress",
    "run_id",
    "secrets",
    "tags",
    "time_left",
]

# Tracebacks show the exceptions under the names by which a script catches them.
for _value in list(globals().values()):
    if isinstance(_value, type) and issubclass(_value, Error):
        _value.__module__ = __name__


def run_id() -> str:
    """Returns the identifier of this run: 26 characters, unique, ascending with time."""
    return _host.current().run_id()


def time_left() -> float | None:
    """Returns the seconds until the host stops this run at its ``time`` limit.

    ``None`` without such a limit, as outside the sandbox.
    """
    return _host.current().remaining_time()


def input_folder() -> Path:
    """Returns the folder with the run's inputs, which is read-only: ``/input`` in a component."""
    return _host.current().input


def output_folder() -> Path:
    """Returns the folder for the run's results: ``/output`` in a component."""
    return _host.current().output
