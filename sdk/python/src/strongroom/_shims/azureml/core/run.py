"""The run in the form of Azure ML SDK v1."""

from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from typing import Any

import strongroom
from azureml.exceptions import UserErrorException
from strongroom import secrets as _secrets
from strongroom import tags as _tags
from strongroom._sdk import (
    Reports,
    is_number,
    store_figure,
    store_file,
    store_folder,
    unavailable,
    unavailable_function,
)

from .experiment import Experiment
from .keyvault import call
from .workspace import Workspace

_SUBMIT = "start each run outside the component, with `strongroom run`"
_CHILD = "log metrics with a prefix, such as `fold-1/loss`, or start one run for each child"
_SHOW = "use `strongroom runs show`, outside the component"
_MODEL = "write the model to `/output`, and register it after the run"
_DATA = "give the run its data with `--input DIR` and read it from `/input`"

_context: Run | None = None


class Run:
    """The run of this component: its secrets, metrics and files."""

    def __init__(self, experiment: Any, run_id: str, outputs: Any = None, **kwargs: Any) -> None:
        self.experiment = experiment
        self.id = run_id
        self.name = self.display_name = run_id
        self.description = ""
        self.parent = None
        self._reports = Reports()

    @classmethod
    def get_context(
        cls,
        allow_offline: bool = True,
        used_for_context_manager: bool = False,
        **kwargs: Any,
    ) -> Run:
        """Returns the run of this component, always the same object."""
        global _context
        if _context is None:
            workspace = Workspace.from_config()
            _context = cls(Experiment(workspace, "strongroom"), strongroom.run_id())
        return _context

    @classmethod
    def get_submitted_run(cls, **kwargs: Any) -> Run:
        """Returns the run of this component."""
        return cls.get_context()

    def get_secret(self, name: str) -> str:
        """Returns the value of a secret. Raises ``ServiceException`` if there is none."""
        return call(lambda: _secrets.get(name))

    def get_secrets(self, secrets: builtins.list[str]) -> dict[str, str | None]:
        """Returns the values by name, ``None`` for a missing secret."""
        return call(lambda: _secrets.get_many(secrets))

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Records one value. Text, truth values, ``None`` and other objects are text metrics."""
        if isinstance(value, (list, range)) or hasattr(value, "__next__"):
            raise UserErrorException(
                f"could not log `{name}`: the value is a {type(value).__name__}, not one number\n"
                "help: use `log_list`"
            )
        self._record(name, value, step)

    def log_list(self, name: str, value: Any, description: str = "") -> None:
        """Records the values of a list one after the other. An empty list records nothing."""
        for item in value:
            self._record(name, item, None)

    def log_row(self, name: str, description: str | None = None, **kwargs: Any) -> None:
        """Records each column as the metric ``NAME/COLUMN``."""
        if not kwargs:
            raise UserErrorException(f"could not log the row `{name}`: it has no columns")
        for column, value in kwargs.items():
            self._record(f"{name}/{column}", value, None, keep=False)
        self._rows(name).append(kwargs)

    def log_table(self, name: str, value: Mapping[str, Any], description: str = "") -> None:
        """Records each column as the metric ``NAME/COLUMN``, with one point for each row."""
        columns = {
            column: values if isinstance(values, (list, tuple)) else [values]
            for column, values in value.items()
        }
        for column, values in columns.items():
            for item in values:
                self._record(f"{name}/{column}", item, None, keep=False)
        for index in range(max(map(len, columns.values()), default=0)):
            self._rows(name).append(
                {column: values[index] for column, values in columns.items() if index < len(values)}
            )

    def log_image(
        self, name: str, path: Any = None, plot: Any = None, description: str = ""
    ) -> None:
        """Stores a picture in the output folder: a file, or a figure that has ``savefig``."""
        if (path is None) == (plot is None):
            raise UserErrorException(f"could not log the image `{name}`: give `path` or `plot`")
        if plot is not None:
            store_figure(f"{name}.png", plot)
        else:
            extension = "" if "." not in str(path) else "." + str(path).rpartition(".")[2]
            store_file(name if name.endswith(extension) else name + extension, path)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Stores the matrix as ``NAME.json`` in the output folder."""
        self._store_json(name, value)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Stores the table as ``NAME.json`` in the output folder."""
        self._store_json(name, value)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Stores the residuals as ``NAME.json`` in the output folder."""
        self._store_json(name, value)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Stores the predictions as ``NAME.json`` in the output folder."""
        self._store_json(name, value)

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: Any = None,
        populate: bool = False,
    ) -> dict[str, Any]:
        """Returns what this run has logged: one value for a name logged once, otherwise a list."""
        found = {key: _collapsed(points) for key, points in self._reports.points.items()}
        return found if name is None else {key: found[key] for key in found if key == name}

    def tag(self, key: str, value: str | None = None) -> None:
        """Sets a tag."""
        self._reports.tag(key, value)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets several tags."""
        for key, value in tags.items():
            self._reports.tag(key, value)

    def get_tags(self) -> dict[str, Any]:
        """Returns the tags that this run has set."""
        return dict(self._reports.tags)

    @property
    def tags(self) -> dict[str, Any]:
        """The tags that this run has set."""
        return self.get_tags()

    def remove_tags(self, tags: builtins.list[str]) -> dict[str, Any]:
        """Removes tags that this run has set."""
        for key in tags:
            self._reports.remove_tag(key)
        return self.get_tags()

    def add_properties(self, properties: Mapping[str, str]) -> None:
        """Adds properties, which cannot be changed afterwards. The record has them as tags."""
        twice = [key for key in properties if key in self._reports.properties]
        if twice:
            raise UserErrorException(f"could not change the property `{twice[0]}` of the run")
        for key, value in properties.items():
            _tags.set(key, value)
            self._reports.properties[key] = value

    def get_properties(self) -> dict[str, Any]:
        """Returns the properties that this run has added."""
        return dict(self._reports.properties)

    @property
    def properties(self) -> dict[str, Any]:
        """The properties that this run has added."""
        return self.get_properties()

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: Any = None) -> None:
        """Copies a file or a stream to the output folder under this name."""
        self._no_datastore(datastore_name)
        store_file(name, path_or_stream)

    def upload_files(
        self,
        names: builtins.list[str],
        paths: builtins.list[str],
        return_artifacts: bool = False,
        timeout_seconds: int | None = None,
        datastore_name: Any = None,
    ) -> None:
        """Copies files to the output folder. Both lists must be equally long."""
        if len(names) != len(paths):
            raise TypeError(f"{len(names)} names and {len(paths)} paths: there must be as many")
        self._no_datastore(datastore_name)
        for name, path in zip(names, paths, strict=True):
            store_file(name, path)

    def upload_folder(self, name: str, path: str, datastore_name: Any = None) -> None:
        """Copies the files below a folder to the output folder."""
        self._no_datastore(datastore_name)
        store_folder(name, path)

    def get_file_names(self) -> builtins.list[str]:
        """Returns the files in the output folder."""
        folder = strongroom.output_folder()
        files = (path for path in folder.rglob("*") if path.is_file())
        return sorted(path.relative_to(folder).as_posix() for path in files)

    def complete(self, _set_status: bool = True) -> None:
        """Does nothing: a run ends with its script."""

    def fail(
        self, error_details: Any = None, error_code: Any = None, _set_status: bool = True
    ) -> None:
        """Prints the details. The run's outcome is that of its script: raise an exception."""
        if error_details is not None:
            print(f"run.fail: {error_details}")

    def cancel(self) -> None:
        """Does nothing: a run ends with its script."""

    def start(self) -> None:
        """Does nothing: the run has started."""

    def flush(self, timeout_seconds: int = 300) -> None:
        """Does nothing: every metric is recorded at once."""

    def get_status(self) -> str:
        """Returns ``Running``."""
        return "Running"

    @property
    def status(self) -> str:
        """``Running``."""
        return self.get_status()

    def get_details(self) -> dict[str, Any]:
        """Returns identifier, status, tags and properties."""
        return {
            "runId": self.id,
            "status": self.get_status(),
            "tags": self.get_tags(),
            "properties": self.get_properties(),
        }

    def __enter__(self) -> Run:
        return self

    def __exit__(self, exit_type: Any, value: Any, traceback: Any) -> None:
        self.complete()

    def _record(self, name: str, value: Any, step: int | None, keep: bool = True) -> None:
        if is_number(value) and not isinstance(value, bool):
            strongroom.metrics.log(name, value, step)
            kept = value
        else:
            kept = value if isinstance(value, (str, bool)) or value is None else repr(value)
            strongroom.metrics.log_text(name, str(kept), step)
        if keep:
            self._reports.points.setdefault(name, []).append(kept)

    def _rows(self, name: str) -> builtins.list[Any]:
        rows = self._reports.points.setdefault(name, _Rows())
        if not isinstance(rows, _Rows):
            raise UserErrorException(f"could not log a row to `{name}`: it has single values")
        return rows

    @staticmethod
    def _store_json(name: str, value: Any) -> None:
        content = json.loads(value) if isinstance(value, str) else value
        from strongroom._sdk import artifact

        artifact(f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")

    @staticmethod
    def _no_datastore(datastore_name: Any) -> None:
        if datastore_name is not None:
            raise unavailable("datastore_name", "leave it out: files go to the run's output folder")

    add_type_provider = unavailable_function("Run.add_type_provider", _SUBMIT)
    list = unavailable_function("Run.list", "use `strongroom runs list`, outside the component")
    list_by_compute = unavailable_function("Run.list_by_compute", _SHOW)
    get = unavailable_function("Run.get", _SHOW)
    submit_child = unavailable_function("Run.submit_child", _SUBMIT)
    child_run = unavailable_function("Run.child_run", _CHILD)
    create_children = unavailable_function("Run.create_children", _CHILD)
    get_children = unavailable_function("Run.get_children", _CHILD)
    wait_for_completion = unavailable_function(
        "Run.wait_for_completion", "leave it out: a run ends with its script"
    )
    clean = unavailable_function("Run.clean", "remove the files of `/output` yourself")
    get_all_logs = unavailable_function("Run.get_all_logs", _SHOW)
    get_details_with_logs = unavailable_function("Run.get_details_with_logs", _SHOW)
    get_detailed_status = unavailable_function("Run.get_detailed_status", _SHOW)
    get_environment = unavailable_function("Run.get_environment", _SHOW)
    download_file = unavailable_function("Run.download_file", _DATA)
    download_files = unavailable_function("Run.download_files", _DATA)
    take_snapshot = unavailable_function("Run.take_snapshot", "write to `/output` instead")
    restore_snapshot = unavailable_function("Run.restore_snapshot", _DATA)
    get_snapshot_id = unavailable_function("Run.get_snapshot_id", _SHOW)
    register_model = unavailable_function("Run.register_model", _MODEL)
    type = property(unavailable_function("Run.type", _SHOW))
    number = property(unavailable_function("Run.number", "use `run.id`"))
    input_datasets = property(unavailable_function("Run.input_datasets", _DATA))
    output_datasets = property(
        unavailable_function("Run.output_datasets", "write the results to `/output`")
    )


class _Rows(list):
    """The rows of a table, each a dictionary of its columns."""


def _collapsed(points: builtins.list[Any]) -> Any:
    if not isinstance(points, _Rows):
        return points[0] if len(points) == 1 else builtins.list(points)
    if len(points) == 1:
        return dict(points[0])
    columns = dict.fromkeys(column for row in points for column in row)
    return {column: [row.get(column) for row in points] for column in columns}


get_run = unavailable_function("get_run", _SHOW)
