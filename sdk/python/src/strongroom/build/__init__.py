"""Builds a component from a Python script: ``python -m strongroom.build SCRIPT -o OUT.wasm``.

The environment needs the packages of ``toolchain.txt`` beside this file. The build starts pip and
componentize-py as its children.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

from . import _component, _dependencies, _project
from ._report import BuildError, Report

__all__ = ["TOOLCHAIN", "BuildError", "Report", "build"]

#: The pinned packages that the environment of a build needs.
TOOLCHAIN = Path(__file__).with_name("toolchain.txt")


def build(
    path: Path,
    output: Path | None = None,
    *,
    components: Path | None = None,
    lock: Path | None = None,
    report: Report | None = None,
) -> None:
    """Builds the script or folder ``path`` and writes the component to ``output``.

    ``components`` is a folder that keeps components under the digests of what they were built
    from; a component that is already there is not built again. ``lock`` is the lock file of the
    dependencies: by default ``SCRIPT.lock`` for a script with inline metadata, otherwise
    ``requirements.lock`` beside the script. Raises ``BuildError``.
    """
    report = report or Report()
    with tempfile.TemporaryDirectory(prefix="strongroom-build-") as temporary:
        folder = Path(temporary)
        with report.step("stage", f"collecting the files of {path}"):
            project = _project.find(path)
            for name in project.denied:
                report.warning(f"`{name}` is not packed, because it may hold secrets", file=name)
            for name in project.links:
                report.warning(f"`{name}` is not packed, because it is a link", file=name)
            _warn_shadowed(project, report)
            _component.stage(project, folder)
        script = project.root / project.script
        requirements = _dependencies.read(script)
        if lock is None:
            inline = requirements.source == script.name
            lock = script.with_name(f"{script.name}.lock" if inline else "requirements.lock")
        locked = _dependencies.lock(requirements, lock, report)
        digest = _component.digest(folder, locked.text)
        component = (components or folder) / f"{digest}.wasm"
        if not component.exists():
            _pack(project, locked, folder, component, report)
        if output:
            _component.copy(component, output)
        report.event(
            "done",
            f"wrote {output} ({component.stat().st_size:,} bytes)" if output else "",
            digest=digest,
            bytes=component.stat().st_size,
            files=project.files,
            dependencies=locked.packages,
            inputs=_inputs(project, folder, requirements, locked),
        )


def _pack(
    project: _project.Project,
    locked: _dependencies.Locked,
    folder: Path,
    component: Path,
    report: Report,
) -> None:
    site = folder / "site"
    _dependencies.install(locked, site, report)
    _warn_missing(project, site, report)
    with report.step("pack", "importing the modules and packing the component"):
        failures = _component.pack(folder, component)
    for module, reason in failures.items():
        if module.partition(".")[0] in _top_level(site):
            report.warning(
                f"`{module}` could not be imported during the build: {reason}", module=module
            )


def _inputs(
    project: _project.Project,
    folder: Path,
    requirements: _dependencies.Requirements,
    locked: _dependencies.Locked,
) -> dict[str, Any]:
    """Returns what the build depended on: while all of it is the same, so is the component.

    ``files`` has the SHA-256 of each file that was read, ``absent`` the paths at which nothing was
    found, and ``listed`` the SHA-256 of the sorted names in each folder, one a line.
    """
    root = project.root.absolute()

    def digest(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    # The copies, because the originals may have been changed since.
    copies = {name: (folder / "app/project" / name).read_bytes() for name in project.files}
    files = {str(root / name): digest(data) for name, data in copies.items()}
    absent = {str(root / name) for name in project.absent}
    requirements_file = (root / project.script).with_name("requirements.txt")
    if requirements.data is not None:
        files[str(requirements_file)] = digest(requirements.data)
    elif requirements.source == requirements_file.name:
        absent.add(str(requirements_file))
    if locked.file:
        files[str(locked.file.absolute())] = digest(locked.text.encode())
    listed = {
        str(root / name): digest(b"".join(sorted(os.fsencode(x) + b"\n" for x in names)))
        for name, names in project.listed.items()
    }
    return {"files": files, "absent": sorted(absent), "listed": listed}


def _top_level(site: Path) -> set[str]:
    return {path.stem for path in site.iterdir()}


def _warn_shadowed(project: _project.Project, report: Report) -> None:
    """Names modules of the project that cannot be imported, because Python has the name."""
    for name in project.files:
        top = name.partition("/")[0].removesuffix(".py")
        if top in _project.standard_modules() and name != project.script:
            report.warning(
                f"`{name}` is not used: `{top}` is a module of Python; rename the file", file=name
            )


def _warn_missing(project: _project.Project, site: Path, report: Report) -> None:
    """Names imported modules that the component will not have. They may be optional."""
    known = _project.standard_modules() | _top_level(site)
    known |= {path.stem for path in (Path(__file__).parents[1] / "_shims").iterdir()}
    known |= {"strongroom", "wit_world", "componentize_py_types", "componentize_py_runtime"}
    for module in sorted({name.partition(".")[0] for name in project.imports}):
        if module not in known:
            report.warning(
                f"the script imports `{module}`, which is neither a module of the project nor of "
                "an installed package; add its package to requirements.txt if it is needed",
                module=module,
            )
