"""Who would serve a request now: from routes, Services and pods to shares of traffic.

Works on any source of objects: the emulator's store, or lists read from a real API server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Protocol

from evals.world.controllers.pods import is_ready
from evals.world.kube.kinds import HTTPROUTE, POD, SERVICE, Kind, Obj
from evals.world.kube.rules import image_tag
from evals.world.seed import TRACK, ServiceSpec


class ClusterView(Protocol):
    """Where the objects come from."""

    def objects(self, kind: Kind, namespace: str) -> Iterable[Obj]:
        """All objects of a kind in a namespace, as last seen."""
        ...


@dataclass(frozen=True, slots=True)
class Flow:
    """A share (0 to 1) of one service's traffic in one namespace.

    `outcome` is served, or unavailable (the Service has no ready endpoint: 503), or unresolved
    (there is no such Service: 500). A share of zero means: alive, but without traffic.
    """

    version: str
    track: str
    share: float
    outcome: Literal["served", "unavailable", "unresolved"] = "served"


def _accepted(route: Obj) -> bool:
    generation = route["metadata"].get("generation")
    parents = (route.get("status") or {}).get("parents") or ()
    return any(
        c["type"] == "Accepted" and c["status"] == "True"
        and c.get("observedGeneration") == generation
        for p in parents for c in p.get("conditions") or ()
    )  # fmt: skip


def _weights(route: Obj) -> dict[str, int]:
    """Backend weights of the rule for ordinary requests (one that matches no special header)."""
    rules = route["spec"].get("rules") or []
    plain = [r for r in rules if not any(m.get("headers") for m in r.get("matches") or ())]
    chosen = (plain or rules or [{}])[-1]
    out: dict[str, int] = {}
    for ref in chosen.get("backendRefs") or ():
        out[ref["name"]] = out.get(ref["name"], 0) + int(ref.get("weight", 1))
    return out


class DataPlane:
    """Remembers per route the weights last programmed, as a real gateway does."""

    def __init__(self, view: ClusterView, ignored_routes: Callable[[], Iterable[str]]) -> None:
        self._view = view
        self._ignored = ignored_routes
        self._programmed: dict[tuple[str, str], dict[str, int]] = {}

    def flows(self, spec: ServiceSpec, namespace: str) -> list[Flow]:
        """The flows of a service in a namespace at this moment; their shares add up to 1 or 0."""
        services = {s["metadata"]["name"]: s for s in self._view.objects(SERVICE, namespace)}
        pods = list(self._view.objects(POD, namespace))
        weights = self._program(spec, namespace)
        total = sum(weights.values())
        if not total and weights:
            # The Gateway API: when all weights are zero, requests get 500.
            return [Flow("unknown", "stable", 1.0, "unresolved")]
        out: dict[tuple[str, str, str], Flow] = {}
        for name, weight in weights.items():
            share = weight / total
            for flow in behind(spec, name, services.get(name), pods, share):
                key = (flow.version, flow.track, flow.outcome)
                old = out.get(key)
                both = flow.share + (old.share if old else 0.0)
                out[key] = Flow(flow.version, flow.track, both, flow.outcome)
        return list(out.values())

    def _program(self, spec: ServiceSpec, namespace: str) -> dict[str, int]:
        key = (namespace, spec.route)
        route = next(
            (
                r for r in self._view.objects(HTTPROUTE, namespace)
                if r["metadata"]["name"] == spec.route
            ),
            None,
        )  # fmt: skip
        if route is None:
            self._programmed.pop(key, None)
            return {spec.name: 1}
        frozen = any(fnmatchcase(spec.route, pattern) for pattern in self._ignored())
        if _accepted(route) and not (frozen and key in self._programmed):
            self._programmed[key] = _weights(route)
        return self._programmed.get(key, {spec.name: 1})


def behind(
    spec: ServiceSpec, name: str, service: Obj | None, pods: Iterable[Obj], share: float
) -> list[Flow]:
    """Who answers for one Service: by version and track of the pods that its selector finds, each
    with its part of `share` by how many of them are ready; None: there is no such Service."""
    track = "canary" if name.endswith("-canary") else "stable"
    if service is None:
        return [Flow("unknown", track, share, "unresolved")] if share else []
    selector = service["spec"].get("selector") or {}
    groups: dict[tuple[str, str], list[bool]] = {}
    for pod in pods:
        labels = pod["metadata"].get("labels") or {}
        if selector and all(labels.get(k) == v for k, v in selector.items()):
            containers = pod["spec"]["containers"]
            main = next((c for c in containers if c["name"] == spec.container), containers[0])
            key = (image_tag(main["image"]), labels.get(TRACK, track))
            groups.setdefault(key, []).append(is_ready(pod))
    ready = sum(sum(found) for found in groups.values())
    if not ready:
        # Nobody answers; the failure is put down to the newest known version, if there is any.
        version, where = max(groups, default=("unknown", track))
        dead = [Flow(version, where, share, "unavailable")] if share else []
        return dead + [Flow(v, t, 0.0) for v, t in groups]
    return [Flow(v, t, share * sum(found) / ready) for (v, t), found in groups.items()]
