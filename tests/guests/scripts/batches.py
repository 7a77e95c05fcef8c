"""The batch forms of both SDKs, and the errors that they raise."""

import mlflow
import strongroom
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.keyvault.secrets import SecretClient
from azureml.core import Run, Workspace
from azureml.exceptions import ServiceException

run = Run.get_context()
keyvault = Workspace.from_config().get_default_keyvault()
keyvault.set_secrets({"First": "one-one-one", "second": "two-two-two"})
found = run.get_secrets(["FIRST", "second", "absent"])
print("lengths", {name: value and len(value) for name, value in found.items()})
print("listed", keyvault.list_secrets())
keyvault.delete_secrets(["first", "second"])
print("after", keyvault.list_secrets())
try:
    run.get_secret("absent")
except ServiceException as error:
    print("v1 absent", error.status_code)
try:
    run.get_secrets(["second", "denied"])
except ServiceException as error:
    print("v1 denied", error.status_code, error.message)
client = SecretClient("https://my-vault.vault.azure.net", DefaultAzureCredential())
try:
    client.get_secret("absent")
except ResourceNotFoundError as error:
    print("v2 absent", error.status_code)
try:
    client.set_secret("denied", "x")
except HttpResponseError as error:
    print("v2 denied", error.status_code)
try:
    SecretClient("https://other.vault.azure.net", DefaultAzureCredential())
except strongroom.NotAvailable as error:
    print("v2 vault", error)
try:
    strongroom.secrets.get("a_b")
except strongroom.InvalidName as error:
    print("invalid", error)
print("described", strongroom.secrets.describe("listed").content_type)
print("parameters", strongroom.parameters.all(), len(strongroom.run_id()))
run.tag("stage", "test")
with run:
    run.log_row("row", a=1, b=2.5)
strongroom.progress.report(1, 2, "half")
run.log("stage", "fit", step=2)
run.log("flag", True)
run.add_properties({"origin": "script"})
run.tag("draft", "yes")
run.remove_tags(["draft"])
mlflow.log_params({"rate": 0.01})
mlflow.set_experiment("churn")
mlflow.set_tag("note", "uses " + strongroom.secrets.get("listed") + "\x1b[2J")
strongroom.tags.set("odd", "lone surrogate \udc80")
try:
    strongroom.secrets.set("first", "lone surrogate \udc80")
except strongroom.InvalidValue as error:
    print("value", error)
print("time is left", strongroom.time_left() > 0)
try:
    strongroom.tags.set("long", "x" * 8193)
except strongroom.InvalidReport as error:
    print("report", error)
