"""Modules in memory: collected while a component is built, imported while it runs.

A component has no files at run time besides its input and output. This module embeds the standard
library, the dependencies and the project's own modules, compressed, and imports them on demand.
"""

import importlib.abc
import importlib.machinery
import importlib.resources.abc
import importlib.util
import io
import marshal
import os
import posixpath
import sys
import zlib

# Of the standard library: what needs a terminal, a display or native code, and tests.
_SKIPPED = {
    "__pycache__",
    "_pyrepl",
    "ctypes",
    "curses",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
    "venv",
}


class _Module:
    def __init__(self, file, package, code, source):
        self.file, self.package, self.code, self.source = file, package, code, source


class Store(importlib.abc.MetaPathFinder):
    """A finder for the modules that were added."""

    def __init__(self):
        self._modules = {}
        self._data = {}

    def names(self):
        return self._modules.keys()

    def add_folder(self, folder, shown, *, skip=_SKIPPED, data=False, source, compiled):
        """Adds the modules below a folder. ``shown`` replaces the folder in file names.

        ``data`` adds other files too. ``source`` keeps the lines for tracebacks. ``compiled``
        stores code and not only source, so that an import compiles nothing.
        """
        for parent, folders, files in os.walk(folder):
            skipped = skip if parent == folder else {"__pycache__"}
            folders[:] = sorted(name for name in folders if name not in skipped)
            for file in sorted(files):
                path = posixpath.join(parent, file)
                below = posixpath.relpath(path, folder)
                name = posixpath.join(shown, below) if shown else below
                with open(path, "rb") as opened:
                    content = opened.read()
                if file.endswith(".py"):
                    self._add_module(below, name, content, source, compiled)
                elif data and not file.endswith((".so", ".pyc", ".pyi")):
                    self._data[name] = zlib.compress(content)

    def _add_module(self, below, file, content, keep_source, compiled):
        parts = below.removesuffix(".py").split("/")
        package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if package else parts)
        if not name or name in self._modules:
            return
        code = None
        if compiled:
            try:
                code = compile(content, file, "exec", dont_inherit=True)
            except (SyntaxError, ValueError):
                return
            code = zlib.compress(marshal.dumps(code))
        source = zlib.compress(content) if keep_source or not compiled else None
        self._modules[name] = _Module(file, package, code, source)

    def forget_imported(self):
        """Drops the modules that are imported already, unless their source is kept."""
        for name in list(self._modules):
            if name in sys.modules and self._modules[name].source is None:
                del self._modules[name]

    def find_spec(self, name, path=None, target=None):
        module = self._modules.get(name)
        if module is None:
            return self._namespace(name)
        spec = importlib.machinery.ModuleSpec(
            name, Loader(self, module), origin=module.file, is_package=module.package
        )
        spec.has_location = True
        if module.package:
            spec.submodule_search_locations = [posixpath.dirname(module.file)]
        return spec

    def _namespace(self, name):
        if not any(other.startswith(name + ".") for other in self._modules):
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [name.replace(".", "/")]
        return spec

    def data(self, path):
        """Returns the content of an embedded file. Raises ``FileNotFoundError``."""
        if path not in self._data:
            raise FileNotFoundError(2, "No such embedded file", path)
        return zlib.decompress(self._data[path])

    def children(self, path):
        """Returns the names directly below an embedded folder, and whether each is a folder."""
        start = path + "/" if path else ""
        found = {}
        for file in [*self._data, *(module.file for module in self._modules.values())]:
            if file.startswith(start):
                name, slash, _ = file[len(start) :].partition("/")
                found[name] = found.get(name, False) or bool(slash)
        return found


class Loader(importlib.abc.InspectLoader):
    """Loads one module of a store."""

    def __init__(self, store, module):
        self._store, self._module = store, module

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(self.get_code(module.__name__), module.__dict__)

    def is_package(self, fullname):
        return self._module.package

    def get_code(self, fullname):
        if self._module.code is not None:
            return marshal.loads(zlib.decompress(self._module.code))
        source = zlib.decompress(self._module.source)
        return compile(source, self._module.file, "exec", dont_inherit=True)

    def get_source(self, fullname):
        if self._module.source is None:
            return None
        return importlib.util.decode_source(zlib.decompress(self._module.source))

    def get_filename(self, fullname=None):
        return self._module.file

    def get_data(self, path):
        return self._store.data(path)

    def get_resource_reader(self, fullname):
        return _Reader(self._store, posixpath.dirname(self._module.file))


class _Reader(importlib.resources.abc.TraversableResources):
    def __init__(self, store, folder):
        self._store, self._folder = store, folder

    def files(self):
        return _Resource(self._store, self._folder, True)


class _Resource(importlib.resources.abc.Traversable):
    def __init__(self, store, path, folder):
        self._store, self._path, self._folder = store, path, folder

    @property
    def name(self):
        return posixpath.basename(self._path)

    def iterdir(self):
        for name, folder in self._store.children(self._path).items():
            yield _Resource(self._store, posixpath.join(self._path, name), folder)

    def is_dir(self):
        return self._folder

    def is_file(self):
        return not self._folder

    def joinpath(self, *names):
        path = posixpath.normpath(posixpath.join(self._path, *map(str, names)))
        parent, name = posixpath.split(path)
        return _Resource(self._store, path, self._store.children(parent).get(name, False))

    __truediv__ = joinpath

    def open(self, mode="r", *args, **kwargs):
        content = io.BytesIO(self._store.data(self._path))
        return content if "b" in mode else io.TextIOWrapper(content, *args, **kwargs)

    def read_bytes(self):
        return self._store.data(self._path)

    def read_text(self, encoding=None, errors=None):
        return self._store.data(self._path).decode(encoding or "utf-8", errors or "strict")


def install(store):
    """Lets the store serve imports that nothing else does."""
    sys.meta_path.append(store)
