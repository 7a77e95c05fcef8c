"""The command line of the build."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import BuildError, Report, build


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m strongroom.build",
        description="Build a component from a Python script or a folder with one.",
    )
    parser.add_argument("path", type=Path, metavar="SCRIPT|DIR")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="the lock file of dependencies")
    parser.add_argument(
        "--json", action="store_true", help="print events as lines of JSON on standard output"
    )
    options = parser.parse_args()
    report = Report(options.json)
    try:
        build(options.path, options.output, lock=options.lock, report=report)
    except BuildError as error:
        report.failed(error)
        return 1
    except KeyboardInterrupt:
        report.failed(BuildError("the build was interrupted"))
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
