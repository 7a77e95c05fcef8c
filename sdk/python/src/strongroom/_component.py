"""The host of a component, over the imports of the guest contract. Only components have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from componentize_py_types import Err
from wit_world.imports import context, secrets

from ._host import Description
from .errors import Error, InvalidReport, partial_error, secret_error

T = TypeVar("T")


def _ask(operation: str, names: Sequence[str], call: Callable[[], T]) -> T:
    try:
        return call()
    except Err as error:
        raised = _raised(operation, names, error.value)
    # Outside the handler: a chained traceback would show the bindings' exception first.
    raise raised


def _raised(operation: str, names: Sequence[str], error: object) -> Error:
    if isinstance(error, secrets.Error_Partial):
        return partial_error(operation, error.value)
    # `Error_NotFound` is `not-found` in the contract.
    kind = type(error).__name__.removeprefix("Error_")
    kind = re.sub(r"(?<!^)(?=[A-Z])", "-", kind).lower()
    return secret_error(kind, str(getattr(error, "value", "")), operation, names)


class ComponentHost:
    """Calls the host of this component."""

    input = Path("/input")
    output = Path("/output")

    def get_secret(self, name: str) -> str:
        return _ask("get", [name], lambda: secrets.get_secret(name))

    def get_secrets(self, names: Sequence[str]) -> dict[str, str | None]:
        # The host answers in the order of the request, with the names in lower case.
        found = _ask("get", names, lambda: secrets.get_secrets(list(names)))
        return {name: value for name, (_, value) in zip(names, found, strict=True)}

    def set_secret(self, name: str, value: str) -> None:
        _ask("set", [name], lambda: secrets.set_secret(name, value))

    def set_secrets(self, new: Mapping[str, str]) -> None:
        _ask("set", list(new), lambda: secrets.set_secrets(list(new.items())))

    def list_secrets(self) -> list[str]:
        return _ask("list", [], secrets.list_secrets)

    def describe_secret(self, name: str) -> Description:
        found = _ask("describe", [name], lambda: secrets.describe_secret(name))
        return Description(found.version, found.content_type, found.updated, found.expires)

    def delete_secret(self, name: str) -> None:
        _ask("delete", [name], lambda: secrets.delete_secret(name))

    def delete_secrets(self, names: Sequence[str]) -> None:
        _ask("delete", names, lambda: secrets.delete_secrets(list(names)))

    def run_id(self) -> str:
        return context.run_id()

    def parameters(self) -> dict[str, str]:
        return dict(context.parameters())

    def log_metric(self, name: str, value: float, step: int | None) -> None:
        _report(f"the metric {name!r}", lambda: context.log_metric(name, value, step))

    def log_text(self, name: str, value: str, step: int | None) -> None:
        _report(f"the text metric {name!r}", lambda: context.log_text(name, value, step))

    def log_parameter(self, name: str, value: str) -> None:
        _report(f"the parameter {name!r}", lambda: context.log_parameter(name, value))

    def set_tag(self, name: str, value: str) -> None:
        _report(f"the tag {name!r}", lambda: context.set_tag(name, value))

    def remove_tag(self, name: str) -> None:
        _report(f"the tag {name!r}", lambda: context.remove_tag(name))

    def remaining_time(self) -> float | None:
        left = context.remaining_time()
        return None if left is None else left / 1e9

    def report_progress(self, done: int, total: int, message: str) -> None:
        _report("the progress", lambda: context.report_progress(done, total, message))


def _report(what: str, call: Callable[[], None]) -> None:
    try:
        return call()
    except Err as error:
        raised = InvalidReport(f"could not record {what}: {error.value}")
    raise raised
