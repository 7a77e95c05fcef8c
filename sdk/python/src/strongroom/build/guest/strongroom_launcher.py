"""The entry point of a component that was built from a script.

The first part runs while the component is built: it embeds the modules and imports those that the
script needs. The interpreter is then stored as it is, and `Run.run` starts from that state in every
run. Whatever is computed here is therefore the same in every run.
"""

import _socket
import gc
import importlib
import importlib.util
import json
import os
import socket
import sys

import _strongroom_memory

APP = os.path.dirname(os.path.abspath(__file__))
# The standard library comes first otherwise, and `ssl` has to be the replacement.
sys.path.remove(APP)
sys.path.insert(0, APP)
with open(f"{APP}/plan.json", encoding="utf-8") as _file:
    PLAN = json.load(_file)


# A socket that is opened now would be a dangling handle in every run, and fail in ways that no one
# understands. The build also has no network.
def _blocked(*args, **kwargs):
    raise OSError("sockets are not available while a component is built")


_blocked_names = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "socketpair", "socket")
_real = {
    (module, name): getattr(module, name, None)
    for module in (_socket, socket)
    for name in _blocked_names
    if (module, name) != (socket, "socket")
}
_real_init = socket.socket.__init__
for _module, _name in _real:
    setattr(_module, _name, _blocked)
# `socket.socket` stays a class, because packages derive from it.
socket.socket.__init__ = _blocked
socket.has_ipv6 = False

STORE = _strongroom_memory.Store()
STORE.add_folder(f"{APP}/project", "", data=True, source=True, compiled=False)
PROJECT = frozenset(STORE.names())
STORE.add_folder(APP, "strongroom", skip={"project"}, source=False, compiled=True)
for _path in sys.path:
    if _path.startswith("/python") and os.path.isdir(_path):
        STORE.add_folder(_path, "python", source=False, compiled=True)
    elif _path not in (APP, "/world", "/bundled") and os.path.isdir(_path):
        STORE.add_folder(_path, "site-packages", data=True, source=True, compiled=True)
_strongroom_memory.install(STORE)

import asyncio  # noqa: E402
import asyncio.base_events  # noqa: E402
import asyncio.selector_events  # noqa: E402
import atexit  # noqa: E402
import linecache  # noqa: E402
import random  # noqa: E402
import tempfile  # noqa: E402
import traceback  # noqa: E402
import types  # noqa: E402

import componentize_py_types  # noqa: E402
import wit_world  # noqa: E402, F401
from wit_world import exports  # noqa: E402
from wit_world.imports import environment  # noqa: E402

import strongroom  # noqa: E402
import strongroom._component  # noqa: E402
import strongroom._host  # noqa: E402
import strongroom._sdk  # noqa: E402

strongroom._host.use(strongroom._component.ComponentHost())

failures = {}


def _preload(name):
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        failures[name] = f"{type(error).__name__}: {error}"
        return None


for _name, _attributes in PLAN["imports"]:
    if _name.partition(".")[0] in PROJECT:
        # The project's own modules run in every run, as they would outside.
        continue
    _found = _preload(_name)
    for _attribute in _attributes:
        if _found is not None and hasattr(_found, "__path__"):
            try:
                _has = hasattr(_found, _attribute)
            except Exception:
                _has = True  # A module that explains why it lacks the name.
            if not _has and importlib.util.find_spec(f"{_name}.{_attribute}") is not None:
                _preload(f"{_name}.{_attribute}")

with open(f"{APP}/report.json", "w", encoding="utf-8") as _file:
    json.dump({"failures": failures}, _file)

socket.socket.__init__ = _real_init
for (_module, _name), _value in _real.items():
    if _value is not None:
        setattr(_module, _name, _value)
    else:
        delattr(_module, _name)


# Event loops wake up through a pair of connected sockets, which the sandbox does not have. Only
# threads need to wake a loop, and there are none.
def _no_self_pipe(self, *args):
    self._ssock = self._csock = None
    self._internal_fds = 0


def _run_in_executor(self, executor, func, *args):
    future = self.create_future()
    try:
        future.set_result(func(*args))
    except Exception as error:
        future.set_exception(error)
    return future


_Loop = asyncio.selector_events.BaseSelectorEventLoop
_Loop._make_self_pipe = _no_self_pipe
_Loop._close_self_pipe = _no_self_pipe
_Loop._write_to_self = lambda self: None
asyncio.base_events.BaseEventLoop.run_in_executor = _run_in_executor

SCRIPT = PLAN["script"]
with open(f"{APP}/project/{SCRIPT}", "rb") as _file:
    SOURCE = importlib.util.decode_source(_file.read())
CODE = compile(SOURCE, SCRIPT, "exec", dont_inherit=True)

# There are no files to import from at run time: everything is in memory.
sys.path[:] = []
sys.path_importer_cache.clear()
importlib.invalidate_caches()
linecache.clearcache()
tempfile._name_sequence = None
STORE.forget_imported()
del _found, _file
gc.collect()
gc.freeze()

MISSING = {
    "ctypes": "native code cannot run in a component: use a package in plain Python",
    "_ctypes": "native code cannot run in a component: use a package in plain Python",
    "multiprocessing": "a component is one process: run the work in one loop, or start more runs",
    "_multiprocessing": "a component is one process: run the work in one loop",
    "bz2": "use `zlib` or `gzip`",
    "lzma": "use `zlib` or `gzip`",
    "fcntl": "a component has no file locks, and no other process sees its files",
    "mmap": "read the file instead of mapping it",
    "resource": "the policy's `[limits]` apply",
    "tkinter": "save plots to `/output`",
    "_tkinter": "save plots to `/output`",
    "curses": "print to standard output",
    "readline": "a component has no terminal",
    "termios": "a component has no terminal",
    "pwd": "a component has no users",
    "grp": "a component has no groups",
}

SDKS = ("strongroom", "azureml", "azure", "mlflow")


def _help(error):
    """Returns what to do about an error whose text does not say it, or `None`."""
    text = str(error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        return (
            MISSING.get(top)
            or strongroom._sdk.import_hint(error.name)
            or f"add the package that has `{top}` to requirements.txt or to the script's metadata, "
            "or the module to the project, and build the component again"
        )
    if isinstance(error, MemoryError):
        return "use less memory, or raise `memory` under [limits] in the policy"
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return "a component has one thread: call the function directly"
    if isinstance(error, socket.gaierror):
        return 'a run can look up the names in the policy\'s `tcp`: tcp = ["NAME:PORT"]'
    if isinstance(error, OSError):
        return _os_help(error, text)
    return None


def _os_help(error, text):
    if "processes" in text:
        return "a component cannot start programs: use a package in plain Python"
    if isinstance(error.filename, (str, bytes)):
        file = os.path.abspath(os.fsdecode(error.filename))
        for folder in ("input", "output"):
            if file == f"/{folder}" or file.startswith(f"/{folder}/"):
                return (
                    None if os.path.isdir(f"/{folder}") else f"start the run with `--{folder} DIR`"
                )
        return "a component sees `/input` and `/output` and no other files"
    if isinstance(error, PermissionError):
        return 'the policy decides which connections a run may open: tcp = ["ADDRESS:PORT"]'
    return None


def _print(error):
    """Prints a traceback that begins in the script."""
    root, seen = error, set()
    while root is not None and id(root) not in seen:
        seen.add(id(root))
        advice = _help(root)
        if advice:
            root.add_note(f"help: {advice}")
        root = root.__cause__ or (None if root.__suppress_context__ else root.__context__)
    shown = traceback.TracebackException.from_exception(error)
    pending = [shown]
    while pending:
        part = pending.pop()
        # The launcher's frames, and those of the SDKs below a call that they refuse.
        refused = part.exc_type_str.partition(".")[0] in SDKS
        hidden = f"{APP}/" if refused else __file__
        kept = [frame for frame in part.stack if not frame.filename.startswith(hidden)]
        part.stack = traceback.StackSummary.from_list(kept)
        others = (part.__cause__, part.__context__, *(part.exceptions or ()))
        pending += [other for other in others if other is not None]
    shown.print()


def _exit_code(code):
    """Returns what Python's `sys.exit(code)` gives the operating system, and prints its text."""
    if code is None:
        return 0
    if isinstance(code, int):
        return int(code)
    print(code, file=sys.stderr)
    return 1


def _start():
    os.environ.clear()
    os.environ.update(environment.get_environment())
    sys.argv[:1] = [SCRIPT]
    # The state of generators was stored with the interpreter.
    random.seed()
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random").seed()
    # Temporary files go where files can be written.
    tempfile.tempdir = "/output" if os.path.isdir("/output") else None
    main = types.ModuleType("__main__")
    main.__file__ = SCRIPT
    main.__builtins__ = __builtins__
    sys.modules["__main__"] = main
    linecache.cache[SCRIPT] = (len(SOURCE), None, SOURCE.splitlines(True), SCRIPT)
    return main


def _end():
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            return 1
    return 0


class Run(exports.Run):
    """Runs the script."""

    def run(self):
        code = 0
        try:
            exec(CODE, _start().__dict__)
        except SystemExit as end:
            code = _exit_code(end.code)
            if code not in (0, 1):
                print(
                    f"the script ended with exit code {code}; the run's record has 1, because a "
                    "component ends with success or failure only",
                    file=sys.stderr,
                )
        except BaseException as error:
            _print(error)
            code = 1
        if _end() or code:
            raise componentize_py_types.Err(None)
