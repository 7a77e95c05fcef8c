"""Tries to leave the sandbox, or ends in an unusual way. The first argument chooses how."""

import os
import random
import socket
import subprocess
import sys

import state
import strongroom


def attempt(what, call):
    try:
        print(f"{what}: worked: {call()!r}"[:300])
    except BaseException as error:
        print(f"{what}: {type(error).__name__}: {error}")


def environment():
    print("environment:", dict(os.environ))
    for name in ("/proc/self/environ", "/proc/1/cmdline", "/etc/passwd", "../../etc/passwd", ".env"):
        attempt(name, lambda: open(name).read())
    for name in ("/", "/proc", "/dev", "/home", "/python", "/0"):
        attempt(name, lambda: os.listdir(name))
    attempt("write", lambda: open("/input/x", "w"))
    attempt("link", lambda: os.symlink("/etc/passwd", "/output/passwd") or open("/output/passwd").read())


def sockets():
    host, port = sys.argv[2].split(":")
    attempt("tcp", lambda: socket.create_connection((host, int(port)), timeout=5))
    attempt("name", lambda: socket.create_connection(("localhost", int(port)), timeout=5))
    attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (host, int(port))))
    attempt("listen", lambda: socket.create_server(("127.0.0.1", 0)))
    attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect("/run/x"))


def programs():
    attempt("run", lambda: subprocess.run(["id"], capture_output=True))
    attempt("shell", lambda: subprocess.check_output("id", shell=True))
    attempt("system", lambda: os.system("id"))
    attempt("exec", lambda: os.execv("/bin/sh", ["sh"]))
    attempt("fork", lambda: os.fork())
    attempt("ctypes", lambda: __import__("ctypes").CDLL(None))
    attempt("thread", lambda: __import__("threading").Thread(target=print).start())
    attempt("kill", lambda: os.kill(1, 9))


def recurse():
    recurse()


def deep():
    nested = []
    for _ in range(1_000_000):
        nested = [nested]
    repr(nested)


def memory():
    # Ten gigabytes in blocks that are used, so that no allocator can postpone them.
    blocks = []
    for _ in range(10 * 1024):
        blocks.append(bytearray(b"x") * (1 << 20))


def one_list():
    [0] * (1 << 29)


def leak():
    value = strongroom.secrets.get("key")
    raise ValueError(f"cannot log in with {value}")


def leak_in_key():
    {}[strongroom.secrets.get("key")]


def show_state():
    print("started", state.STARTED)
    print("generator", state.GENERATOR.random())
    print("module", random.random())
    print("counter", state.count(), state.count())
    print("main", "leftover" in globals())
    globals()["leftover"] = True
    import builtins

    print("builtin", hasattr(builtins, "leftover"))
    builtins.leftover = True


def uncaught():
    state.fail({"rows": 3})


def end():
    code = sys.argv[2]
    sys.exit(int(code) if code.isdigit() else None if code == "none" else code)


def at_exit():
    import atexit

    atexit.register(print, "at exit")
    sys.stdout.write("no newline")


globals()[sys.argv[1]]()
