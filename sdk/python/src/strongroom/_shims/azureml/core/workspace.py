"""The workspace: a name for the one vault that the host gives to this run."""

from __future__ import annotations

from typing import Any

from strongroom._sdk import OneOf, unavailable, unavailable_function

from .keyvault import Keyvault

_one = OneOf(
    "the workspace",
    "use one workspace, and let the policy map names with `stored-as` if it has to",
)


class Workspace:
    """Leads to the vault of the host. It needs no ``config.json`` and does not sign in."""

    def __init__(
        self,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        workspace_name: str | None = None,
        auth: Any = None,
        _location: Any = None,
        _disable_service_check: bool = False,
        _workspace_id: Any = None,
        sku: Any = None,
        tags: Any = None,
        _cloud: Any = None,
    ) -> None:
        if workspace_name is not None:
            _one.check(workspace_name)
        self.name = workspace_name or "strongroom"
        self.subscription_id = subscription_id
        self.resource_group = resource_group

    @staticmethod
    def from_config(
        path: Any = None, auth: Any = None, _logger: Any = None, _file_name: Any = None
    ) -> Workspace:
        """Returns the workspace. The arguments are not used: the host chooses the vault."""
        return Workspace()

    @staticmethod
    def get(
        name: str,
        auth: Any = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        location: Any = None,
        cloud: Any = None,
        id: Any = None,
    ) -> Workspace:
        """Returns the workspace of this name. A second name in one run is an error."""
        return Workspace(subscription_id, resource_group, name)

    def get_default_keyvault(self) -> Keyvault:
        """Returns the vault of this run."""
        return Keyvault(self)

    def get_details(self) -> dict[str, Any]:
        """Returns what is known about the workspace."""
        return {"name": self.name}

    create = unavailable_function("Workspace.create", "create workspaces outside the component")
    list = unavailable_function("Workspace.list", "a run has one workspace: `from_config()`")
    get_default_datastore = unavailable_function(
        "Workspace.get_default_datastore",
        "give the run its data with `--input DIR` and read it from `/input`",
    )

    def get_mlflow_tracking_uri(self, _with_auth: bool = False) -> str:
        """Returns an address for ``mlflow.set_tracking_uri``, which the host does not need."""
        return "strongroom:run"

    def __getattr__(self, name: str) -> Any:
        if name in {
            "compute_targets", "datasets", "datastores", "environments", "experiments", "images",
            "linked_services", "location", "models", "webservices",
        }:  # fmt: skip
            raise unavailable(
                f"Workspace.{name}", "give the run what it needs with `--input` and `--param`"
            )
        raise AttributeError(f"'Workspace' object has no attribute {name!r}", name=name, obj=self)
