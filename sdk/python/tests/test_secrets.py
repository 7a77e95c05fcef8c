"""The package `strongroom`, against the local host."""

import pytest

import strongroom
from strongroom import local, metrics, parameters, progress, secrets


@pytest.fixture
def host():
    with local.enabled({"DB-Password": "hunter2"}, {"epochs": "3", "c": "1.5"}) as host:
        yield host


def test_names_in_any_case_are_one_secret(host):
    assert secrets.get("db-password") == secrets.get("DB-PASSWORD") == "hunter2"
    secrets.set("db-PASSWORD", "new")
    assert host.secrets == {"db-password": "new"}


def test_batch_returns_requested_spelling_and_none(host):
    assert secrets.get_many(["Db-Password", "missing"]) == {
        "Db-Password": "hunter2", "missing": None,
    }  # fmt: skip
    secrets.set_many({"a": "1", "b": "2"})
    assert secrets.list() == ["a", "b", "db-password"]
    secrets.delete_many(["a", "b"])
    assert secrets.list() == ["db-password"]


def test_delete_many_with_missing_name_deletes_none(host):
    with pytest.raises(strongroom.NotFound):
        secrets.delete_many(["db-password", "missing"])
    assert secrets.list() == ["db-password"]


@pytest.mark.parametrize("name", ["", "a_b", "a/b", "ä", "x" * 128, "../keys"])
def test_invalid_name_is_refused(host, name):
    with pytest.raises(strongroom.InvalidName, match="write `-` instead of `_`"):
        secrets.get(name)


def test_value_over_25_kib_is_refused_and_not_shown(host):
    value = "s" * 25_601
    with pytest.raises(strongroom.InvalidValue) as raised:
        secrets.set("big", value)
    assert "sss" not in str(raised.value)
    secrets.set("big", "s" * 25_600)


def test_batch_with_a_name_twice_is_refused(host):
    with pytest.raises(strongroom.InvalidBatch, match="db-password twice"):
        secrets.get_many(["db-password", "DB-password"])
    with pytest.raises(strongroom.InvalidBatch, match="at most 256"):
        secrets.get_many([f"n{number}" for number in range(257)])


def test_wrong_type_is_named_without_the_value(host):
    with pytest.raises(TypeError) as raised:
        secrets.set("name", b"hunter2")
    assert str(raised.value) == "the value of a secret must be a str, not bytes"
    with pytest.raises(TypeError, match="not a str"):
        secrets.get_many("db-password")


def test_describe_has_no_value(host):
    found = secrets.describe("db-password")
    assert found.version and found.updated and "hunter2" not in repr(found)


def test_parameters_have_defaults(host):
    assert parameters.get("epochs") == "3"
    assert parameters.get("missing") is None
    assert parameters.get("missing", "7") == "7"
    assert parameters.all() == {"c": "1.5", "epochs": "3"}


def test_metrics_and_progress_reach_the_host(host):
    metrics.log("loss", 1, step=0)
    metrics.log_many({"loss": 0.5, "accuracy": True}, step=1)
    progress.report(1, 3, "first")
    assert host.metrics == {"loss": [(0, 1.0), (1, 0.5)], "accuracy": [(1, 1.0)]}
    assert host.progress == [(1, 3, "first")]


def test_invalid_report_is_refused(host):
    with pytest.raises(strongroom.InvalidReport, match="no control characters"):
        metrics.log("a\nb", 1)
    with pytest.raises(ValueError, match="at least 0"):
        metrics.log("loss", 1, step=-1)
    with pytest.raises(ValueError, match="at least 0"):
        progress.report(1.5)


def test_outside_a_component_the_error_says_what_to_do():
    with pytest.raises(strongroom.OutsideComponent, match="strongroom run SCRIPT"):
        secrets.get("db-password")


def test_denied_names_the_policy_line():
    error = strongroom.errors.secret_error("denied", "db-password", "get", ["DB-Password"])
    assert type(error) is strongroom.Denied and error.names == ("db-password",)
    assert str(error).startswith(
        "could not read `db-password`: the policy does not grant it\nhelp:"
    )
    assert str(error).endswith('\n  db-password = ["get"]')


def test_denied_batch_names_the_denied_name_alone():
    error = strongroom.errors.secret_error("denied", "b", "get", ["a", "b"])
    assert error.names == ("b",)
    assert '\n  b = ["get"]' in str(error) and "a =" not in str(error)


def test_denied_list_names_an_entry():
    error = strongroom.errors.secret_error("denied", "*", "list", [])
    assert '"db-*" = ["list"]' in str(error)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("denied", strongroom.Denied),
        ("not-found", strongroom.NotFound),
        ("invalid-name", strongroom.InvalidName),
        ("invalid-value", strongroom.InvalidValue),
        ("exhausted", strongroom.Exhausted),
        ("expired", strongroom.Expired),
        ("invalid-batch", strongroom.InvalidBatch),
        ("conflict", strongroom.Conflict),
        ("unavailable", strongroom.Unavailable),
    ],
)
def test_each_error_of_the_contract_has_a_class(kind, expected):
    error = strongroom.errors.secret_error(kind, "key", "set", ["key"])
    assert type(error) is expected and "help: " in str(error)
    assert type(error).__module__ == "strongroom"


def test_contract_has_no_other_errors():
    """The contract's variants are those above and `partial`, which has its own function."""
    import pathlib
    import re

    contract = pathlib.Path(__file__).parents[3] / "wit/training.wit"
    variants = re.search(r"variant error \{(.*?)\n    \}", contract.read_text(), re.DOTALL)[1]
    names = set(re.findall(r"^        ([a-z-]+)\(", variants, re.MULTILINE))
    assert names == {
        "denied", "not-found", "invalid-name", "invalid-value", "exhausted", "expired",
        "invalid-batch", "conflict", "partial", "unavailable",
    }  # fmt: skip


def test_packaged_contract_is_that_of_the_project():
    import pathlib

    root = pathlib.Path(__file__).parents[3]
    packaged = root / "sdk/python/src/strongroom/build/wit/deps/training/training.wit"
    assert packaged.read_bytes() == (root / "wit/training.wit").read_bytes()
