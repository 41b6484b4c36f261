"""What the cluster actions share: finding objects, scaling, wording what is missing or was done."""

from __future__ import annotations

from typing import Any

from domain.configuration import Configuration
from domain.effect import Applied
from domain.errors import Permanent
from domain.service import Target
from tools.cluster_client import DEPLOYMENT, HPA, ClusterClient, Kind
from tools.cluster_errors import Json
from tools.cluster_hand import Change, Hand, Shape
from tools.cluster_objects import FULL, check_owned, full_replicas, notes_of, replicas


async def own_stable(client: ClusterClient, target: Target) -> Json:
    """The stable Deployment. Raises Permanent when it is missing or not ours."""
    name = target.workload.deployment
    found = await client.get(DEPLOYMENT, target.namespace, name)
    if found is None:
        raise missing(DEPLOYMENT, target, name)
    check_owned(DEPLOYMENT, found)
    return found


async def is_autoscaled(client: ClusterClient, target: Target, name: str) -> bool:
    """Whether a HorizontalPodAutoscaler sizes this Deployment."""
    for scaler in await client.items(HPA, target.namespace):
        ref = scaler["spec"]["scaleTargetRef"]
        if ref.get("kind") == "Deployment" and ref.get("name") == name:
            return True
    return False


async def scale(
    hand: Hand, target: Target, name: str, count: int, *, note_full: int | None = None
) -> Change:
    """Scale a Deployment; `note_full` is written on it for as long as it has fewer pods."""

    def scaled(current: Json | None) -> Json:
        if current is None:
            raise missing(DEPLOYMENT, target, name)
        changed = {**current, "spec": {**current["spec"], "replicas": count}}
        if note_full is None:
            return changed
        return with_note(changed, str(note_full) if count < note_full else None)

    return await hand.ensure(DEPLOYMENT, target.namespace, name, scaled)


def with_note(deployment: Json, full: str | None) -> Json:
    """A copy with, or without, the note on how many pods it has at full strength."""
    noted = {key: value for key, value in notes_of(deployment).items() if key != FULL}
    if full is not None:
        noted[FULL] = full
    return {**deployment, "metadata": {**deployment["metadata"], "annotations": noted}}


def at_full(deployment: Json, target: Target) -> Json:
    """A copy of stable with all its pods back, and none of those that somebody has added gone."""
    count = max(full_replicas(deployment, target), replicas(deployment))
    return with_note({**deployment, "spec": {**deployment["spec"], "replicas": count}}, None)


def unless_present(body: Json) -> Shape:
    """The shape of an object that is made when it is missing and otherwise left as it is."""
    return lambda current: body if current is None else current


def missing(kind: Kind, target: Target, name: str) -> Permanent:
    """There is no such object, and this action is not the one that makes it."""
    hint = {
        "Deployment": "deploy stable first (a first install makes it), or correct "
        "workload.deployment and namespace in services.yaml",
        "HTTPRoute": "create it, or correct workload.route in services.yaml; without `route` the "
        "pods are the weight",
        "Rollout": "create it: an existing Rollout is driven, none is made; or correct "
        "workload.deployment and namespace in services.yaml",
    }.get(kind.kind, f"create it, or correct the workload of {target.service} in services.yaml")
    return Permanent(f"there is no {kind.kind} {target.namespace}/{name}", hint)


def applied(hand: Hand, summary: str, change: Change, data: dict[str, Any]) -> Applied:
    """The report on an action, from the last object it looked at or wrote."""
    return report(hand.client, summary, change.obj, {"changed": change.did != "nothing", **data})


def told(versions: Configuration) -> dict[str, Any]:
    """The configuration in a report; nothing where there is none."""
    return {"config": [str(one) for one in versions]} if versions else {}


def report(client: ClusterClient, summary: str, obj: Json, data: dict[str, Any]) -> Applied:
    """`data` with the object's identity; `simulated` when the server said that it is."""
    meta = obj["metadata"]
    identity = {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta.get("uid"),
        "resource_version": meta.get("resourceVersion"),
    }
    return Applied(summary=summary, data={**identity, **data}, simulated=client.simulated)
