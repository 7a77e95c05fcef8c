"""Progress and errors of a build, for a person or as lines of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class BuildError(Exception):
    """A build failed. The text says what failed and, after ``help:``, what to do."""

    def __init__(self, message: str, help: str = "", **fields: Any) -> None:
        super().__init__(f"{message}\nhelp: {help}" if help else message)
        self.message = message
        self.help = help
        self.fields = fields


class Report:
    """Prints what a build does."""

    def __init__(self, as_json: bool = False) -> None:
        self._json = as_json

    def event(self, event: str, text: str, **fields: Any) -> None:
        """Prints one event. ``text`` is for persons, and ``fields`` only for programs."""
        if self._json:
            line = json.dumps({"event": event, "text": text, **fields}, ensure_ascii=False)
            # File names may not be text.
            sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
            sys.stdout.buffer.flush()
        elif text:
            print(f"{event}: {text}" if event != "step" else text, file=sys.stderr, flush=True)

    def warning(self, text: str, **fields: Any) -> None:
        self.event("warning", text, **fields)

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Marks the beginning and the end of a step."""
        self.event("step", text, step=name, state="begin")
        began = time.monotonic()
        yield
        if self._json:
            seconds = round(time.monotonic() - began, 3)
            self.event("step", "", step=name, state="end", seconds=seconds)

    def failed(self, error: BuildError) -> None:
        """Prints the error that ends the build."""
        if self._json:
            self.event("error", error.message, help=error.help, **error.fields)
        else:
            print(f"error: {error}", file=sys.stderr, flush=True)
