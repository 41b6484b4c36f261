"""The services of a world, and the Kubernetes objects that stand for them at the beginning."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evals.world.kube.api import KubeApi
from evals.world.kube.kinds import (
    BY_NAME,
    CONFIGMAP,
    DEPLOYMENT,
    GATEWAY,
    HTTPROUTE,
    NAMESPACE,
    SECRET,
    SERVICE,
    Kind,
    Obj,
)

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

TRACK = "fermata.dev/track"
MANAGED = {"app.kubernetes.io/managed-by": "fermata"}
GATEWAY_NAME = "fermata"
SEEDER = "fermata-seed"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One service of the world.

    `namespaces` maps environment to namespace. `request_rate` maps namespace to requests a
    simulated second; a namespace that is not named gets `default_rate`. Empty names default to
    `name`.
    """

    name: str
    image: str
    namespaces: Mapping[str, str] = field(default_factory=lambda: {"production": "production"})
    deployment: str = ""
    container: str = ""
    port: int = 8080
    replicas: int = 3
    route: str = ""
    hostnames: Sequence[str] = ()
    request_rate: Mapping[str, float] = field(default_factory=dict)
    default_rate: float = 20.0
    configmaps: Sequence[str] = ()
    secrets: Sequence[str] = ()
    """What its container takes its environment from, besides."""

    def __post_init__(self) -> None:
        for attribute in ("deployment", "container", "route"):
            if not getattr(self, attribute):
                object.__setattr__(self, attribute, self.name)

    def rate(self, namespace: str) -> float:
        """Requests a simulated second in a namespace."""
        return self.request_rate.get(namespace, self.default_rate)


def seed_objects(spec: ServiceSpec) -> list[Obj]:
    """Namespace, Gateway, stable Deployment, both Services and the HTTPRoute, per environment.

    In the order in which they can be created. There is no canary Deployment: a release makes it.
    """
    return [obj for ns in dict.fromkeys(spec.namespaces.values()) for obj in _objects(spec, ns)]


def _objects(spec: ServiceSpec, namespace: str) -> list[Obj]:
    stable = {"app": spec.name, TRACK: "stable"}
    ports = [{"name": "http", "port": 80, "targetPort": spec.port}]

    def make(kind: Kind, name: str, labels: Mapping[str, str], body: Obj) -> Obj:
        meta: Obj = {"name": name, "labels": dict(labels)}
        if kind.namespaced:
            meta["namespace"] = namespace
        return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": body}

    namespaced = make(NAMESPACE, namespace, MANAGED, {})
    del namespaced["spec"]
    data = {"mode": "first"}
    config = [make(CONFIGMAP, name, {}, data) for name in spec.configmaps]
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    config += [make(SECRET, name, {}, encoded) for name in spec.secrets]
    for one in config:
        one["data"] = one.pop("spec")
    listener = {"name": "http", "port": 80, "protocol": "HTTP"}
    container: Obj = {
        "name": spec.container, "image": spec.image,
        "ports": [{"name": "http", "containerPort": spec.port}],
    }  # fmt: skip
    if config:
        refs = [{"configMapRef": {"name": name}} for name in spec.configmaps]
        refs += [{"secretRef": {"name": name}} for name in spec.secrets]
        container["envFrom"] = refs
    return [
        namespaced,
        *config,
        make(
            GATEWAY, GATEWAY_NAME, MANAGED,
            {"gatewayClassName": "fermata-simulated", "listeners": [listener]},
        ),
        make(
            DEPLOYMENT, spec.deployment, {**stable, **MANAGED},
            {
                "replicas": spec.replicas,
                "selector": {"matchLabels": stable},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
                },
                "template": {
                    "metadata": {"labels": stable}, "spec": {"containers": [container]},
                },
            },
        ),
        make(SERVICE, spec.name, {**stable, **MANAGED}, {"selector": stable, "ports": ports}),
        make(
            SERVICE, f"{spec.name}-canary", {"app": spec.name, TRACK: "canary", **MANAGED},
            {"selector": {"app": spec.name, TRACK: "canary"}, "ports": ports},
        ),
        make(
            HTTPROUTE, spec.route, {"app": spec.name, **MANAGED},
            {
                "parentRefs": [{"name": GATEWAY_NAME}],
                "hostnames": list(spec.hostnames) or [f"{spec.name}.{namespace}.example"],
                "rules": [
                    {
                        "backendRefs": [
                            {"name": spec.name, "port": 80, "weight": 100},
                            {"name": f"{spec.name}-canary", "port": 80, "weight": 0},
                        ]
                    }
                ],
            },
        ),
    ]  # fmt: skip


def seed_emulator(api: KubeApi, specs: Iterable[ServiceSpec]) -> None:
    """Create what is not there yet. What a restarted world already has stays as it is."""
    for spec in specs:
        for obj in seed_objects(spec):
            kind = BY_NAME[obj["apiVersion"], obj["kind"]]
            meta = obj["metadata"]
            if api.find(kind, meta.get("namespace", ""), meta["name"]) is None:
                api.create(kind, meta.get("namespace", ""), obj, manager=SEEDER)


def object_path(obj: Obj) -> str:
    """The API path of an object of a kind known here."""
    kind, meta = BY_NAME[obj["apiVersion"], obj["kind"]], obj["metadata"]
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    space = f"/namespaces/{meta['namespace']}" if kind.namespaced else ""
    return f"{root}{space}/{kind.plural}/{meta['name']}"


def apply_seed(api_client: ApiClient, specs: Iterable[ServiceSpec]) -> None:
    """Server-side apply the same objects to any Kubernetes API through the official client.

    Raises the client's ApiException, for instance when the Gateway API's CRDs are not installed.
    """
    for spec in specs:
        for obj in seed_objects(spec):
            request = api_client.param_serialize(
                method="PATCH", resource_path=object_path(obj),
                query_params=[("fieldManager", SEEDER), ("force", "true")],
                header_params={
                    "Content-Type": "application/apply-patch+yaml", "Accept": "application/json",
                },
                body=json.dumps(obj), auth_settings=["BearerToken"],
            )  # fmt: skip
            response = api_client.call_api(*request)
            response.read()  # type: ignore[no-untyped-call]
            api_client.response_deserialize(response, {"200": "object", "201": "object"})
