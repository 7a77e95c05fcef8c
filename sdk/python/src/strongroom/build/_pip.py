"""Runs pip for the Python inside components: environment markers have that Python's values.

pip evaluates markers such as ``python_version < "3.12"`` for the Python that it runs on. Run as a
script by the pinned pip of the toolchain, with pip's arguments.
"""

import sys

ENVIRONMENT = {
    "implementation_name": "cpython",
    "implementation_version": "3.14.0",
    "os_name": "posix",
    "platform_machine": "wasm32",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "wasi",
    "platform_version": "",
    "python_full_version": "3.14.0",
    "python_version": "3.14",
    "sys_platform": "wasi",
}


def main() -> int:
    from pip._internal.cli.main import main as pip
    from pip._vendor.packaging import markers

    markers.default_environment = lambda: dict(ENVIRONMENT)
    return pip(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
