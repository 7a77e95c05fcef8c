"""What the replacements of Azure ML, Key Vault and MLflow in ``_shims`` share."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any, NoReturn

from . import _host, metrics, tags
from .errors import Error, NotAvailable

GENERAL_HELP = (
    "use the modules `secrets`, `parameters`, `metrics`, `tags` and `progress` of `strongroom`"
)


class _NotAvailableImport(NotAvailable, ImportError):
    """Raised by ``from PACKAGE import NAME``, so that scripts with a fallback reach it."""


_NotAvailableImport.__name__ = "NotAvailable"
_NotAvailableImport.__qualname__ = "NotAvailable"
_NotAvailableImport.__module__ = "strongroom"


def _text(what: str, instead: str) -> str:
    return f"could not use `{what}`: strongroom does not offer it to a component\nhelp: {instead}"


def unavailable(what: str, instead: str = GENERAL_HELP) -> NotAvailable:
    """Returns the error for a part of an SDK that the sandbox cannot offer."""
    return NotAvailable(_text(what, instead))


def unavailable_function(what: str, instead: str = GENERAL_HELP) -> Callable[..., NoReturn]:
    """Returns a function or method that raises :func:`unavailable`."""

    def raise_unavailable(*args: Any, **kwargs: Any) -> NoReturn:
        raise unavailable(what, instead)

    raise_unavailable.__name__ = what.rpartition(".")[2]
    raise_unavailable.__doc__ = f"Not available in a component. Instead: {instead}."
    return raise_unavailable


def unavailable_names(module: str, names: Mapping[str, str]) -> Callable[[str], NoReturn]:
    """Returns a module's ``__getattr__`` that explains each of ``names`` (name to what to do)."""

    def getattribute(name: str) -> NoReturn:
        if name in names:
            raise _NotAvailableImport(_text(f"{module}.{name}", names[name]))
        raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)

    return getattribute


class Reports:
    """What one run has reported through an SDK, for the calls that read it back."""

    def __init__(self) -> None:
        self.points: dict[str, list[Any]] = {}
        self.tags: dict[str, Any] = {}
        self.properties: dict[str, Any] = {}
        self.parameters: dict[str, str] = {}

    def number(self, name: str, value: Any, step: int | None = None) -> None:
        metrics.log(name, value, step)
        self.points.setdefault(name, []).append(value)

    def tag(self, name: str, value: Any) -> None:
        tags.set(name, "" if value is None else value)
        self.tags[name] = value

    def remove_tag(self, name: str) -> None:
        if name in self.tags:
            tags.remove(name)
            del self.tags[name]


def artifact(name: str) -> Path:
    """Returns the path of an artifact in the output folder, and creates its folder.

    An artifact's name is relative and stays inside the folder.
    """
    pure = PurePosixPath(str(name).replace("\\", "/"))
    if not pure.name or pure.is_absolute() or ".." in pure.parts:
        raise Error(
            f"could not store the artifact {str(name)!r}: the name is not a relative path\n"
            "help: use a name such as `plots/loss.png`"
        )
    folder = _host.current().output
    path = folder.joinpath(*pure.parts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Error(
            f"could not store the artifact `{name}`: the output folder `{folder}` cannot be "
            f"written ({error.strerror or error})\nhelp: start the run with `--output DIR`"
        ) from None
    return path


def store_file(name: str, source: str | Path | IO[Any]) -> Path:
    """Copies a file or a stream to an artifact."""
    target = artifact(name)
    if hasattr(source, "read"):
        content = source.read()
        data = content.encode() if isinstance(content, str) else content
        target.write_bytes(data)
    elif not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)
    return target


def store_folder(prefix: str, folder: str | Path) -> list[str]:
    """Copies the files below a folder to artifacts. Returns their names."""
    root = Path(folder)
    if not root.is_dir():
        raise NotADirectoryError(f"could not store the folder `{folder}`: it is not a folder")
    names = []
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name = str(PurePosixPath(prefix or ".") / path.relative_to(root).as_posix())
            store_file(name, path)
            names.append(name)
    return names


def store_figure(name: str, figure: Any, **options: Any) -> Path:
    """Saves a figure that has a ``savefig`` method, such as matplotlib's, as an artifact."""
    if not hasattr(figure, "savefig"):
        raise TypeError(f"a plot must have a `savefig` method; {type(figure).__name__} has none")
    target = artifact(name)
    figure.savefig(target, **options)
    return target


def is_number(value: Any) -> bool:
    """Whether a value can be recorded as a number. NumPy's numbers can."""
    return not isinstance(value, (str, bytes)) and hasattr(value, "__float__")


class OneOf:
    """Accepts one value in a run: a second vault would silently be the first one again."""

    def __init__(self, what: str, instead: str) -> None:
        self._what, self._instead = what, instead
        self._value: str | None = None

    def check(self, value: str) -> None:
        if self._value is None:
            self._value = value
        elif self._value != value:
            raise NotAvailable(
                f"could not use {self._what} `{value}`: this run already uses `{self._value}`, and "
                f"a run has one vault, which the host chooses\nhelp: {self._instead}"
            )


_HINTS = {
    "azureml": "of Azure ML v1, a component has `azureml.core` with `Run`, `Workspace` and "
    "`Keyvault`, and `azureml.exceptions`; read data from the input folder",
    "azure": "of Azure's packages, a component has `azure.identity`, `azure.keyvault.secrets` and "
    "`azure.core.exceptions`; read data from the input folder",
    "mlflow": "of MLflow, a component has the logging functions of `mlflow` itself, such as "
    "`mlflow.log_metric`; save models to the output folder",
}


def import_hint(module: str) -> str | None:
    """Returns what to do about a module that a replaced SDK has and its replacement has not."""
    return _HINTS.get(re.split(r"\.", module, maxsplit=1)[0])
