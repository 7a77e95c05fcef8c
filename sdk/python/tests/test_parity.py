"""The replacements of the SDKs have the names and parameters of the real packages.

The real packages are installed without their dependencies and read, not imported.
"""

import ast
import importlib.metadata
import inspect
import os

import pytest

from strongroom import local

# Parameters that only the real packages use internally, and do not document.
INTERNAL = {"_rehydrate_runs", "_validate_checksum"}


def parse(distribution, file):
    """Returns the syntax tree of a file of an installed package."""
    try:
        found = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"{distribution} is not installed: run scripts/python-tests.sh")
    return ast.parse(found.locate_file(file).read_text(encoding="utf-8"))


def classes(tree):
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def functions(body):
    """Returns the public functions by name. Overloads precede the implementation."""
    return {
        node.name: node
        for node in body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def decorators(node):
    return {ast.unparse(item) for item in node.decorator_list}


def real_parameters(node):
    """Returns name, kind and whether a default exists, for each parameter but the first `self`."""
    arguments = node.args
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    found = [(item.arg, "positional", at >= required) for at, item in enumerate(positional)]
    found += [
        (item.arg, "keyword", default is not None)
        for item, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    if found and found[0][0] in ("self", "cls"):
        found = found[1:]
    return [item for item in found if item[0] not in INTERNAL]


def own_parameters(function):
    kinds = {
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
    }
    found = [
        (item.name, kinds[item.kind], item.default is not item.empty)
        for item in inspect.signature(function).parameters.values()
        if item.kind in kinds
    ]
    return [item for item in found if item[0] not in {"self", *INTERNAL}]


def is_unavailable(function):
    return function.__name__ == "raise_unavailable" or (
        getattr(function, "__doc__", "") or ""
    ).startswith("Not available in a component.")


def assert_same(real_functions, own, *, at_least):
    """Asserts that ``own`` has each function, and the parameters of those that work."""
    missing = [name for name in real_functions if not hasattr(type(own), name)]
    missing = [name for name in missing if name not in vars(own)]
    assert not missing, missing
    compared = 0
    for name, node in real_functions.items():
        function = inspect.getattr_static(own, name)
        function = getattr(function, "__func__", function)
        if isinstance(function, property) or "property" in decorators(node):
            continue
        if any(decorator.endswith(".setter") for decorator in decorators(node)):
            continue
        if is_unavailable(function):
            continue
        own_list = own_parameters(function)
        if own_list and own_list[0][0] == "cls":
            own_list = own_list[1:]
        assert own_list == real_parameters(node), name
        compared += 1
    assert compared >= at_least, compared


class Namespace:
    """A class whose static attributes are those of another, for `assert_same`."""


def test_azureml_run_has_the_methods_of_the_real_one():
    tree = parse("azureml-core", "azureml/core/run.py")
    real = functions(classes(tree)["Run"].body)
    with local.enabled():
        from azureml.core import Run

        assert_same(real, Run("experiment", "id"), at_least=25)


@pytest.mark.parametrize(
    ("file", "name", "at_least"),
    [("azureml/core/keyvault.py", "Keyvault", 8), ("azureml/core/workspace.py", "Workspace", 3)],
)
def test_azureml_vault_and_workspace_have_the_same_parameters(file, name, at_least):
    real = functions(classes(parse("azureml-core", file))[name].body)
    with local.enabled():
        import azureml.core

        cls = getattr(azureml.core, name)
        if name == "Workspace":
            real = {key: real[key] for key in real if key in vars(cls)}
        own = cls("workspace") if name == "Keyvault" else cls()
        assert_same(real, own, at_least=at_least)


def test_azureml_exceptions_exist():
    tree = parse("azureml-core", "azureml/exceptions/__init__.py")
    assigned = next(
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    with local.enabled():
        import azureml.exceptions

        assert set(ast.literal_eval(assigned.value)) <= set(azureml.exceptions.__all__)


def test_secret_client_has_the_methods_of_the_real_one():
    tree = parse("azure-keyvault-secrets", "azure/keyvault/secrets/_client.py")
    real = functions(classes(tree)["SecretClient"].body)
    with local.enabled():
        from azure.keyvault.secrets import SecretClient

        assert_same(real, SecretClient("https://v.vault.azure.net", object()), at_least=4)


@pytest.mark.parametrize(
    "name", ["KeyVaultSecret", "SecretProperties", "DeletedSecret", "KeyVaultSecretIdentifier"]
)
def test_secret_models_have_the_attributes_of_the_real_ones(name):
    tree = parse("azure-keyvault-secrets", "azure/keyvault/secrets/_models.py")
    real = set(functions(classes(tree)[name].body))
    with local.enabled():
        import azure.keyvault.secrets as own

        properties = own.SecretProperties("https://v.vault.azure.net", "name")
        instance = {
            "KeyVaultSecret": lambda: own.KeyVaultSecret(properties, "value"),
            "SecretProperties": lambda: properties,
            "DeletedSecret": lambda: own.DeletedSecret(properties),
            "KeyVaultSecretIdentifier": lambda: own.KeyVaultSecretIdentifier(
                "https://v.vault.azure.net/secrets/name"
            ),
        }[name]()
        assert real, name
        assert [attribute for attribute in real if not hasattr(instance, attribute)] == []


def test_credentials_exist():
    tree = parse("azure-identity", "azure/identity/__init__.py")
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    names = next(n.value for n in assigned if ast.unparse(n.targets[0]) == "__all__")
    real = {name for name in ast.literal_eval(names) if name.endswith("Credential")}
    assert len(real) > 10
    with local.enabled():
        import azure.identity

        assert real <= set(azure.identity.__all__)


def test_mlflow_has_the_functions_of_the_real_one():
    real = functions(parse("mlflow-skinny", "mlflow/tracking/fluent.py").body)
    with local.enabled():
        import mlflow

        own = Namespace()
        vars(own).update({name: getattr(mlflow, name) for name in real if name in vars(mlflow)})
        compared = 0
        missing = [name for name in real if name not in vars(own)]
        assert missing == []
        for name, node in real.items():
            if not is_unavailable(vars(own)[name]):
                assert own_parameters(vars(own)[name]) == real_parameters(node), name
                compared += 1
        assert compared >= 20
