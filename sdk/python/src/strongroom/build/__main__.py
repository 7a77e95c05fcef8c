"""The command line of the build."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from . import BuildError, Report, build


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m strongroom.build",
        description="Build a component from a Python script or a folder with one.",
    )
    parser.add_argument("path", type=Path, metavar="SCRIPT|DIR")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE")
    parser.add_argument(
        "--components", type=Path, metavar="DIR", help="keep components here, and use those in it"
    )
    parser.add_argument("--lock", type=Path, metavar="FILE", help="the lock file of dependencies")
    parser.add_argument(
        "--json", action="store_true", help="print events as lines of JSON on standard output"
    )
    parser.add_argument(
        "--memory", type=int, metavar="BYTES", help="the most memory of each process of the build"
    )
    parser.add_argument(
        "--watch-stdin",
        action="store_true",
        help="end this process group when standard input ends, because its parent is gone",
    )
    options = parser.parse_args()
    if not options.output and not options.components:
        parser.error("give `--output FILE`, `--components DIR` or both")
    if options.memory:
        # Not the address space, most of which componentize-py only reserves.
        resource.setrlimit(resource.RLIMIT_DATA, (options.memory, options.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if options.watch_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    report = Report(options.json)
    try:
        build(
            options.path,
            options.output,
            components=options.components,
            lock=options.lock,
            report=report,
        )
    except BuildError as error:
        report.failed(error)
        return 1
    except KeyboardInterrupt:
        report.failed(BuildError("the build was interrupted"))
        return 130
    return 0


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
