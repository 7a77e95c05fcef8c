"""The logging functions of MLflow, over the run of this component.

Metrics, parameters and tags go to the host. Artifacts go to the output folder. There is one run:
``start_run`` returns it, and starts no other.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import strongroom
from mlflow import exceptions
from mlflow.exceptions import MlflowException
from strongroom import parameters as _parameters
from strongroom._sdk import (
    Reports,
    artifact,
    is_number,
    store_figure,
    store_file,
    store_folder,
    unavailable,
    unavailable_function,
    unavailable_names,
)

__all__ = [
    "ActiveRun", "MlflowException", "active_run", "autolog", "delete_tag", "end_run", "exceptions",
    "flush_artifact_async_logging", "flush_async_logging", "get_artifact_uri", "get_run",
    "get_tracking_uri", "is_tracking_uri_set", "last_active_run", "log_artifact", "log_artifacts",
    "log_dict", "log_figure", "log_metric", "log_metrics", "log_param", "log_params", "log_stream",
    "log_text", "set_experiment", "set_experiment_tag", "set_experiment_tags", "set_tag",
    "set_tags", "set_tracking_uri", "start_run",
]  # fmt: skip

__version__ = "3.0.0+strongroom"

# MLflow's own bounds for the values of parameters and tags, in characters.
_PARAMETER_MAX = 6_000
_TAG_MAX = 8_000
# The host's bound for both, in bytes.
_BYTES_MAX = 8_192

_SHOW = "use `strongroom runs list` and `strongroom runs show`, outside the component"
_MODEL = "write the model to `/output`, and register it after the run"

_reports = Reports()
_active: ActiveRun | None = None
_last: ActiveRun | None = None


class ActiveRun:
    """The run of this component. Usable in a ``with`` statement."""

    @property
    def info(self) -> SimpleNamespace:
        """Identifier, status and artifact folder."""
        return SimpleNamespace(
            run_id=strongroom.run_id(),
            run_uuid=strongroom.run_id(),
            run_name=strongroom.run_id(),
            experiment_id="0",
            status="RUNNING",
            artifact_uri=get_artifact_uri(),
        )

    @property
    def data(self) -> SimpleNamespace:
        """The last value of each metric, and the parameters and tags, as this run logged them."""
        return SimpleNamespace(
            metrics={name: float(points[-1]) for name, points in _reports.points.items()},
            params=dict(_reports.parameters),
            tags=dict(_reports.tags),
        )

    def __enter__(self) -> ActiveRun:
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> bool:
        end_run("FINISHED" if exc_type is None else "FAILED")
        return exc_type is None


def start_run(
    run_id: str | None = None,
    experiment_id: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    tags: dict[str, Any] | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,
) -> ActiveRun:
    """Returns the run of this component."""
    global _active, _last
    if nested or parent_run_id is not None:
        raise unavailable(
            "start_run(nested=True)",
            "log metrics with a prefix, such as `fold-1/loss`, or start one run for each child",
        )
    if run_id is not None and run_id != strongroom.run_id():
        raise unavailable("start_run(run_id=...)", "leave `run_id` out: the host chose the run")
    if _active is not None:
        raise Exception(
            f"Run with UUID {strongroom.run_id()} is already active. To start a new run, first end "
            "the current run with mlflow.end_run()."
        )
    _active = _last = ActiveRun()
    if run_name is not None:
        set_tag("mlflow.runName", run_name)
    if description is not None:
        set_tag("mlflow.note.content", description)
    if tags:
        set_tags(tags)
    return _active


def end_run(status: str = "FINISHED") -> None:
    """Ends the active run for MLflow. The component's run ends with its script."""
    global _active
    _active = None


def active_run() -> ActiveRun | None:
    """Returns the run if it was started, as logging does."""
    return _active


def last_active_run() -> ActiveRun | None:
    """Returns the run that was started last."""
    return _active or _last


def get_run(run_id: str) -> ActiveRun:
    """Returns the run of this component; others cannot be read."""
    if run_id != strongroom.run_id():
        raise unavailable("get_run", _SHOW)
    return last_active_run() or ActiveRun()


def _begin(run_id: str | None = None) -> None:
    """Starts the run, as MLflow does when something is logged without one."""
    global _active, _last
    if run_id is not None and run_id != strongroom.run_id():
        raise unavailable("run_id", "leave `run_id` out: a component logs to its own run")
    if _active is None:
        _active = _last = ActiveRun()


def log_metric(
    key: str,
    value: float,
    step: int | None = None,
    synchronous: bool | None = None,
    timestamp: int | None = None,
    run_id: str | None = None,
    model_id: str | None = None,
    dataset: Any = None,
) -> None:
    """Records a number. ``timestamp`` and ``dataset`` are not used: the host has its own clock."""
    _begin(run_id)
    if not is_number(value):
        raise MlflowException(
            f"Got invalid value {value!r} for metric '{key}': it must be a number",
            "INVALID_PARAMETER_VALUE",
        )
    _reports.number(key, value, step)


def log_metrics(
    metrics: dict[str, float],
    step: int | None = None,
    synchronous: bool | None = None,
    run_id: str | None = None,
    timestamp: int | None = None,
    model_id: str | None = None,
    dataset: Any = None,
) -> None:
    """Records several numbers."""
    for key, value in metrics.items():
        log_metric(key, value, step, run_id=run_id)


def log_param(key: str, value: Any, synchronous: bool | None = None) -> Any:
    """Logs a parameter, which cannot be changed afterwards. Returns the value."""
    _begin()
    text = str(value)
    if _reports.parameters.get(key, text) != text:
        raise MlflowException(
            f"Changing param values is not allowed. Param with key='{key}' was already logged with "
            f"value='{_reports.parameters[key]}' for run ID='{strongroom.run_id()}'. Attempted "
            f"logging new value '{text}'.",
            "INVALID_PARAMETER_VALUE",
        )
    if key not in _reports.parameters:
        _parameters.log(key, _cut(f"parameter {key!r}", text, _PARAMETER_MAX))
    _reports.parameters[key] = text
    return value


def log_params(
    params: dict[str, Any], synchronous: bool | None = None, run_id: str | None = None
) -> None:
    """Logs several parameters."""
    _begin(run_id)
    for key, value in params.items():
        log_param(key, value)


def _cut(what: str, text: str, characters: int) -> str:
    """Shortens a long value as MLflow does, and warns."""
    shorter = text[:characters].encode()[:_BYTES_MAX].decode(errors="ignore")
    if shorter != text:
        print(
            f"warning: the value of the {what} has {len(text)} characters; the record has the "
            f"first {len(shorter)}",
            file=sys.stderr,
        )
    return shorter


def set_tag(key: str, value: Any, synchronous: bool | None = None) -> None:
    """Sets a tag."""
    _begin()
    _tag(key, value)


def _tag(key: str, value: Any) -> None:
    _reports.tag(key, _cut(f"tag {key!r}", str(value), _TAG_MAX))


def set_tags(tags: dict[str, Any], synchronous: bool | None = None) -> None:
    """Sets several tags."""
    for key, value in tags.items():
        set_tag(key, value)


def delete_tag(key: str) -> None:
    """Removes a tag that this run has set."""
    if key not in _reports.tags:
        raise MlflowException(f"No tag with name: {key}", "RESOURCE_DOES_NOT_EXIST")
    _reports.remove_tag(key)


def log_artifact(
    local_path: str, artifact_path: str | None = None, run_id: str | None = None
) -> None:
    """Copies a file to the output folder."""
    _begin(run_id)
    name = str(local_path).rstrip("/").rpartition("/")[2]
    store_file(f"{artifact_path}/{name}" if artifact_path else name, local_path)


def log_artifacts(
    local_dir: str, artifact_path: str | None = None, run_id: str | None = None
) -> None:
    """Copies the files below a folder to the output folder."""
    _begin(run_id)
    store_folder(artifact_path or "", local_dir)


def log_text(text: str, artifact_file: str, run_id: str | None = None) -> None:
    """Stores text in the output folder."""
    _begin(run_id)
    artifact(artifact_file).write_text(text, "utf-8")


def log_dict(
    dictionary: dict[str, Any] | list[Any], artifact_file: str, run_id: str | None = None
) -> None:
    """Stores a dictionary as JSON in the output folder."""
    _begin(run_id)
    if str(artifact_file).endswith((".yml", ".yaml")):
        raise unavailable("log_dict with YAML", "use a name that ends with `.json`")
    artifact(artifact_file).write_text(json.dumps(dictionary, indent=2, default=str), "utf-8")


def log_stream(stream: Any, artifact_file: str, run_id: str | None = None) -> None:
    """Stores the content of a stream in the output folder."""
    _begin(run_id)
    store_file(artifact_file, stream)


def log_figure(
    figure: Any, artifact_file: str, *, save_kwargs: dict[str, Any] | None = None
) -> None:
    """Saves a figure that has ``savefig`` in the output folder."""
    _begin()
    store_figure(artifact_file, figure, **(save_kwargs or {}))


def get_artifact_uri(artifact_path: str | None = None) -> str:
    """Returns the folder of artifacts, or the path of one."""
    folder = strongroom.output_folder()
    return str(folder / artifact_path if artifact_path else folder)


def autolog(
    log_input_examples: bool = False,
    log_model_signatures: bool = True,
    log_models: bool = True,
    log_datasets: bool = True,
    log_traces: bool = True,
    disable: bool = False,
    exclusive: bool = False,
    disable_for_unsupported_versions: bool = False,
    silent: bool = False,
    extra_tags: dict[str, str] | None = None,
    exclude_flavors: list[str] | None = None,
) -> None:
    """Logs nothing by itself, and says so: call ``log_metric`` for what you want to keep."""
    if not disable and not silent:
        print("mlflow.autolog: nothing is logged by itself here; call mlflow.log_metric")


def set_experiment(
    experiment_name: str | None = None, experiment_id: str | None = None, trace_location: Any = None
) -> SimpleNamespace:
    """Sets the tag ``mlflow.experimentName``: the host has no experiments."""
    name = experiment_name or experiment_id or "Default"
    _tag("mlflow.experimentName", name)
    return SimpleNamespace(experiment_id="0", name=name, artifact_location=get_artifact_uri())


def set_experiment_tag(key: str, value: Any) -> None:
    """Sets a tag of this run."""
    _tag(key, value)


def set_experiment_tags(tags: Mapping[str, Any]) -> None:
    """Sets tags of this run."""
    for key, value in tags.items():
        _tag(key, value)


def set_tracking_uri(uri: Any) -> None:
    """Does nothing: a component reports to its host and to no server."""


def get_tracking_uri() -> str:
    """Returns ``strongroom:run``."""
    return "strongroom:run"


def is_tracking_uri_set() -> bool:
    """Returns ``True``: a component always reports to its host."""
    return True


def flush_async_logging() -> None:
    """Does nothing: everything is recorded at once."""


def flush_artifact_async_logging() -> None:
    """Does nothing: everything is stored at once."""


def _names(instead: str, *names: str) -> dict[str, str]:
    return dict.fromkeys(names, instead)


_OTHERS = {
    **_names(
        _SHOW, "MlflowClient", "client", "create_experiment", "delete_experiment",
        "delete_experiment_tag", "delete_run", "get_experiment", "get_experiment_by_name",
        "get_parent_run", "restore_experiment", "restore_run", "search_experiments", "search_runs",
    ),
    **_names(
        _MODEL, "clear_active_model", "create_external_model", "delete_logged_model_tag",
        "finalize_logged_model", "get_active_model_id", "get_logged_model", "import_checkpoints",
        "initialize_logged_model", "last_logged_model", "log_model_params", "log_outputs",
        "register_model", "search_logged_models", "set_active_model", "set_logged_model_tags",
        "models", "pyfunc", "sklearn", "pytorch", "tensorflow", "xgboost", "lightgbm",
    ),
    **_names(
        "store what you need with `mlflow.log_dict` or `mlflow.log_text`", "log_image", "log_input",
        "log_inputs", "log_table", "load_table", "data",
    ),
    **_names("leave it out: a component has no traces", "flush_trace_async_logging"),
    **_names("start runs outside the component, with `strongroom run`", "run", "projects"),
}  # fmt: skip

for _name in set(_OTHERS) - {
    "MlflowClient", "client", "models", "pyfunc", "sklearn", "pytorch", "tensorflow", "xgboost",
    "lightgbm", "data", "projects",
}:  # fmt: skip
    globals()[_name] = unavailable_function(f"mlflow.{_name}", _OTHERS[_name])

__getattr__ = unavailable_names(__name__, _OTHERS)
