"""Resolves the dependencies of a script into a lock file, and installs them as wheels."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ._report import BuildError, Report

#: The packages that `strongroom/_shims` replaces, and what a component has instead of them.
PROVIDED = {
    "azure-core": "azure.core.exceptions",
    "azure-identity": "azure.identity",
    "azure-keyvault-secrets": "azure.keyvault.secrets",
    "azureml-core": "azureml.core",
    "azureml-mlflow": "mlflow",
    "azureml-sdk": "azureml.core",
    "mlflow": "mlflow",
    "mlflow-skinny": "mlflow",
    "strongroom": "strongroom",
}

#: What to use instead of packages with native code.
ALTERNATIVES = {
    "aiohttp": "`requests` or `urllib.request`",
    "asyncpg": "`pg8000`",
    "cffi": "a package in plain Python",
    "confluent-kafka": "reading the data from the input folder",
    "cryptography": "`hashlib`, `hmac` and `secrets` of the standard library",
    "duckdb": "`sqlite3` of the standard library",
    "grpcio": "plain HTTP with `requests`",
    "lxml": "`xml.etree.ElementTree` of the standard library",
    "matplotlib": "writing the figures as CSV to the output folder and plotting them after the run",
    "msgpack": "`json` or `pickle` of the standard library",
    "mysqlclient": "`PyMySQL`",
    "numpy": "`math`, `statistics` and `array` of the standard library",
    "orjson": "`json` of the standard library",
    "pandas": "`csv` and `sqlite3` of the standard library",
    "psycopg-binary": "`pg8000`",
    "psycopg-c": "`pg8000`",
    "psycopg2": "`pg8000`",
    "psycopg2-binary": "`pg8000`",
    "pyarrow": "CSV or JSON files in the input folder",
    "pydantic": "`dataclasses` of the standard library",
    "pydantic-core": "`dataclasses` of the standard library",
    "pynacl": "`hashlib` and `hmac` of the standard library",
    "pyodbc": "`pg8000` or `PyMySQL`",
    "pyyaml": "`json` or `tomllib` of the standard library, or `ruamel.yaml`",
    "regex": "`re` of the standard library",
    "ujson": "`json` of the standard library",
}

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_METADATA = re.compile(r"(?m)^# /// script\s*$\n(?P<content>(?:^#(?: .*)?$\n?)+?)^# ///\s*$")
_FORMAT = "# strongroom lock 1"

_TARGET = ["--only-binary", ":all:", "--python-version", "3.14"]
#: Wheels in plain Python.
_PURE = ["--implementation", "py", "--abi", "none", "--platform", "any"]
#: And those for the most common platform, to find out which packages have native code.
_NATIVE = [
    "--implementation", "cp", "--abi", "cp314", "--abi", "abi3", "--abi", "none",
    "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_17_x86_64",
    "--platform", "manylinux2014_x86_64", "--platform", "any",
]  # fmt: skip


@dataclass(frozen=True)
class Requirements:
    """The dependencies that a project states, one requirement a line, and where."""

    source: str
    lines: tuple[str, ...]
    #: The contents of requirements.txt, if the requirements are from there.
    data: bytes | None = None

    def digest(self) -> str:
        """Identifies the requirements, so that a change of them leads to a new lock."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


def normalized(name: str) -> str:
    """Returns a package's name in the form in which names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read(script: Path) -> Requirements:
    """Returns the dependencies in a script's inline metadata, or in requirements.txt beside it."""
    match = _METADATA.search(script.read_text(encoding="utf-8", errors="replace"))
    if match:
        text = "".join(
            line.removeprefix("#").removeprefix(" ") for line in match["content"].splitlines(True)
        )
        try:
            listed = tomllib.loads(text).get("dependencies", [])
        except tomllib.TOMLDecodeError as error:
            raise BuildError(
                f"could not read the metadata of `{script.name}`: {error}",
                'write it as `# dependencies = ["NAME"]` between `# /// script` and `# ///`',
            ) from None
        if not isinstance(listed, list) or not all(isinstance(line, str) for line in listed):
            raise BuildError(
                f"could not read the metadata of `{script.name}`: `dependencies` is not a list of "
                "strings",
                'write it as `# dependencies = ["NAME"]`',
            )
        return _checked(script.name, list(enumerate(listed, start=1)))
    file = script.with_name("requirements.txt")
    if not file.is_file():
        return Requirements(file.name, ())
    data = file.read_bytes()
    lines = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        if line:
            lines.append((number, line))
    return _checked(file.name, lines, data)


def _checked(source: str, lines: list[tuple[int, str]], data: bytes | None = None) -> Requirements:
    for number, line in lines:
        name = _NAME.match(line)
        if line.startswith("-") or line.endswith("\\"):
            raise BuildError(
                f"could not use {source}:{number}: `{line.split()[0]}` is not a requirement",
                "name packages only, one a line; options for pip belong in pip's configuration",
            )
        if not name or "@" in line or "://" in line or line.startswith((".", "/")):
            raise BuildError(
                f"could not use {source}:{number}: the requirement is not the name of a package",
                "name a package of the package index, with versions if needed: `NAME>=1.0`",
            )
    return Requirements(source, tuple(line for _, line in lines), data)


@dataclass(frozen=True)
class Locked:
    """The dependencies with versions and hashes."""

    #: The lock file, or ``None`` if there are no dependencies.
    file: Path | None
    #: The lines of the lock file.
    text: str
    #: The dependencies as ``NAME==VERSION``.
    packages: list[str]


def lock(requirements: Requirements, file: Path, report: Report) -> Locked:
    """Returns the locked dependencies.

    Uses the lock file if it was made for the same requirements, and writes it otherwise.
    """
    wanted = []
    for line in requirements.lines:
        match = _NAME.match(line)
        name = normalized(match[0] if match else line)
        if name in PROVIDED:
            report.event(
                "note",
                f"`{name}` is not installed: a component has `{PROVIDED[name]}` of "
                "strongroom instead",
                package=name,
            )
        else:
            wanted.append(line)
    if not wanted:
        return Locked(None, "", [])
    header = f"{_FORMAT}; requirements sha256:{requirements.digest()}\n"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if not text.startswith(header):
        with report.step("resolve", "resolving the dependencies"):
            text = header + _resolve(wanted, requirements.source)
        _write(file, text)
        report.event("note", f"wrote the versions and hashes to `{file}`", lock=str(file))
    return Locked(file, text, _packages(text, file))


def install(locked: Locked, target: Path, report: Report) -> None:
    """Installs the dependencies into ``target``, from wheels in plain Python with these hashes."""
    if locked.file is None:
        return
    with report.step("install", f"installing {len(locked.packages)} packages"):
        # What pip reads is what was checked, whatever happens to the lock file meanwhile.
        checked = target.with_name("requirements.lock")
        checked.write_text(locked.text, encoding="utf-8")
        run_pip(
            [
                "install",
                "--no-deps",
                "--no-compile",
                "--require-hashes",
                "--target",
                str(target),
                *_TARGET,
                *_PURE,
                "-r",
                str(checked),
            ],
            "could not install the dependencies",
            "if the index does not offer these versions any more, remove the lock file "
            f"`{locked.file}`",
        )
        _refuse_native_files(target)


def _resolve(wanted: list[str], source: str) -> str:
    try:
        found = _resolution(wanted, _PURE)
    except _PipFailed as failure:
        raise _explained(wanted, source, failure) from None
    lines = []
    for item in sorted(found, key=lambda item: normalized(item["metadata"]["name"])):
        name, version = normalized(item["metadata"]["name"]), item["metadata"]["version"]
        digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
        if name in PROVIDED:
            continue
        if not digest:
            raise BuildError(
                f"could not lock `{name}`: the package index states no SHA-256 of its wheel",
                "use a package index that states hashes",
            )
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    return "".join(lines)


class _PipFailed(Exception):
    pass


def _resolution(wanted: list[str], tags: list[str]) -> list[dict[str, Any]]:
    """Asks pip which wheels it would install."""
    arguments = [
        "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-",
        "--target", os.devnull + "-unused", *_TARGET, *tags, "--", *wanted,
    ]  # fmt: skip
    done = _pip(arguments)
    if done.returncode != 0:
        raise _PipFailed(done.stderr)
    found: list[dict[str, Any]] = json.loads(done.stdout)["install"]
    return found


def _explained(wanted: list[str], source: str, failure: _PipFailed) -> BuildError:
    """Finds out which package has no wheel in plain Python, and says what to do instead."""
    try:
        found = _resolution(wanted, _NATIVE)
    except _PipFailed:
        return _unresolved(source, str(failure))
    native = {}
    for item in found:
        name = normalized(item["metadata"]["name"])
        if not item["download_info"]["url"].endswith("-none-any.whl"):
            native[name] = item
    if not native:
        return _unresolved(source, str(failure))
    name = next((name for name in native if native[name].get("requested")), min(native))
    needed_by = [
        normalized(item["metadata"]["name"])
        for item in found
        if any(
            normalized(_NAME.match(line)[0]) == name  # type: ignore[index]
            for line in item["metadata"].get("requires_dist", [])
            if "extra ==" not in line
        )
    ]
    because = (
        "" if native[name].get("requested") or not needed_by else f", which `{needed_by[0]}` needs,"
    )
    return native_error(name, because)


def native_error(name: str, because: str = "") -> BuildError:
    """Returns the error for a package with native code."""
    instead = ALTERNATIVES.get(name)
    return BuildError(
        f"could not use the package `{name}`{because or ''}: it has native code, and a component "
        "can run packages in plain Python only",
        f"use {instead}"
        if instead
        else "use a package in plain Python, or do this step before "
        "the run and give its result to the run with `--input DIR`",
        package=name,
    )


def _unresolved(source: str, output: str) -> BuildError:
    missing = re.search(r"No matching distribution found for (\S+)", output)
    if missing:
        match = _NAME.match(missing[1])
        name = normalized(match[0] if match else missing[1])
        if name in ALTERNATIVES:
            return native_error(name)
        return BuildError(
            f"could not resolve {source}: no wheel in plain Python fits `{missing[1]}`",
            "check name and version; packages that exist only as source distributions are not "
            "used, because building one runs its code on this machine",
            package=name,
        )
    return BuildError(f"could not resolve {source}: {_last_error(output)}", _NETWORK_HELP)


_NETWORK_HELP = (
    "check the network; pip's own settings apply, such as PIP_INDEX_URL, PIP_PROXY and "
    "PIP_FIND_LINKS with PIP_NO_INDEX for offline use"
)


def _last_error(output: str) -> str:
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    return (errors[-1].removeprefix("ERROR:") if errors else output[-500:]).strip() or "pip failed"


def _pip(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(Path(__file__).with_name("_pip.py")), *arguments]
    options = ["--no-input", "--disable-pip-version-check", "--no-color"]
    return subprocess.run(
        [*command[:3], arguments[0], *options, *arguments[1:]],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def run_pip(arguments: list[str], failed: str, help: str) -> None:
    """Runs pip, and turns a failure into an error."""
    done = _pip(arguments)
    if done.returncode != 0:
        raise BuildError(f"{failed}: {_last_error(done.stderr)}", help)


def _packages(text: str, lock: Path) -> list[str]:
    locked = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([a-z0-9][a-z0-9._-]*==[^\s;@/]+) --hash=sha256:[0-9a-f]{64}", line)
        if not match:
            raise BuildError(
                f"could not use the lock file {lock}:{number}: the line is not "
                "`NAME==VERSION --hash=sha256:DIGEST`",
                "remove the file, so that the dependencies are resolved again",
            )
        locked.append(match[1])
    return locked


def _refuse_native_files(target: Path) -> None:
    """A wheel may say that it is plain Python and contain machine code all the same."""
    for path in sorted(target.rglob("*")):
        if re.search(r"\.(so|pyd|dylib|dll)(\.[0-9.]+)?$", path.name):
            top = path.relative_to(target).parts[0]
            raise native_error(normalized(top.removesuffix(".libs")))


def _write(file: Path, text: str) -> None:
    """Writes a file as a whole, so that an interrupted build leaves the old one or none."""
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        new.write_text(text, encoding="utf-8")
        new.replace(file)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise BuildError(
            f"could not write the lock file `{file}`: {error.strerror}",
            "choose another place with `--lock FILE`",
        ) from None
