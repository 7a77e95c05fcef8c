"""Runs a script outside strongroom, to try it out: ``python -m strongroom.local``.

Nothing is sandboxed: the script has your files, your network and your environment, and no policy is
applied. Secrets come from a vault in memory, which is empty or filled from a ``.env`` file that you
name. In tests, use :func:`enabled`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import re
import runpy
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from . import _host, errors
from ._host import Description

__all__ = ["LocalHost", "enabled", "main", "read_env_file"]

SHIMS = Path(__file__).with_name("_shims")

_NAME = re.compile(r"[0-9A-Za-z-]{1,127}")
_VALUE_MAX = 25_600
_BATCH_MAX = 256
_TEXT_MAX = 8_192


class LocalHost:
    """A host in this process, with a vault in memory. It grants every request.

    Tests read what the code under test did from ``secrets``, ``metrics``, ``text_metrics``,
    ``logged_parameters``, ``tags`` and ``progress``.
    """

    def __init__(
        self,
        secrets: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        input: str | Path = "input",
        output: str | Path = "output",
    ) -> None:
        #: The vault: values by name in lower case.
        self.secrets: dict[str, str] = {}
        #: The points of each metric, as pairs of step and value.
        self.metrics: dict[str, list[tuple[int | None, float]]] = {}
        #: The values of each text metric, as pairs of step and value.
        self.text_metrics: dict[str, list[tuple[int | None, str]]] = {}
        #: The parameters that the code logged.
        self.logged_parameters: dict[str, str] = {}
        #: The tags that the code set.
        self.tags: dict[str, str] = {}
        #: The reports of progress: done, total and message.
        self.progress: list[tuple[int, int, str]] = []
        self.input = Path(input)
        self.output = Path(output)
        self._parameters = dict(sorted((parameters or {}).items()))
        self._id = uuid.uuid4().hex[:26]
        self._updated: dict[str, int] = {}
        self._versions: dict[str, str] = {}
        self._write(dict(secrets or {}))

    def get_secret(self, name: str) -> str:
        key = self._known("get", name)
        return self.secrets[key]

    def get_secrets(self, names: Sequence[str]) -> dict[str, str | None]:
        keys = self._batch("get", names)
        return {name: self.secrets.get(key) for name, key in zip(names, keys, strict=True)}

    def set_secret(self, name: str, value: str) -> None:
        self._write({name: value})

    def set_secrets(self, new: Mapping[str, str]) -> None:
        self._batch("set", list(new))
        self._write(new)

    def list_secrets(self) -> list[str]:
        return sorted(self.secrets)

    def describe_secret(self, name: str) -> Description:
        key = self._known("describe", name)
        return Description(self._versions[key], None, self._updated[key], None)

    def delete_secret(self, name: str) -> None:
        del self.secrets[self._known("delete", name)]

    def delete_secrets(self, names: Sequence[str]) -> None:
        keys = [self._known("delete", name) for name in names]
        self._batch("delete", names)
        for key in keys:
            del self.secrets[key]

    def run_id(self) -> str:
        return self._id

    def parameters(self) -> dict[str, str]:
        return self._parameters

    def log_metric(self, name: str, value: float, step: int | None) -> None:
        _check_report("metric", name)
        self.metrics.setdefault(name, []).append((step, value))
        print(f"metric {name} = {value:g}" + ("" if step is None else f" (step {step})"))

    def log_text(self, name: str, value: str, step: int | None) -> None:
        _check_report("text metric", name, value)
        self.text_metrics.setdefault(name, []).append((step, value))
        print(f"text metric {name} = {value}" + ("" if step is None else f" (step {step})"))

    def log_parameter(self, name: str, value: str) -> None:
        _check_report("parameter", name, value)
        self.logged_parameters[name] = value
        print(f"parameter {name} = {value}")

    def set_tag(self, name: str, value: str) -> None:
        _check_report("tag", name, value)
        self.tags[name] = value
        print(f"tag {name} = {value}")

    def remove_tag(self, name: str) -> None:
        _check_report("tag", name)
        self.tags.pop(name, None)

    def remaining_time(self) -> float | None:
        return None

    def report_progress(self, done: int, total: int, message: str) -> None:
        if len(message.encode()) > 1024:
            raise errors.InvalidReport(
                "could not record the progress: the message is longer than 1,024 bytes"
            )
        self.progress.append((done, total, message))

    def _key(self, operation: str, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise errors.secret_error("invalid-name", name, operation, [name])
        return name.lower()

    def _known(self, operation: str, name: str) -> str:
        key = self._key(operation, name)
        if key not in self.secrets:
            raise errors.secret_error("not-found", key, operation, [name])
        return key

    def _batch(self, operation: str, names: Sequence[str]) -> list[str]:
        keys = [self._key(operation, name) for name in names]
        if len(keys) > _BATCH_MAX:
            detail = f"at most {_BATCH_MAX} names in a batch"
            raise errors.secret_error("invalid-batch", detail, operation, names)
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise errors.secret_error("invalid-batch", f"{twice} twice", operation, names)
        return keys

    def _write(self, new: Mapping[str, str]) -> None:
        checked = {}
        for name, value in new.items():
            key = self._key("set", name)
            if len(value.encode()) > _VALUE_MAX:
                raise errors.secret_error("invalid-value", key, "set", [name])
            checked[key] = value
        for key, value in checked.items():
            self.secrets[key] = value
            self._versions[key] = uuid.uuid4().hex
            self._updated[key] = math.floor(time.time())


def _check_report(kind: str, name: str, value: str = "") -> None:
    if not 1 <= len(name.encode()) <= 128 or any(not c.isprintable() for c in name):
        raise errors.InvalidReport(
            f"could not record the {kind} {name!r}: a name has 1 to 128 bytes and no control "
            "characters"
        )
    if len(value.encode()) > _TEXT_MAX:
        raise errors.InvalidReport(
            f"could not record the {kind} {name!r}: the value is longer than {_TEXT_MAX:,} bytes"
        )


def read_env_file(path: str | Path) -> dict[str, str]:
    """Reads secrets from a ``.env`` file: a line ``NAME=value`` for each.

    Quotes around a value are removed, comments and ``export`` are ignored, and nothing is expanded.
    Secret names have no ``_``: ``DB_PASSWORD`` becomes ``db-password``. Errors show no value.
    """
    found = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        name, equals, value = line.removeprefix("export ").partition("=")
        name = name.strip().replace("_", "-").lower()
        if not equals or not _NAME.fullmatch(name):
            raise errors.Error(f"{path}:{number}: expected `NAME=value`")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        else:
            value = value.split(" #", 1)[0].rstrip()
        found[name] = value
    return found


@contextlib.contextmanager
def enabled(
    secrets: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
    *,
    input: str | Path = "input",
    output: str | Path = "output",
) -> Iterator[LocalHost]:
    """Lets code in this process use ``strongroom`` and the replacements of the SDKs.

    >>> with enabled(secrets={"mysecret": "value"}) as host:
    ...     from azureml.core import Run
    ...     Run.get_context().log("loss", 0.5)
    ...     host.metrics["loss"]
    metric loss = 0.5
    [(None, 0.5)]

    Real packages of the same names are hidden meanwhile and come back at the end.
    """
    host = LocalHost(secrets, parameters, input, output)
    hidden = _take_sdk_modules()
    before = _host.use(host)
    sys.path.insert(0, str(SHIMS))
    importlib.invalidate_caches()
    try:
        yield host
    finally:
        _host.use(before)
        sys.path.remove(str(SHIMS))
        _take_sdk_modules()
        sys.modules.update(hidden)
        importlib.invalidate_caches()


def _take_sdk_modules() -> dict[str, ModuleType]:
    """Removes the modules of the SDKs that the shims replace, and returns them."""
    replaced = tuple(path.stem for path in SHIMS.iterdir())
    names = [name for name in sys.modules if name.partition(".")[0] in replaced]
    return {name: sys.modules.pop(name) for name in names}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError("expected NAME=VALUE")
    return name, value


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line of ``python -m strongroom.local``."""
    parser = argparse.ArgumentParser(
        prog="python -m strongroom.local",
        description="Run a script without a sandbox and without a policy, to try it out.",
    )
    parser.add_argument(
        "--vault",
        required=True,
        metavar="memory|FILE",
        help="an empty vault in memory, or a vault in memory filled from a .env FILE; "
        "the file is never changed",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=VALUE",
        help="a parameter of the run",
    )
    parser.add_argument("--input", default="input", help="the input folder (default: ./input)")
    parser.add_argument("--output", default="output", help="the output folder (default: ./output)")
    parser.add_argument(
        "-m", dest="module", action="store_true", help="SCRIPT is a module, such as pytest"
    )
    parser.add_argument("script", metavar="SCRIPT")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    options = parser.parse_args(arguments)

    try:
        secrets = {} if options.vault == "memory" else read_env_file(options.vault)
    except OSError as error:
        parser.error(f"could not read the vault `{options.vault}`: {error.strerror}")
    except errors.Error as error:
        parser.error(str(error))
    print(
        f"warning: `{options.script}` runs without a sandbox and without a policy: it has your "
        "files, network and environment, and output is not redacted",
        file=sys.stderr,
        flush=True,
    )
    with enabled(secrets, dict(options.param), input=options.input, output=options.output):
        sys.argv = [options.script, *options.arguments]
        if options.module:
            sys.path.insert(0, "")
            runpy.run_module(options.script, run_name="__main__", alter_sys=True)
        else:
            sys.path.insert(0, str(Path(options.script).resolve().parent))
            runpy.run_path(options.script, run_name="__main__")


if __name__ == "__main__":
    # This file is `__main__` now: use the module that other imports find, so that there is one.
    importlib.import_module("strongroom.local").main()
