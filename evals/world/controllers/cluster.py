"""Housekeeping: garbage collection, namespaces, disruption budgets, and the gateway's answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from datetime import datetime

from evals.world.clock import rfc3339
from evals.world.controllers.pods import MANAGER, is_ready
from evals.world.kube.api import KubeApi
from evals.world.kube.kinds import (
    HTTPROUTE,
    KINDS,
    NAMESPACE,
    PDB,
    POD,
    SERVICE,
    Obj,
    clone,
)
from evals.world.kube.selectors import spec_matches
from evals.world.kube.store import Change, Key

GATEWAY_CONTROLLER = "fermata.dev/simulated-gateway"


class GarbageCollector:
    """Deletes dependents of what was deleted. A key is (namespace, uid of the owner)."""

    name = "garbage-collector"

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def touched(self, change: Change) -> Iterable[Key]:
        """Every deletion; a namespace's dependents are what it contains."""
        if change.type == "DELETED":
            yield change.key[0], change.object["metadata"]["uid"]
            if change.kind is NAMESPACE:
                yield change.key[1], ""

    def all_keys(self) -> Iterable[Key]:
        """Dependents whose owner went while nobody was looking."""
        alive = {o["metadata"]["uid"] for kind in KINDS for o in self._api.store.all(kind)}
        for kind in KINDS:
            for obj in self._api.store.all(kind):
                for owner in obj["metadata"].get("ownerReferences") or ():
                    if owner["uid"] not in alive:
                        yield obj["metadata"].get("namespace", ""), owner["uid"]

    def reconcile(self, key: Key) -> datetime | None:
        """Delete everything that names this owner (or lives in this namespace)."""
        namespace, uid = key
        for kind in KINDS:
            for obj in self._api.store.all(kind, namespace) if kind.namespaced else ():
                owners = [o["uid"] for o in obj["metadata"].get("ownerReferences") or ()]
                if not uid or (uid in owners and len(owners) == 1):
                    self._api.delete(kind, namespace, obj["metadata"]["name"])
        return None


class DisruptionBudgets:
    """Counts healthy pods into each PodDisruptionBudget's status."""

    name = "disruption"

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def touched(self, change: Change) -> Iterable[Key]:
        """The budget, or every budget of a namespace whose pods changed."""
        if change.kind is PDB and change.type != "DELETED":
            yield change.key
        elif change.kind is POD:
            for budget in self._api.store.all(PDB, change.key[0]):
                yield change.key[0], budget["metadata"]["name"]

    def all_keys(self) -> Iterable[Key]:
        """Every budget."""
        return [(b["metadata"]["namespace"], b["metadata"]["name"]) for b in self._api.select(PDB)]

    def reconcile(self, key: Key) -> datetime | None:
        """Write expectedPods, currentHealthy, desiredHealthy and disruptionsAllowed."""
        budget = self._api.find(PDB, *key)
        if budget is None:
            return None
        spec = budget["spec"]
        pods = [
            p for p in self._api.store.all(POD, key[0])
            if spec_matches(spec.get("selector"), p["metadata"].get("labels") or {})
        ]  # fmt: skip
        expected, healthy = len(pods), sum(is_ready(p) for p in pods)
        if spec.get("maxUnavailable") is not None:
            wanted = expected - _share(spec["maxUnavailable"], expected)
        else:
            wanted = _share(spec.get("minAvailable", 0), expected)
        allowed = max(0, healthy - wanted)
        status: Obj = {
            "observedGeneration": budget["metadata"]["generation"], "expectedPods": expected,
            "currentHealthy": healthy, "desiredHealthy": max(0, wanted),
            "disruptionsAllowed": allowed,
        }  # fmt: skip
        if status != budget.get("status"):
            self._api.update(
                PDB, *key, {**budget, "status": status}, subresource="status", manager=MANAGER
            )
        return None


def _share(value: int | str, whole: int) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return math.ceil(int(value[:-1]) * whole / 100)
    return int(value)


def route_parents(
    route: Obj, has_service: Callable[[str], bool], now: datetime, refused: str = ""
) -> list[Obj]:
    """What a gateway reports on a route: Accepted, and ResolvedRefs per its backend Services.

    `refused` is why it cannot be programmed as it stands. Keeps `lastTransitionTime` where a
    condition's status did not change.
    """
    generation, stamp = route["metadata"]["generation"], rfc3339(now)
    missing = [
        ref["name"]
        for rule in route["spec"].get("rules") or ()
        for ref in rule.get("backendRefs") or ()
        if not has_service(ref["name"])
    ]
    before = {
        (str(p["parentRef"]), c["type"]): c
        for p in (route.get("status") or {}).get("parents") or ()
        for c in p.get("conditions") or ()
    }
    result = []
    for parent in route["spec"].get("parentRefs") or [{"name": "fermata"}]:
        conditions = []
        for kind, good, reason, message in (
            (
                "Accepted", not refused,
                "UnsupportedValue" if refused else "Accepted",
                refused or "Route is accepted",
            ),
            (
                "ResolvedRefs", not missing,
                "BackendNotFound" if missing else "ResolvedRefs",
                f"Service not found: {', '.join(sorted(set(missing)))}" if missing
                else "All references are resolved",
            ),
        ):  # fmt: skip
            status = "True" if good else "False"
            old = before.get((str(parent), kind))
            since = old["lastTransitionTime"] if old and old["status"] == status else stamp
            conditions.append(
                {
                    "type": kind, "status": status, "reason": reason, "message": message,
                    "observedGeneration": generation, "lastTransitionTime": since,
                }
            )  # fmt: skip
        result.append(
            {
                "parentRef": clone(parent), "controllerName": GATEWAY_CONTROLLER,
                "conditions": conditions,
            }
        )  # fmt: skip
    return result


class Gateways:
    """Reports on every HTTPRoute, unless `down` says that the gateway's controller is away."""

    name = "gateway"

    def __init__(self, api: KubeApi, down: Callable[[], bool]) -> None:
        self._api = api
        self._down = down

    def touched(self, change: Change) -> Iterable[Key]:
        """The route, or every route of a namespace whose Services came or went."""
        if change.kind is HTTPROUTE and change.type != "DELETED":
            yield change.key
        elif change.kind is SERVICE and change.type != "MODIFIED":
            for route in self._api.store.all(HTTPROUTE, change.key[0]):
                yield change.key[0], route["metadata"]["name"]

    def all_keys(self) -> Iterable[Key]:
        """Every route."""
        return [
            (r["metadata"]["namespace"], r["metadata"]["name"]) for r in self._api.select(HTTPROUTE)
        ]

    def reconcile(self, key: Key) -> datetime | None:
        """Write status.parents for the present generation."""
        route = self._api.find(HTTPROUTE, *key)
        if route is None or self._down():
            return None
        parents = route_parents(
            route, lambda name: self._api.find(SERVICE, key[0], name) is not None,
            self._api.clock.now(),
        )  # fmt: skip
        if parents != (route.get("status") or {}).get("parents"):
            self._api.update(
                HTTPROUTE, *key, {**route, "status": {"parents": parents}},
                subresource="status", manager=GATEWAY_CONTROLLER,
            )  # fmt: skip
        return None
