"""A module of the project with state."""

import random
import time

STARTED = time.time()
GENERATOR = random.Random()
_counter = 0


def count():
    global _counter
    _counter += 1
    return _counter


def fail(settings):
    return settings["missing"]
