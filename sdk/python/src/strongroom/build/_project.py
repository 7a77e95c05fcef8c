"""Finds the files that a script and its project need."""

from __future__ import annotations

import ast
import fnmatch
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ._report import BuildError

#: Never staged, and named in a message: files that hold secrets or a history with secrets.
DENIED = (
    ".env", ".env.*", "*.env", ".git", ".hg", ".svn", ".ssh", ".aws", ".azure", ".gnupg", ".kube",
    ".docker", ".netrc", ".pypirc", ".npmrc", ".pgpass", "id_rsa*", "id_dsa*", "id_ecdsa*",
    "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.age",
    "*.gpg", "*.asc", "credentials", "credentials.*", "service-account*.json", "vault.key",
)  # fmt: skip

#: Left out without a message: what tools generate. Virtual environments are recognized by a file.
_IGNORED = ("__pycache__", "node_modules", "*.egg-info", "*.pyc", "*.pyo", ".*")

_ENTRY_FILES = ("__main__.py", "main.py", "train.py")

#: The names under which a module's imports are looked for in files that this Python cannot parse,
#: because they are written for a newer one.
_IMPORT_LINE = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<module>\.*[\w.]*)[ \t]+import[ \t]+\(?(?P<names>[^#\n)]*)"
    r"|import[ \t]+(?P<modules>[^#\n]+))",
    re.MULTILINE,
)

FILES_MAX = 2_000
BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True)
class Import:
    """``import MODULE`` or ``from MODULE import NAMES``; ``level`` counts the leading dots."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


@dataclass
class Project:
    """The files to stage and the modules to import."""

    #: The folder that the files are relative to.
    root: Path
    #: The script, relative to the root.
    script: str
    #: The files to stage, relative to the root.
    files: list[str] = field(default_factory=list)
    #: Files that match `DENIED`.
    denied: list[str] = field(default_factory=list)
    #: Symbolic links, which are not followed.
    links: list[str] = field(default_factory=list)
    #: What the files import from elsewhere: names of attributes or submodules by module.
    imports: dict[str, set[str]] = field(default_factory=dict)
    #: The paths, relative to the root, at which a module was looked for and not found.
    absent: set[str] = field(default_factory=set)
    #: The names in the folders, relative to the root, whose entries decided about the files.
    listed: dict[str, list[str]] = field(default_factory=dict)

    def has_file(self, path: PurePosixPath) -> bool:
        """Whether there is a file, and notes it if there is none."""
        return self._noted(path, (self.root / path).is_file())

    def has_folder(self, path: PurePosixPath) -> bool:
        """Whether there is a folder, and notes it if there is none."""
        return self._noted(path, (self.root / path).is_dir())

    def _noted(self, path: PurePosixPath, found: bool) -> bool:
        if not found:
            self.absent.add(str(path))
        return found

    def entries(self, path: PurePosixPath) -> list[str]:
        """Returns the sorted names in a folder, and notes that they were read."""
        names = sorted(os.listdir(self.root / path))
        self.listed[str(path)] = names
        return names


def find(path: Path) -> Project:
    """Finds what a script or a folder needs.

    For a script: itself, and the modules and packages beside it that it imports, directly or
    through others. For a folder: all Python files and the other files of its packages; its entry is
    ``__main__.py``, ``main.py`` or ``train.py``.
    """
    if path.is_dir():
        entry = entry_file(path)
        if entry is None:
            raise BuildError(
                f"could not build the folder `{path}`: it has no entry file",
                f"name the entry file one of {', '.join(_ENTRY_FILES)}, or build the script itself",
            )
        project = Project(path, entry)
        _add_folder(project, PurePosixPath("."), everything=False)
    elif path.is_file():
        project = Project(path.parent, path.name)
        _scan_denied(project)
        _add_file(project, PurePosixPath(path.name))
    else:
        raise BuildError(f"could not build `{path}`: no such file or folder", "check the path")
    if project.script not in project.files:
        raise BuildError(
            f"could not build `{path}`: the script is a link or in the list of files that are "
            "never packed",
            "name a regular file",
        )
    _follow(project)
    _check_size(project)
    project.files.sort()
    return project


def entry_file(folder: Path) -> str | None:
    """Returns the name of the file that a folder starts with."""
    return next((name for name in _ENTRY_FILES if (folder / name).is_file()), None)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


def _accepts(project: Project, path: PurePosixPath) -> bool:
    """Whether a file or folder may be staged. Notes what a message has to name."""
    real = project.root / path
    if _matches(path.name, DENIED):
        if str(path) not in project.denied:
            project.denied.append(str(path))
        return False
    if real.is_symlink():
        if str(path) not in project.links:
            project.links.append(str(path))
        return False
    return not _matches(path.name, _IGNORED)


def _scan_denied(project: Project) -> None:
    """Notes the denied files beside a script, which a user may expect to be there."""
    for entry in sorted(os.listdir(project.root)):
        if _matches(entry, DENIED):
            project.denied.append(entry)


def _add_file(project: Project, path: PurePosixPath) -> bool:
    if str(path) in project.files:
        return False
    # Each folder on the way counts, too.
    for parent in [*reversed(path.parents), path]:
        if parent != PurePosixPath(".") and not _accepts(project, parent):
            return False
    project.files.append(str(path))
    return True


def _add_folder(project: Project, folder: PurePosixPath, *, everything: bool) -> None:
    """Adds a folder: all its files if it is a package, otherwise the Python files."""
    real = project.root / folder
    everything = everything or (real / "__init__.py").is_file()
    for entry in project.entries(folder):
        path = folder / entry
        if not _accepts(project, path):
            continue
        if (project.root / path).is_dir():
            if not (project.root / path / "pyvenv.cfg").exists():
                _add_folder(project, path, everything=everything)
        elif (project.root / path).is_file() and (everything or entry.endswith(".py")):
            if str(path) not in project.files:
                project.files.append(str(path))


def _follow(project: Project) -> None:
    """Reads the imports of the files, and adds the project's modules that they name."""
    done: set[str] = set()
    while pending := [name for name in project.files if name not in done]:
        for name in pending:
            done.add(name)
            if name.endswith(".py"):
                for found in imports_of(project.root / name):
                    _resolve(project, PurePosixPath(name), found)


def _resolve(project: Project, importer: PurePosixPath, found: Import) -> None:
    if found.level:
        parents = list(importer.parents)
        if found.level > len(parents):
            return
        base = parents[found.level - 1]
        _add_module(project, base, found.module.split(".") if found.module else [], found.names)
        return
    parts = found.module.split(".")
    if _add_module(project, PurePosixPath("."), parts, found.names):
        return
    project.imports.setdefault(found.module, set()).update(found.names)


def _add_module(
    project: Project, base: PurePosixPath, parts: list[str], names: tuple[str, ...]
) -> bool:
    """Adds the module ``parts`` below ``base``. Returns whether the project has it."""
    path = base
    for part in parts:
        path = path / part
        if project.has_file(path / "__init__.py"):
            _add_package(project, path)
        elif project.has_file(file := path.with_name(part + ".py")):
            _add_file(project, file)
            return True
        elif not project.has_folder(path) or not _is_namespace(project, path):
            return path.parent != base
    for name in names:
        file = path / f"{name}.py"
        if project.has_file(file):
            _add_file(project, file)
        elif project.has_file(path / name / "__init__.py"):
            _add_package(project, path / name)
    return bool(parts) or base != PurePosixPath(".")


def _is_namespace(project: Project, folder: PurePosixPath) -> bool:
    names = project.entries(folder)
    return any(name.endswith(".py") or (project.root / folder / name).is_dir() for name in names)


def _add_package(project: Project, folder: PurePosixPath) -> None:
    if _add_file(project, folder / "__init__.py"):
        _add_folder(project, folder, everything=True)


def _check_size(project: Project) -> None:
    size = sum((project.root / name).stat().st_size for name in project.files)
    if len(project.files) > FILES_MAX or size > BYTES_MAX:
        raise BuildError(
            f"could not pack the project: {len(project.files)} files with {size:,} bytes are more "
            f"than {FILES_MAX:,} files or {BYTES_MAX:,} bytes",
            "keep data outside the packages, and give it to the run with `--input DIR`",
        )


def imports_of(file: Path) -> list[Import]:
    """Returns the imports anywhere in a Python file."""
    source = file.read_bytes()
    try:
        tree = ast.parse(source, str(file))
    except (SyntaxError, ValueError):
        return _imports_by_line(source.decode("utf-8", "replace"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names if alias.name != "*")
            found.append(Import(node.module or "", names, node.level))
    return found


def _imports_by_line(source: str) -> list[Import]:
    found = []
    for match in _IMPORT_LINE.finditer(source):
        if match["modules"]:
            names = [part.split(" as ")[0].strip() for part in match["modules"].split(",")]
            found += [Import(name) for name in names if re.fullmatch(r"[\w.]+", name)]
        elif match["module"]:
            module = match["module"].lstrip(".")
            listed = [part.split(" as ")[0].strip() for part in match["names"].split(",")]
            names = [name for name in listed if name.isidentifier()]
            found.append(Import(module, tuple(names), len(match["module"]) - len(module)))
    return found


def standard_modules() -> frozenset[str]:
    """Returns the top-level modules of the standard library."""
    return frozenset(sys.stdlib_module_names)
