"""The kinds this API server knows, and the discovery documents made from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]
"""A Kubernetes object, or a part of one, as JSON. Objects held by the store are never mutated."""

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource type.

    `generation` says whether the server counts spec changes in `metadata.generation`; `custom`
    marks kinds that a real cluster serves from a CRD: no strategic merge patch, and a PUT has to
    name its resourceVersion.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    status: bool = False
    scale: bool = False
    generation: bool = False
    custom: bool = False

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`deployments.apps`, as messages name it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified(self) -> str:
        """`Deployment.apps`, as validation messages name it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False, short=("ns",), status=True)
SERVICE = Kind("", "v1", "Service", "services", short=("svc",), status=True)
CONFIGMAP = Kind("", "v1", "ConfigMap", "configmaps", short=("cm",))
SECRET = Kind("", "v1", "Secret", "secrets")
EVENT = Kind("", "v1", "Event", "events", short=("ev",))
POD = Kind("", "v1", "Pod", "pods", short=("po",), status=True, generation=True)
DEPLOYMENT = Kind(
    "apps", "v1", "Deployment", "deployments", short=("deploy",),
    status=True, scale=True, generation=True,
)  # fmt: skip
REPLICASET = Kind(
    "apps", "v1", "ReplicaSet", "replicasets", short=("rs",),
    status=True, scale=True, generation=True,
)  # fmt: skip
HPA = Kind(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers",
    short=("hpa",), status=True,
)  # fmt: skip
PDB = Kind(
    "policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", short=("pdb",),
    status=True, generation=True,
)  # fmt: skip
HTTPROUTE = Kind(
    "gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes",
    status=True, generation=True, custom=True,
)  # fmt: skip
GATEWAY = Kind(
    "gateway.networking.k8s.io", "v1", "Gateway", "gateways", short=("gtw",),
    status=True, generation=True, custom=True,
)  # fmt: skip

KINDS: tuple[Kind, ...] = (
    NAMESPACE, SERVICE, CONFIGMAP, SECRET, EVENT, POD,
    DEPLOYMENT, REPLICASET, HPA, PDB, HTTPROUTE, GATEWAY,
)  # fmt: skip

BY_PATH: dict[tuple[str, str, str], Kind] = {(k.group, k.version, k.plural): k for k in KINDS}
BY_NAME: dict[tuple[str, str], Kind] = {(k.api_version, k.kind): k for k in KINDS}


def clone(value: Any) -> Any:
    """A deep copy of JSON data; several times quicker than `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clone(item) for item in value]
    return value


def _groups() -> list[tuple[str, str]]:
    return sorted({(k.group, k.version) for k in KINDS if k.group})


def api_versions() -> Obj:
    """The answer to `GET /api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_group(group: str, version: str) -> Obj:
    """The answer to `GET /apis/<group>`."""
    served = {"groupVersion": f"{group}/{version}", "version": version}
    return {
        "kind": "APIGroup", "apiVersion": "v1", "name": group,
        "versions": [served], "preferredVersion": served,
    }  # fmt: skip


def api_group_list() -> Obj:
    """The answer to `GET /apis`."""
    groups = [
        {k: v for k, v in api_group(g, v).items() if k not in ("kind", "apiVersion")}
        for g, v in _groups()
    ]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def find_group(group: str) -> Obj | None:
    """The discovery document of one group, or None when it is not served."""
    return next((api_group(g, v) for g, v in _groups() if g == group), None)


def resource_list(group: str, version: str) -> Obj | None:
    """The answer to `GET /apis/<group>/<version>` or `GET /api/v1`; None when not served."""
    kinds = [k for k in KINDS if (k.group, k.version) == (group, version)]
    if not kinds:
        return None
    return {
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": kinds[0].api_version,
        "resources": list(_resources(kinds)),
    }  # fmt: skip


def _resources(kinds: Iterable[Kind]) -> Iterable[Obj]:
    for k in kinds:
        yield {
            "name": k.plural, "singularName": k.kind.lower(), "namespaced": k.namespaced,
            "kind": k.kind, "verbs": VERBS, "shortNames": list(k.short),
        }  # fmt: skip
        sub: Obj = {"singularName": "", "namespaced": k.namespaced}
        if k.status:
            verbs = ["get", "patch", "update"]
            yield {**sub, "name": f"{k.plural}/status", "kind": k.kind, "verbs": verbs}
        if k.scale:
            yield {
                **sub, "name": f"{k.plural}/scale", "kind": "Scale", "group": "autoscaling",
                "version": "v1", "verbs": ["get", "patch", "update"],
            }  # fmt: skip
