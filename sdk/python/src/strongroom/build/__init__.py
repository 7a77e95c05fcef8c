"""Builds a component from a Python script: ``python -m strongroom.build SCRIPT -o OUT.wasm``.

The environment needs the packages of ``toolchain.txt`` beside this file. The caller bounds time and
memory: the build starts pip and componentize-py as its children and sets no limits of its own.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from . import _component, _dependencies, _project
from ._report import BuildError, Report

__all__ = ["TOOLCHAIN", "BuildError", "Report", "build"]

#: The pinned packages that the environment of a build needs.
TOOLCHAIN = Path(__file__).with_name("toolchain.txt")


def build(
    path: Path, output: Path, *, lock: Path | None = None, report: Report | None = None
) -> None:
    """Builds the script or folder ``path`` and writes the component to ``output``.

    ``lock`` is the lock file of the dependencies: by default ``SCRIPT.lock`` for a script with
    inline metadata, otherwise ``requirements.lock`` beside the script. Raises ``BuildError``.
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
        installed = _dependencies.install(requirements, lock, folder / "site", report)
        _warn_missing(project, folder / "site", report)
        with report.step("pack", "importing the modules and packing the component"):
            failures = _component.pack(folder, output)
        for module, reason in failures.items():
            if module.partition(".")[0] in _top_level(folder / "site"):
                report.warning(
                    f"`{module}` could not be imported during the build: {reason}", module=module
                )
    report.event(
        "done",
        f"wrote {output} ({output.stat().st_size:,} bytes)",
        output=str(output),
        bytes=output.stat().st_size,
        files=project.files,
        dependencies=installed,
    )


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
