"""`python -m strongroom.local` and `strongroom.local.enabled`."""

import subprocess
import sys
from pathlib import Path

import pytest

import strongroom
from strongroom import local

SOURCES = Path(__file__).parents[1] / "src"

V1 = """
from azureml.core import Run
run = Run.get_context()
print("value has", len(run.get_secret(name="mysecret")), "characters", __name__)
"""


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "strongroom.local", *arguments],
        cwd=folder, env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_script_reads_secrets_from_the_named_file(tmp_path):
    (tmp_path / "train.py").write_text(V1)
    (tmp_path / ".env").write_text("# comment\nexport MYSECRET='hunter2'\n")
    done = run(tmp_path, "--vault", ".env", "train.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "value has 7 characters __main__\n"
    assert "runs without a sandbox and without a policy" in done.stderr
    assert "hunter2" not in done.stderr


def test_vault_has_to_be_named(tmp_path):
    (tmp_path / "train.py").write_text(V1)
    (tmp_path / ".env").write_text("MYSECRET=hunter2\n")
    done = run(tmp_path, "train.py")
    assert done.returncode == 2 and "--vault" in done.stderr
    done = run(tmp_path, "--vault", "memory", "train.py")
    assert done.returncode == 1 and "strongroom secret set mysecret" in done.stderr


def test_set_secret_does_not_change_the_file(tmp_path):
    (tmp_path / "train.py").write_text("from strongroom import secrets\nsecrets.set('b', 'x')\n")
    (tmp_path / ".env").write_text("A=1\n")
    assert run(tmp_path, "--vault", ".env", "train.py").returncode == 0
    assert (tmp_path / ".env").read_text() == "A=1\n"


def test_module_runs_with_its_arguments(tmp_path):
    (tmp_path / "job.py").write_text(
        "import sys, strongroom\nprint(sys.argv[1:], strongroom.parameters.all())\n"
    )
    done = run(tmp_path, "--vault", "memory", "--param", "a=1", "-m", "job", "--flag", "x")
    assert done.stdout == "['--flag', 'x'] {'a': '1'}\n", done.stderr


def test_pytest_runs_under_it(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "from azureml.core import Run\n"
        "def test_it():\n    assert Run.get_context().get_secret('a') == '1'\n"
    )
    (tmp_path / "vault.env").write_text("A=1\n")
    done = run(tmp_path, "--vault", "vault.env", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_enabled_restores_modules_and_path():
    before = list(sys.path)
    with local.enabled():
        import mlflow

        assert "_shims" in mlflow.__file__
    assert "mlflow" not in sys.modules and sys.path == before
    with pytest.raises(strongroom.OutsideComponent):
        strongroom.run_id()


def test_each_enabled_block_has_a_fresh_run():
    with local.enabled({"a": "1"}) as first:
        from azureml.core import Run

        Run.get_context().log("x", 1)
    with local.enabled({"a": "2"}) as second:
        from azureml.core import Run as Again

        assert Again.get_context().get_secret("a") == "2"
        assert Again.get_context().get_metrics() == {}
    assert first.metrics and not second.metrics


def test_tags_parameters_and_text_metrics_are_kept():
    with local.enabled(parameters={"given": "1"}) as host:
        strongroom.tags.set_many({"team": "blue", "draft": ""})
        strongroom.tags.set("team", 7)
        strongroom.tags.set("label")
        strongroom.tags.remove("draft")
        strongroom.tags.remove("never-set")
        strongroom.parameters.log("rate", 0.1)
        strongroom.parameters.log_many({"rate": 0.01, "model": "linear"})
        strongroom.metrics.log_text("stage", "read")
        strongroom.metrics.log_text("stage", "fit", step=2)
        assert strongroom.parameters.all() == {"given": "1"}
        assert strongroom.time_left() is None
    assert host.tags == {"team": "7", "label": ""}
    assert host.logged_parameters == {"rate": "0.01", "model": "linear"}
    assert host.text_metrics == {"stage": [(None, "read"), (2, "fit")]}


def test_lone_surrogates_are_escaped_in_reports_and_refused_in_secrets():
    with local.enabled({"a": "1"}) as host:
        strongroom.tags.set("tag \udc80", "\udc80")
        strongroom.metrics.log("metric \udc80", 1)
        strongroom.progress.report(1, 2, "\udc80")
        with pytest.raises(strongroom.InvalidValue, match="lone surrogate"):
            strongroom.secrets.set("b", "value\udc80")
        with pytest.raises(strongroom.InvalidName, match="lone surrogate"):
            strongroom.secrets.get_many(["a", "\udc80"])
    assert host.tags == {"tag \\udc80": "\\udc80"}
    assert list(host.metrics) == ["metric \\udc80"]
    assert host.progress == [(1, 2, "\\udc80")]
    assert host.secrets == {"a": "1"}


@pytest.mark.parametrize(
    "report",
    [
        lambda text: strongroom.tags.set("a", text),
        lambda text: strongroom.parameters.log("a", text),
        lambda text: strongroom.metrics.log_text("a", text),
    ],
)
def test_long_text_is_refused(report):
    with local.enabled():
        report("x" * 8192)
        with pytest.raises(strongroom.InvalidReport, match="longer than 8,192 bytes"):
            report("x" * 8193)
    for bad in (lambda: strongroom.tags.set("", "x"), lambda: strongroom.tags.remove("a\nb")):
        with local.enabled(), pytest.raises(strongroom.InvalidReport, match="1 to 128 bytes"):
            bad()
    with local.enabled(), pytest.raises(ValueError, match="at least 0"):
        strongroom.metrics.log_text("a", "b", step=-1)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("A=1", "a", "1"),
        ("DB_PASSWORD = with space # comment", "db-password", "with space"),
        ("A='#1'", "a", "#1"),
        ('export A="x y"', "a", "x y"),
        ("A==x=", "a", "=x="),
        ("A=", "a", ""),
    ],
)
def test_env_file_lines(tmp_path, line, name, value):
    (tmp_path / "f").write_text(line + "\n")
    assert local.read_env_file(tmp_path / "f") == {name: value}


def test_env_file_error_shows_no_value(tmp_path):
    (tmp_path / "f").write_text("A=1\nhunter2\n")
    with pytest.raises(strongroom.Error) as raised:
        local.read_env_file(tmp_path / "f")
    assert "f:2" in str(raised.value) and "hunter2" not in str(raised.value)
