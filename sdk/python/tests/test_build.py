"""Which files and dependencies a build takes. tests/python.rs builds and runs components."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.build import BuildError, _dependencies, _project, _report

SOURCES = Path(__file__).parents[1] / "src"


def files(root, entries):
    for name, content in entries.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def test_script_takes_only_what_it_imports(tmp_path):
    files(tmp_path, {
        "train.py": "import helper\nfrom pkg.inner import thing\nimport json\n",
        "helper.py": "from other import x\n",
        "other.py": "",
        "unused.py": "",
        "pkg/__init__.py": "",
        "pkg/inner.py": "from . import sibling\nfrom .. import nothing\n",
        "pkg/sibling.py": "",
        "pkg/table.csv": "1,2",
        "data.csv": "private",
    })  # fmt: skip
    project = _project.find(tmp_path / "train.py")
    assert project.files == [
        "helper.py", "other.py", "pkg/__init__.py", "pkg/inner.py", "pkg/sibling.py",
        "pkg/table.csv", "train.py",
    ]  # fmt: skip
    assert project.imports == {"json": set()}


def test_folder_takes_its_python_files(tmp_path):
    files(tmp_path, {
        "main.py": "import requests\n", "lib/tool.py": "", "data.csv": "private",
        "pkg/__init__.py": "", "pkg/data/x.txt": "x", "venv/pyvenv.cfg": "", "venv/x.py": "",
        ".hidden/x.py": "", "node_modules/x.py": "", "__pycache__/x.pyc": "",
        "myenv/pyvenv.cfg": "", "myenv/lib.py": "",
    })  # fmt: skip
    project = _project.find(tmp_path)
    assert project.script == "main.py"
    assert project.files == ["lib/tool.py", "main.py", "pkg/__init__.py", "pkg/data/x.txt"]
    assert project.imports == {"requests": set()}


# attack: leak: secret files of the project's folder end up in a component -> a deny list
@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "prod.env", "server.pem", "id_rsa", "id_ed25519.pub", "a.p12", ".netrc",
     "credentials.json", "secret.key", ".git/config", "vault.key", "KEY.PEM"],
)  # fmt: skip
def test_secret_files_are_never_taken(tmp_path, name):
    files(tmp_path, {"main.py": "", "pkg/__init__.py": "", f"pkg/{name}": "x", name: "x"})
    project = _project.find(tmp_path)
    assert project.files == ["main.py", "pkg/__init__.py"]
    first = name.split("/")[0]
    assert set(project.denied) == {first, f"pkg/{first}"}
    script = _project.find(tmp_path / "main.py")
    assert script.files == ["main.py"] and script.denied == [first]


# attack: leak: a link in the project leads to a file of the user -> links are not followed
def test_links_are_not_followed(tmp_path):
    files(
        tmp_path, {"outside/secret.py": "x = 1", "project/main.py": "import secret\nimport pkg\n"}
    )
    (tmp_path / "project/secret.py").symlink_to(tmp_path / "outside/secret.py")
    (tmp_path / "project/pkg").symlink_to(tmp_path / "outside")
    files(tmp_path, {"outside/__init__.py": ""})
    for path in (tmp_path / "project", tmp_path / "project/main.py"):
        project = _project.find(path)
        assert project.files == ["main.py"]
        assert set(project.links) == {"secret.py", "pkg"}
    (tmp_path / "project/train.py").symlink_to(tmp_path / "outside/secret.py")
    with pytest.raises(BuildError, match="is a link"):
        _project.find(tmp_path / "project/train.py")


def test_newer_syntax_is_read_by_line(tmp_path):
    file = tmp_path / "x.py"
    file.write_text("import a, b.c as d\nfrom .e import (f, g as h)\nfrom i import *\nx = = 1\n")
    assert _project.imports_of(file) == [
        _project.Import("a"), _project.Import("b.c"), _project.Import("e", ("f", "g"), 1),
        _project.Import("i", ()),
    ]  # fmt: skip


def test_large_project_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(_project, "BYTES_MAX", 10)
    files(tmp_path, {"main.py": "# more than ten bytes"})
    with pytest.raises(BuildError, match="--input DIR"):
        _project.find(tmp_path)


def test_missing_script_and_entry_are_errors(tmp_path):
    with pytest.raises(BuildError, match="no such file"):
        _project.find(tmp_path / "train.py")
    with pytest.raises(BuildError, match="has no entry file"):
        _project.find(tmp_path)


def test_inline_metadata_beats_requirements(tmp_path):
    files(tmp_path, {
        "train.py": '# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n'
        '#   "pg8000>=1.31",\n# ]\n# ///\nimport pg8000\n',
        "requirements.txt": "requests\n",
    })  # fmt: skip
    found = _dependencies.read(tmp_path / "train.py")
    assert (found.source, found.lines) == ("train.py", ("pg8000>=1.31",))


def test_requirements_are_read_without_comments(tmp_path):
    files(tmp_path, {"train.py": "", "requirements.txt": "# x\nrequests>=2 # y\n\npg8000[a]; z\n"})
    found = _dependencies.read(tmp_path / "train.py")
    assert found.lines == ("requests>=2", "pg8000[a]; z")
    assert (
        _dependencies.read(tmp_path.joinpath("none/train.py").parent.parent / "train.py") == found
    )


# attack: escape: a requirement runs code during the build or comes from elsewhere -> only names of
# packages, as wheels of the configured index
@pytest.mark.parametrize(
    "line",
    ["-e .", "--index-url https://x", "-r other.txt", "name @ https://x/y.whl", "./folder",
     "git+https://x/y", "/abs/path.whl", "https://x/y.whl", "--find-links=/tmp", "a \\"],
)  # fmt: skip
def test_requirements_that_are_no_names_are_refused(tmp_path, line):
    files(tmp_path, {"train.py": "", "requirements.txt": f"requests\n{line}\n"})
    with pytest.raises(BuildError, match="requirements.txt:2"):
        _dependencies.read(tmp_path / "train.py")


def test_invalid_metadata_is_an_error(tmp_path):
    files(tmp_path, {"train.py": "# /// script\n# dependencies = [1]\n# ///\n"})
    with pytest.raises(BuildError, match="not a list of strings"):
        _dependencies.read(tmp_path / "train.py")
    files(tmp_path, {"train.py": "# /// script\n# dependencies = [\n# ///\n"})
    with pytest.raises(BuildError, match="could not read the metadata"):
        _dependencies.read(tmp_path / "train.py")


def test_sdks_are_provided_and_not_installed(tmp_path, capsys):
    wanted = _dependencies.Requirements("requirements.txt", ("azureml-core==1.61", "MLflow_skinny"))
    report = _report.Report(as_json=True)
    lock = tmp_path / "requirements.lock"
    assert _dependencies.lock(wanted, lock, report).packages == []
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["package"] for event in events] == ["azureml-core", "mlflow-skinny"]
    assert not lock.exists()


def test_lock_has_no_addresses(tmp_path):
    good = "a==1.0 --hash=sha256:" + "0" * 64 + "\n"
    assert _dependencies._packages("# comment\n" + good, tmp_path) == ["a==1.0"]
    for line in ("a @ https://x/a.whl", "a==1.0", "--index-url https://x", good.strip() + " x"):
        with pytest.raises(BuildError, match="lock file .*:1: "):
            _dependencies._packages(line, tmp_path)


def test_lock_of_other_requirements_is_not_used(tmp_path, monkeypatch):
    wanted = _dependencies.Requirements("requirements.txt", ("six",))
    other = _dependencies.Requirements("requirements.txt", ("six<2",))
    line = "six==1.0 --hash=sha256:" + "0" * 64 + "\n"
    resolved, commands = [], []
    monkeypatch.setattr(_dependencies, "_resolve", lambda *a: resolved.append(a) or line)
    monkeypatch.setattr(_dependencies, "run_pip", lambda command, *a: commands.append(command))
    lock = tmp_path / "requirements.lock"
    for requirements, count in ((wanted, 1), (wanted, 1), (other, 2), (other, 2)):
        locked = _dependencies.lock(requirements, lock, _report.Report())
        _dependencies.install(locked, tmp_path / "site", _report.Report())
        assert len(resolved) == count
    for command in commands:
        assert {"--require-hashes", "--no-deps", "--only-binary", ":all:"} <= set(command)


@pytest.mark.parametrize("name", ["numpy", "psycopg2", "cryptography"])
def test_native_package_is_named_with_its_alternative(name):
    error = _dependencies.native_error(name)
    assert f"`{name}`" in error.message and "native code" in error.message
    assert error.help.startswith("use ") and error.fields == {"package": name}


def test_wheel_with_machine_code_is_refused(tmp_path):
    files(tmp_path, {"sneaky/_x.abi3.so": ""})
    with pytest.raises(BuildError, match="`sneaky`: it has native code"):
        _dependencies._refuse_native_files(tmp_path)


def test_unresolvable_package_is_explained():
    output = "ERROR: No matching distribution found for nonsense>=3\n"
    error = _dependencies._unresolved("requirements.txt", output)
    assert "no wheel in plain Python fits `nonsense>=3`" in error.message
    assert "source distributions are not used" in error.help


def test_command_line_reports_errors_as_json(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "strongroom.build", str(tmp_path / "no.py"), "-o", "x", "--json"],
        env={"PYTHONPATH": str(SOURCES)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1 and events[-1]["event"] == "error" and events[-1]["help"]
