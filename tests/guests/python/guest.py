"""Reads a granted secret, asks for a denied one, and records a metric.

Built by scripts/toolchains.sh.
"""

# componentize-py resolves imports during the build: all of them belong at the top.
import hashlib
import json
import sys

from componentize_py_types import Err
from wit_world.imports import context, secrets


class WitWorld:
    def train(self) -> None:
        key = secrets.get_secret("key")
        print("SHA-256 of key:", hashlib.sha256(key.encode()).hexdigest())
        print("value of key:", key)
        try:
            secrets.get_secret("other")
        except Err as error:
            print("other:", type(error.value).__name__, error.value.value)
        print("parameters:", json.dumps(dict(context.parameters())), file=sys.stderr)
        context.log_metric("mean", sum(x / 4 for x in range(5)) / 5, 1)
