"""Services with a ConfigMap and a Secret that belong to their versions, in a simulated world."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from evals.world.kube.api import MERGE
from evals.world.kube.kinds import CONFIGMAP, SECRET
from evals.world.world import World


def config_of(service: str) -> dict[str, Sequence[str]]:
    """What `config:` says in a service's workload."""
    return {"configmaps": [service], "secrets": [tokens(service)]}


def tokens(service: str) -> str:
    """What its Secret is called; its ConfigMap has the name of the service."""
    return f"{service}-tokens"


def encoded(value: str) -> str:
    """A value as a Secret holds it."""
    return base64.b64encode(value.encode()).decode()


def configure(world: World, service: str, value: str) -> None:
    """Whoever owns the objects changes both."""
    for kind, name, given in (
        (CONFIGMAP, service, value),
        (SECRET, tokens(service), encoded(value)),
    ):
        world.api.patch(kind, "prod", name, {"data": {"mode": given}}, MERGE)
