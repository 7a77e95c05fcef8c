"""Azure ML SDK v1 in a component: secrets and metrics of the run."""

from strongroom._sdk import unavailable_names

from .experiment import Experiment
from .keyvault import Keyvault
from .run import Run, get_run
from .workspace import Workspace

__all__ = ["Experiment", "Keyvault", "Run", "VERSION", "Workspace", "get_run"]

VERSION = "1.61.0"

_SUBMIT = "start runs outside the component, with `strongroom run`"
_DATA = "give the run its data with `--input DIR` and read it from `/input`"
_MODEL = "write the model to `/output`, and register it after the run"

__getattr__ = unavailable_names(
    __name__,
    {
        "ComputeTarget": _SUBMIT,
        "Container": _SUBMIT,
        "ContainerRegistry": _SUBMIT,
        "Dataset": _DATA,
        "Datastore": _DATA,
        "Environment": _SUBMIT,
        "Image": _SUBMIT,
        "LinkedService": _DATA,
        "Model": _MODEL,
        "PrivateEndPoint": _SUBMIT,
        "PrivateEndPointConfig": _SUBMIT,
        "RunConfiguration": _SUBMIT,
        "ScriptRun": _SUBMIT,
        "ScriptRunConfig": _SUBMIT,
        "SynapseWorkspaceLinkedServiceConfiguration": _DATA,
        "ResourceConfiguration": _SUBMIT,
        "Webservice": _SUBMIT,
    },
)
