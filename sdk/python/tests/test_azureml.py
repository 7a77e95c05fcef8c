"""Azure ML SDK v1 over strongroom."""

import io

import pytest

import strongroom
from strongroom import local


@pytest.fixture
def host(tmp_path):
    with local.enabled({"mysecret": "hunter2", "b": "2"}, output=tmp_path / "output") as host:
        yield host


@pytest.fixture
def run(host):
    from azureml.core import Run

    return Run.get_context()


def test_documented_snippet_sets_a_secret(host, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "from-environment")
    exec(
        "from azureml.core import Workspace\n"
        "import os\n\n"
        "ws = Workspace.from_config()\n"
        'my_secret = os.environ.get("MY_SECRET")\n'
        "keyvault = ws.get_default_keyvault()\n"
        'keyvault.set_secret(name="mysecret", value = my_secret)\n',
        {},
    )
    assert host.secrets["mysecret"] == "from-environment"


def test_documented_snippet_reads_a_secret(host):
    names = {}
    exec(
        "from azureml.core import Run\n\n"
        "run = Run.get_context()\n"
        'secret_value = run.get_secret(name="mysecret")\n',
        names,
    )
    assert names["secret_value"] == "hunter2"


def test_context_is_one_object(run):
    from azureml.core import Run

    assert Run.get_context(allow_offline=False) is run
    assert run.id == strongroom.run_id()
    assert run.experiment.workspace.get_default_keyvault().get_secret("b") == "2"


def test_missing_secret_raises_service_exception(run):
    from azureml.exceptions import AzureMLException, ServiceException

    with pytest.raises(ServiceException) as raised:
        run.get_secret("missing")
    assert raised.value.status_code == 404 and isinstance(raised.value, AzureMLException)
    assert "strongroom secret set missing" in raised.value.message
    assert raised.value.__context__ is None


def test_batches(run, host):
    from azureml.core import Keyvault, Workspace

    assert run.get_secrets(["mysecret", "missing"]) == {"mysecret": "hunter2", "missing": None}
    vault = Keyvault(Workspace.from_config())
    vault.set_secrets({"c": "3", "d": "4"})
    assert vault.list_secrets() == [{"name": n} for n in ("b", "c", "d", "mysecret")]
    vault.delete_secrets(["c", "d"])
    vault.delete_secret("b")
    assert host.secrets == {"mysecret": "hunter2"}
    assert vault.get_secret_content_type("mysecret") == "application/NotProvided"


def test_content_type_cannot_be_set(run):
    vault = run.experiment.workspace.get_default_keyvault()
    with pytest.raises(strongroom.NotAvailable, match="leave `content_type` out"):
        vault.set_secret("a", "b", content_type="application/json")


def test_second_workspace_is_an_error(host):
    from azureml.core import Workspace

    Workspace.from_config()
    assert Workspace.get("one").name == "one"
    Workspace(None, None, "one")
    with pytest.raises(strongroom.NotAvailable, match="already uses `one`"):
        Workspace.get("two")


def test_log_records_numbers_with_steps(run, host):
    run.log("loss", 0.5)
    run.log("loss", 0.25, "description", 3)
    run.log("once", 1)
    assert host.metrics == {"loss": [(None, 0.5), (3, 0.25)], "once": [(None, 1.0)]}
    assert run.get_metrics() == {"loss": [0.5, 0.25], "once": 1}
    assert run.get_metrics("once") == {"once": 1}


@pytest.mark.parametrize("value", [[1, 2], range(3), iter([1])])
def test_log_of_many_values_is_refused(run, value):
    from azureml.exceptions import UserErrorException

    with pytest.raises(UserErrorException, match="use `log_list`"):
        run.log("loss", value)


def test_values_that_are_no_numbers_are_text_metrics(run, host):
    run.log("stage", "read")
    run.log("stage", "fit", step=2)
    run.log("nothing", None)
    run.log("flag", True)
    run.log("object", {"a": 1})
    run.log_row("row", x="text")
    assert host.metrics == {}
    assert host.text_metrics == {
        "stage": [(None, "read"), (2, "fit")],
        "nothing": [(None, "None")],
        "flag": [(None, "True")],
        "object": [(None, "{'a': 1}")],
        "row/x": [(None, "text")],
    }
    assert run.get_metrics() == {
        "stage": ["read", "fit"],
        "nothing": None,
        "flag": True,
        "object": "{'a': 1}",
        "row": {"x": "text"},
    }


def test_lists_rows_and_tables(run, host):
    run.log_list("values", [1, 2])
    run.log_list("empty", [])
    run.log_row("row", x=1, y=2.5)
    run.log_row("rows", x=1)
    run.log_row("rows", x=2)
    run.log_table("table", {"x": [1, 2], "y": 3})
    assert host.metrics == {
        "values": [(None, 1.0), (None, 2.0)],
        "row/x": [(None, 1.0)],
        "row/y": [(None, 2.5)],
        "rows/x": [(None, 1.0), (None, 2.0)],
        "table/x": [(None, 1.0), (None, 2.0)],
        "table/y": [(None, 3.0)],
    }
    assert run.get_metrics() == {
        "values": [1, 2],
        "row": {"x": 1, "y": 2.5},
        "rows": {"x": [1, 2]},
        "table": {"x": [1, 2], "y": [3, None]},
    }


def test_files_go_to_the_output_folder(run, host, tmp_path):
    class Figure:
        def savefig(self, target):
            target.write_bytes(b"PNG")

    (tmp_path / "picture.png").write_bytes(b"P")
    run.log_image("plot", plot=Figure())
    run.log_image("picture", path=str(tmp_path / "picture.png"))
    run.log_confusion_matrix("matrix", {"data": {"matrix": [[1]]}})
    run.upload_file("a/b.txt", io.StringIO("text"))
    run.upload_files(["c.png"], [tmp_path / "picture.png"])
    assert run.get_file_names() == ["a/b.txt", "c.png", "matrix.json", "picture.png", "plot.png"]
    assert (host.output / "plot.png").read_bytes() == b"PNG"
    with pytest.raises(TypeError):
        run.upload_files(["a"], [])
    for name in ("../x", "/x", "a/../../x", ""):
        with pytest.raises(strongroom.Error, match="not a relative path"):
            run.upload_file(name, io.BytesIO(b""))


def test_tags_and_properties_are_recorded(run, host):
    from azureml.exceptions import UserErrorException

    run.tag("candidate")
    run.tag("stage", "draft")
    run.tag("stage", "test")
    run.set_tags({"a": "1", "b": 2})
    run.add_properties({"p": "1"})
    assert run.remove_tags(["b", "absent", "p"]) == run.tags
    assert run.get_tags() == run.tags == {"candidate": None, "stage": "test", "a": "1"}
    assert run.get_properties() == {"p": "1"}
    assert host.tags == {"candidate": "", "stage": "test", "a": "1", "p": "1"}
    with pytest.raises(UserErrorException):
        run.add_properties({"p": "2"})


def test_context_manager_lets_exceptions_through(run):
    with pytest.raises(KeyError), run:
        raise KeyError("x")
    assert run.get_status() == run.status == "Running"


def test_unavailable_parts_say_what_to_do(run):
    import azureml.core

    with pytest.raises(strongroom.NotAvailable, match="prefix, such as `fold-1/loss`"):
        run.child_run("fold")
    with pytest.raises(strongroom.NotAvailable, match="--input DIR"):
        run.input_datasets["x"]
    with pytest.raises(strongroom.NotAvailable, match="could not use `azureml.core.Dataset`"):
        exec("from azureml.core import Dataset")
    with pytest.raises(ImportError):
        exec("from azureml.core import Nonsense")
    with pytest.raises(ImportError):
        exec("from azureml.core import Dataset")
    with pytest.raises(AttributeError):
        azureml.core.nonsense  # noqa: B018
    with pytest.raises(strongroom.NotAvailable):
        run.experiment.workspace.datasets  # noqa: B018
