"""SDK v2's pattern: `azure.keyvault.secrets`, `azure.identity` and `mlflow` over strongroom."""

import pytest

import strongroom
from strongroom import local

URL = "https://my-vault.vault.azure.net"


@pytest.fixture
def host(tmp_path):
    with local.enabled({"db-password": "hunter2"}, output=tmp_path / "output") as host:
        yield host


@pytest.fixture
def client(host):
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.secrets import SecretClient

    return SecretClient(vault_url=URL, credential=DefaultAzureCredential())


def test_documented_snippet(host):
    names = {}
    exec(
        "from azure.identity import DefaultAzureCredential\n"
        "from azure.keyvault.secrets import SecretClient\n"
        "import mlflow\n\n"
        'client = SecretClient(vault_url="https://my-vault.vault.azure.net", '
        "credential=DefaultAzureCredential())\n"
        'password = client.get_secret("db-password").value\n'
        'mlflow.log_metric("loss", 0.25, step=1)\n',
        names,
    )
    assert names["password"] == "hunter2"
    assert host.metrics == {"loss": [(1, 0.25)]}


def test_client_sets_lists_and_deletes(client, host):
    secret = client.set_secret("token", "value")
    assert (secret.name, secret.value) == ("token", "value")
    assert secret.id == f"{URL}/secrets/token" and "value" not in repr(secret)
    assert [item.name for item in client.list_properties_of_secrets()] == ["db-password", "token"]
    poller = client.begin_delete_secret("token")
    assert poller.done() and poller.result().name == "token"
    assert host.secrets == {"db-password": "hunter2"}


def test_missing_secret_is_not_found(client):
    from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

    with pytest.raises(ResourceNotFoundError) as raised:
        client.get_secret("missing")
    assert raised.value.status_code == 404 and isinstance(raised.value, HttpResponseError)
    with pytest.raises(HttpResponseError) as raised:
        client.get_secret("a_b")
    assert raised.value.status_code == 400


def test_second_vault_is_an_error(client):
    from azure.keyvault.secrets import SecretClient

    SecretClient("HTTPS://My-Vault.vault.azure.net/", credential=object())
    with pytest.raises(strongroom.NotAvailable, match="already uses `https://my-vault"):
        SecretClient("https://other.vault.azure.net", credential=object())


def test_parts_that_a_component_lacks(client):
    from azure.identity import CredentialUnavailableError, ManagedIdentityCredential

    with pytest.raises(CredentialUnavailableError, match="the host signs in"):
        ManagedIdentityCredential(client_id="x").get_token("scope")
    with pytest.raises(strongroom.NotAvailable, match="secret-version"):
        client.get_secret("db-password", "1234")
    with pytest.raises(strongroom.NotAvailable, match="component stores values only"):
        client.set_secret("a", "b", tags={"x": "y"})
    with pytest.raises(strongroom.NotAvailable, match="let an operator do it"):
        client.purge_deleted_secret("a")


def test_identifier_is_parsed():
    with local.enabled():
        from azure.keyvault.secrets import KeyVaultSecretIdentifier

        found = KeyVaultSecretIdentifier(f"{URL}/secrets/name/version")
        assert (found.vault_url, found.name, found.version) == (URL, "name", "version")
        with pytest.raises(ValueError):
            KeyVaultSecretIdentifier("nonsense")


def test_mlflow_run_is_the_run_of_the_host(host):
    import mlflow

    assert mlflow.active_run() is None
    with mlflow.start_run(run_name="first") as run:
        assert run.info.run_id == strongroom.run_id()
        mlflow.log_metrics({"a": 1, "b": 2.5}, step=4)
        mlflow.log_params({"c": 1.0})
        with pytest.raises(Exception, match="already active"):
            mlflow.start_run()
    assert mlflow.active_run() is None and mlflow.last_active_run() is run
    assert run.data.metrics == {"a": 1.0, "b": 2.5}
    assert run.data.params == {"c": "1.0"}
    assert run.data.tags == {"mlflow.runName": "first"}
    assert host.metrics == {"a": [(4, 1.0)], "b": [(4, 2.5)]}
    assert host.logged_parameters == {"c": "1.0"}
    assert host.tags == {"mlflow.runName": "first"}
    with pytest.raises(strongroom.NotAvailable, match="fold-1/loss"):
        mlflow.start_run(nested=True)


def test_mlflow_refuses_what_mlflow_refuses(host):
    import mlflow

    with pytest.raises(mlflow.MlflowException):
        mlflow.log_metric("loss", "low")
    mlflow.log_param("c", 1)
    mlflow.log_param("c", 1)
    with pytest.raises(mlflow.exceptions.MlflowException, match="Changing param values"):
        mlflow.log_param("c", 2)


def test_mlflow_tags_are_recorded_and_removed(host):
    import mlflow

    mlflow.set_experiment("churn")
    mlflow.set_tags({"team": "blue", "draft": True})
    mlflow.set_experiment_tag("owner", "a")
    mlflow.delete_tag("draft")
    with pytest.raises(mlflow.MlflowException, match="No tag"):
        mlflow.delete_tag("draft")
    assert host.tags == {"mlflow.experimentName": "churn", "team": "blue", "owner": "a"}


@pytest.mark.parametrize("letter", ["x", "\u20ac"])
def test_mlflow_shortens_long_values(host, capsys, letter):
    import mlflow

    mlflow.log_param("grid", letter * 9000)
    mlflow.log_param("grid", letter * 9000)
    mlflow.set_tag("note", letter * 9000)
    size = len(letter.encode())
    assert host.logged_parameters == {"grid": letter * min(6000, 8192 // size)}
    assert host.tags == {"note": letter * min(8000, 8192 // size)}
    assert "the value of the parameter 'grid' has 9000 characters" in capsys.readouterr().err


def test_mlflow_artifacts(host, tmp_path):
    import mlflow

    (tmp_path / "folder/below").mkdir(parents=True)
    (tmp_path / "folder/below/x.txt").write_text("x")
    mlflow.log_artifact(str(tmp_path / "folder/below/x.txt"))
    mlflow.log_artifact(str(tmp_path / "folder/below/x.txt"), "sub")
    mlflow.log_artifacts(str(tmp_path / "folder"), "all")
    mlflow.log_text("text", "notes/a.txt")
    mlflow.log_dict({"a": 1}, "a.json")
    files = sorted(p.relative_to(host.output).as_posix() for p in host.output.rglob("*.*"))
    assert files == ["a.json", "all/below/x.txt", "notes/a.txt", "sub/x.txt", "x.txt"]


def test_mlflow_parts_that_a_component_lacks(host, capsys):
    import mlflow

    mlflow.autolog()
    assert "call mlflow.log_metric" in capsys.readouterr().out
    mlflow.set_tracking_uri("https://example.com")
    mlflow.set_experiment("x")
    for expression in ("mlflow.search_runs()", "mlflow.sklearn", "mlflow.MlflowClient()"):
        with pytest.raises(strongroom.NotAvailable):
            eval(expression, {"mlflow": mlflow})
    with pytest.raises(strongroom.NotAvailable, match="to its own run"):
        mlflow.log_metric("a", 1, run_id="other")
