"""Packs a staged project as a component with componentize-py."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Container
from pathlib import Path

from ._project import Project
from ._report import BuildError

_HERE = Path(__file__).parent
_PACKAGE = _HERE.parent

#: The size above which the host refuses a component.
COMPONENT_MAX = 64 * 1024 * 1024


def stage(project: Project, folder: Path) -> None:
    """Copies everything that the build may see into ``folder``."""
    app = folder / "app"
    app.mkdir(parents=True)
    (folder / "site").mkdir(exist_ok=True)
    # The interpreter of the build looks here, instead of in the environment of this process.
    (folder / "empty/lib/python3.14/site-packages").mkdir(parents=True)
    for file in (_HERE / "guest").glob("*.py"):
        shutil.copyfile(file, app / file.name)
    for shim in (_PACKAGE / "_shims").iterdir():
        _copy_python(shim, app / shim.name)
    _copy_python(_PACKAGE, app / "strongroom", skip={"build", "_shims", "local.py"})
    for name in project.files:
        target = app / "project" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project.root / name, target, follow_symlinks=False)
    plan = {
        "script": project.script,
        "imports": sorted((module, sorted(names)) for module, names in project.imports.items()),
    }
    (app / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    shutil.copytree(_HERE / "wit", folder / "wit")


def digest(folder: Path, locked: str) -> str:
    """Identifies a staged folder with its dependencies, in hexadecimal.

    Equal digests mean that the same files and the same tools lead to the component.
    """
    total = hashlib.sha256()
    tools = (_HERE / "toolchain.txt").read_bytes()
    for part in (tools, locked.encode()):
        total.update(hashlib.sha256(part).digest())
    for file in sorted(path for top in ("app", "wit") for path in (folder / top).rglob("*")):
        if file.is_file():
            total.update(hashlib.sha256(os.fsencode(file.relative_to(folder))).digest())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _copy_python(source: Path, target: Path, skip: Container[str] = ()) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        if entry.name in skip or entry.name == "__pycache__":
            continue
        if entry.is_dir():
            _copy_python(entry, target / entry.name)
        elif entry.suffix == ".py":
            shutil.copyfile(entry, target / entry.name)


def pack(folder: Path, output: Path) -> dict[str, str]:
    """Makes the component from a staged folder. Returns the imports that failed, with reasons.

    The project's dependencies run during this step, inside componentize-py's sandbox: they see the
    copies in ``folder`` and nothing else of this machine.
    """
    new = folder / "component.wasm"
    command = [
        _tool(), "--wit-path", str(folder / "wit"), "--world", "script", "componentize",
        "strongroom_launcher", "--python-path", str(folder / "app"), "--python-path",
        str(folder / "site"), "--output", str(new),
    ]  # fmt: skip
    # The environment is not passed on. VIRTUAL_ENV keeps componentize-py from adding the packages
    # of this environment.
    environment = {"VIRTUAL_ENV": str(folder / "empty"), "TMPDIR": str(folder)}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        env=environment, cwd=folder, check=False,
    )  # fmt: skip
    if done.returncode != 0 or not new.is_file():
        raise _failure(done.stderr)
    size = new.stat().st_size
    if size > COMPONENT_MAX:
        raise BuildError(
            f"could not use the component: {size:,} bytes are more than the {COMPONENT_MAX:,} "
            "that a host accepts",
            "use fewer or smaller dependencies",
        )
    report = json.loads((folder / "app/report.json").read_text(encoding="utf-8"))
    copy(new, output)
    failures: dict[str, str] = report["failures"]
    return failures


def _tool() -> str:
    found = Path(sys.executable).with_name("componentize-py")
    if not found.is_file():
        raise BuildError(
            "could not pack the component: componentize-py is not installed beside "
            f"`{sys.executable}`",
            "run the build in an environment with the packages of toolchain.txt",
        )
    return str(found)


def copy(new: Path, output: Path) -> None:
    """Copies a component to its place as a whole: nobody sees a part of it."""
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        shutil.copyfile(new, beside)
        beside.replace(output)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BuildError(
            f"could not write the component `{output}`: {error.strerror}", "check the path"
        ) from None


def _failure(output: str) -> BuildError:
    """Returns the error with the traceback of the code that failed, and not the tool's own."""
    inner = re.search(
        r"Traceback \(most recent call last\):\n  File \"/0/.*?(?=\n\n|\Z)", output, re.DOTALL
    )
    if inner:
        text = inner[0].replace('"/0/project/', '"').replace('"/1/', '"')
        error = text.strip().splitlines()[-1]
        syntax = re.match(r"(SyntaxError|IndentationError|TabError): ", error)
        if syntax:
            return BuildError(
                f"could not compile the script:\n{text}", "correct the line", traceback=text
            )
        return BuildError(
            f"could not import the script's modules:\n{text}",
            "see the last line of the traceback",
            traceback=text,
        )
    return BuildError(
        f"could not pack the component:\n{output.strip()[-2000:] or 'componentize-py failed'}",
        "if it was stopped, allow the build more memory or time",
    )
