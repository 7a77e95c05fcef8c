"""The experiment of a run."""

from __future__ import annotations

from typing import Any

from strongroom._sdk import unavailable_function

_SUBMIT = "start runs outside the component, with `strongroom run`"


class Experiment:
    """Names the experiment of a run. A component cannot start runs in it."""

    def __init__(self, workspace: Any, name: str, **kwargs: Any) -> None:
        self.workspace = workspace
        self.name = name

    submit = unavailable_function("Experiment.submit", _SUBMIT)
    start_logging = unavailable_function(
        "Experiment.start_logging", "use the run of this component: `Run.get_context()`"
    )
    get_runs = unavailable_function("Experiment.get_runs", "use `strongroom runs list`")
