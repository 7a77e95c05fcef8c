"""The training example in plain Python: logistic regression on encrypted data or on a table.

    train.py prepare | train --from-file | train --from-postgres

Secrets and metrics use the lines of Azure ML SDK v1.
"""

import json
import sys

import age
import dataset
import logistic
from azureml.core import Run
from azureml.exceptions import AzureMLException
from strongroom import input_folder, output_folder, parameters, progress

DATASET_KEY, MODEL_KEY = "dataset-key", "model-key"
DB_USER, DB_PASSWORD = "db-user", "db-password"
PLAIN, SEALED = "breast_cancer.csv", "breast_cancer.csv.age"
SEALED_MODEL, EVALUATION = "model.json.age", "evaluation.md"
FORMAT = "training-example-model-1"


class InputError(Exception):
    """A parameter is not valid."""


def prepare(run: Run) -> None:
    """Encrypts the dataset with a new key, stores the key, and writes only the encrypted file."""
    plain = (input_folder() / PLAIN).read_bytes()
    rows = dataset.parse(plain)
    key = age.Key.generate()
    sealed = key.encrypt(plain)
    # The key first: a run that ends in between leaves no file that nobody can open.
    keyvault = run.experiment.workspace.get_default_keyvault()
    keyvault.set_secret(name=DATASET_KEY, value=key.text())
    (output_folder() / SEALED).write_bytes(sealed)
    count = len(rows.training) + len(rows.held_out)
    print(f"encrypted {count} rows to {SEALED}; its key is the secret `{DATASET_KEY}`")


def train(run: Run, source: str) -> None:
    """Trains, reports, and writes the model encrypted with a new key."""
    c = number("c", 1.0)
    max_iterations = int(number("max-iterations", 100))
    rows = from_file(run) if source == "--from-file" else from_postgres(run)
    scaler = dataset.Scaler.fit(rows.training.features)
    training, held_out = scaler.transform(rows.training), scaler.transform(rows.held_out)
    print(f"training on {len(training)} rows, {len(held_out)} held out")

    def report(iteration: int, loss: float) -> None:
        run.log("loss", loss, step=iteration)
        progress.report(iteration, 0, f"iteration {iteration}: loss {loss:.6f}")

    fit = logistic.fit(training, c, max_iterations, report)
    model = fit.model
    figures = {
        "train-log-loss": model.log_loss(training),
        "held-out-log-loss": model.log_loss(held_out),
        "held-out-accuracy": model.accuracy(held_out),
    }
    for name, value in {**figures, "intercept": model.intercept}.items():
        run.log(name, value)
    if not fit.converged:
        print(f"warning: not converged after {fit.iterations} iterations", file=sys.stderr)

    content = {
        "format": FORMAT,
        "classes": dataset.CLASSES,
        "features": dataset.FEATURES,
        "mean": scaler.mean,
        "deviation": scaler.deviation,
        "coefficients": model.coefficients,
        "intercept": model.intercept,
        "c": c,
        "iterations": fit.iterations,
        "converged": fit.converged,
        "figures": figures,
    }
    key = age.Key.generate()
    sealed = key.encrypt(json.dumps(content, indent=2).encode())
    keyvault = run.experiment.workspace.get_default_keyvault()
    keyvault.set_secret(name=MODEL_KEY, value=key.text())
    (output_folder() / SEALED_MODEL).write_bytes(sealed)
    (output_folder() / EVALUATION).write_text(evaluation(fit, figures), "utf-8")
    print(
        f"{fit.iterations} iterations: log loss {figures['train-log-loss']:.5f} in training, "
        f"{figures['held-out-log-loss']:.5f} held out; "
        f"accuracy {figures['held-out-accuracy']:.4f} held out"
    )
    print(f"encrypted the model to {SEALED_MODEL}; its key is the secret `{MODEL_KEY}`")


def from_file(run: Run) -> dataset.Dataset:
    """Decrypts the dataset with its key from the vault."""
    key = age.Key.parse(run.get_secret(name=DATASET_KEY))
    return dataset.parse(key.decrypt((input_folder() / SEALED).read_bytes()))


def from_postgres(run: Run) -> dataset.Dataset:
    """Reads the table, with user and password from the vault."""
    import database

    location = [parameters.get(name) for name in ("db-address", "db-name", "db-table")]
    if not all(location):
        raise InputError("the parameters `db-address`, `db-name` and `db-table` are needed")
    # One request, so that the policy grants both or neither.
    login = run.get_secrets([DB_USER, DB_PASSWORD])
    if None in login.values():
        raise InputError("the vault has no `db-user` or no `db-password`")
    return database.load(*location, login[DB_USER], login[DB_PASSWORD])


def number(name: str, default: float) -> float:
    """Returns a parameter that is a number above 0."""
    try:
        value = float(parameters.get(name, default))
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise InputError(f"the parameter `{name}` has to be a number above 0")
    return value


def evaluation(fit: logistic.Fit, figures: dict[str, float]) -> str:
    """Returns the figures in readable form."""
    lines = [
        "# Evaluation", "", f"{fit.iterations} iterations; converged: {fit.converged}", "",
        "| figure | value |", "|---|---|",
        *(f"| {name} | {value:.5f} |" for name, value in figures.items()), "",
        "| feature | coefficient |", "|---|---|",
    ]  # fmt: skip
    pairs = zip(dataset.FEATURES, fit.model.coefficients, strict=True)
    weightiest = sorted(pairs, key=lambda pair: -abs(pair[1]))[:8]
    lines += [f"| {feature} | {coefficient:.5f} |" for feature, coefficient in weightiest]
    return "\n".join(lines) + "\n"


def main() -> None:
    run = Run.get_context()
    match sys.argv[1:]:
        case ["prepare"]:
            prepare(run)
        case ["train", ("--from-file" | "--from-postgres") as source]:
            train(run, source)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main()
    except (AzureMLException, InputError, age.AgeError, dataset.DataError, OSError) as error:
        sys.exit(f"error: {error}")
