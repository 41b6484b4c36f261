"""The objects that carry a release, as pure functions on their JSON: names, marks, manifests.

Two Deployments with disjoint selectors (`app` and `fermata.dev/track`), a Service each, and an
HTTPRoute over both Services. Nothing here talks to a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

from domain.effect import Stamp
from domain.errors import Permanent
from domain.service import Target
from tools.cluster_client import Kind
from tools.cluster_errors import Json

TRACK = "fermata.dev/track"
MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "fermata"
ADOPT = "fermata.dev/adopt"
RUN, STEP, DIGEST = "fermata.dev/run", "fermata.dev/step", "fermata.dev/digest"
FULL = "fermata.dev/full-replicas"
"""On stable: its replicas before replica weighting took some away."""
SERVICE_PORT = 80


def canary_name(target: Target) -> str:
    """Name of the canary's Deployment and Service."""
    return f"{target.workload.deployment}-canary"


# --- marks ---


def notes_of(obj: Json) -> dict[str, str]:
    """The object's annotations; empty when it has none."""
    return obj["metadata"].get("annotations") or {}


def labels_of(obj: Json) -> dict[str, str]:
    """The object's labels; empty when it has none."""
    return obj["metadata"].get("labels") or {}


def is_owned(obj: Json) -> bool:
    """Whether we may change the object: it is ours, or its owner has said that we may."""
    return labels_of(obj).get(MANAGED_BY) == OWNER or notes_of(obj).get(ADOPT) == "true"


def check_owned(kind: Kind, obj: Json) -> None:
    """Raises Permanent, with both ways to hand the object over, unless we may change it."""
    if is_owned(obj):
        return
    meta = obj["metadata"]
    owner = labels_of(obj).get(MANAGED_BY)
    whose = f"is managed by {owner}" if owner else "does not belong to Fermata"
    kubectl = f"kubectl -n {meta['namespace']}"
    raise Permanent(
        f"{kind.kind} {meta['namespace']}/{meta['name']} {whose}, so it is left alone",
        f"hand it over with `{kubectl} label {kind.resource} {meta['name']} "
        f"{MANAGED_BY}={OWNER} --overwrite`, or let its owner keep the label and allow changes "
        f"with `{kubectl} annotate {kind.resource} {meta['name']} {ADOPT}=true`",
    )


def stamped(obj: Json, stamp: Stamp) -> Json:
    """A copy that says which run and step made it so, and the digest of what was decided."""
    marks = {RUN: str(stamp.run_id), STEP: stamp.step_id, DIGEST: stamp.digest}
    meta = obj["metadata"]
    return {
        **obj,
        "metadata": {**meta, "annotations": {**(meta.get("annotations") or {}), **marks}},
    }


def bears(obj: Json, stamp: Stamp) -> bool:
    """Whether the object's last change by us is this very action."""
    found = notes_of(obj)
    wanted = (str(stamp.run_id), stamp.step_id, stamp.digest)
    return (found.get(RUN), found.get(STEP), found.get(DIGEST)) == wanted


def difference(old: Json, new: Json) -> Json:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; lists are replaced whole."""
    patch: Json = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, dict) and isinstance(before, dict):
            if inner := difference(before, value):
                patch[key] = inner
        elif value != before:
            patch[key] = value
    return patch


# --- selectors ---


def selects(selector: Mapping[str, object] | None, found: Mapping[str, str]) -> bool:
    """Whether a Deployment's label selector matches labels. An empty one matches everything."""
    selector = selector or {}
    wanted = selector.get("matchLabels")
    if isinstance(wanted, dict) and any(found.get(k) != v for k, v in wanted.items()):
        return False
    rules = selector.get("matchExpressions")
    return all(_satisfied(rule, found) for rule in rules) if isinstance(rules, list) else True


def _satisfied(rule: Json, found: Mapping[str, str]) -> bool:
    value, among = found.get(rule["key"]), rule.get("values") or []
    match rule["operator"]:
        case "In":
            return value is not None and value in among
        case "NotIn":
            return value is None or value not in among
        case "Exists":
            return value is not None
        case _:
            return value is None


def service_selects(service: Json, found: Mapping[str, str]) -> bool:
    """Whether a Service sends traffic to pods with these labels. Without a selector: to none."""
    selector = service["spec"].get("selector") or {}
    return bool(selector) and all(found.get(k) == v for k, v in selector.items())


def track_labels(target: Target, stable: Json, track: str) -> dict[str, str]:
    """Labels that pods of a track carry, after those that stable's pods have."""
    template = stable["spec"]["template"]["metadata"].get("labels") or {}
    return {"app": target.service, **template, TRACK: track}


def selector_of(target: Target, pod_labels: Mapping[str, str]) -> dict[str, str]:
    """The two labels by which a track's pods are told apart."""
    return {"app": pod_labels.get("app", target.service), TRACK: pod_labels[TRACK]}


# --- reading a Deployment ---


def replicas(deployment: Json) -> int:
    """Wanted replicas; the API's default is 1."""
    wanted = deployment["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def container_index(deployment: Json, target: Target) -> int:
    """Where the workload's container is. Raises Permanent that names those that exist."""
    names = [one["name"] for one in deployment["spec"]["template"]["spec"]["containers"]]
    if target.workload.container in names:
        return names.index(target.workload.container)
    raise Permanent(
        f"{deployment.get('kind', 'Deployment')} {target.namespace}/"
        f"{deployment['metadata']['name']} has no container "
        f"{target.workload.container!r}",
        f"set workload.container of {target.service} in services.yaml to one of: "
        + ", ".join(names),
    )


def image_of(deployment: Json, target: Target) -> str:
    """Image of the workload's container. Raises Permanent when there is no such container."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return str(containers[container_index(deployment, target)]["image"])


def with_image(deployment: Json, target: Target, image: str) -> Json:
    """A copy whose workload container runs `image`; everything else stays as it is."""
    index = container_index(deployment, target)
    changed = deepcopy(deployment)
    changed["spec"]["template"]["spec"]["containers"][index]["image"] = image
    return changed


def full_replicas(stable: Json, target: Target) -> int:
    """What stable needs to carry all traffic: what it had before replica weighting took some
    away, or else what the catalogue says, but never less than it has: somebody may have asked for
    more since."""
    noted = notes_of(stable).get(FULL, "")
    return max(replicas(stable), int(noted) if noted.isdigit() else target.replicas)


# --- manifests ---


def manifest(kind: Kind, target: Target, name: str, own: Mapping[str, str], spec: Json) -> Json:
    """An object of ours, not yet stamped."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": target.namespace,
            "labels": {**own, MANAGED_BY: OWNER},
        },
        "spec": spec,
    }


def service_spec(target: Target, selector: Mapping[str, str]) -> Json:
    """Port 80 to the workload's port, for pods with these labels."""
    port = {"name": "http", "port": SERVICE_PORT, "targetPort": target.workload.port}
    return {"selector": dict(selector), "ports": [port]}


def canary_of(stable: Json, target: Target, image: str, count: int) -> Json:
    """The canary's spec: stable's own, with another image, track, selector and size.

    Cloning keeps environment, resources, probes and volumes the same, so that the image is the
    only thing that the comparison of both versions can be about.
    """
    spec = deepcopy(with_image(stable, target, image)["spec"])
    spec.pop("paused", None)
    pod_labels = track_labels(target, stable, "canary")
    spec["template"]["metadata"]["labels"] = pod_labels
    spec["selector"] = {"matchLabels": selector_of(target, pod_labels)}
    spec["replicas"] = count
    return spec  # type: ignore[no-any-return]


def first_deployment_spec(target: Target, image: str) -> Json:
    """A Deployment for a service that runs nowhere yet.

    The security context meets the restricted Pod Security Standard; requests and limits are small
    and meant to be changed to what the service needs, which later releases keep.
    """
    pod_labels = {"app": target.service, TRACK: "stable"}
    port = target.workload.port
    container = {
        "name": target.workload.container,
        "image": image,
        "ports": [{"name": "http", "containerPort": port}],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 5},
        "livenessProbe": {
            "tcpSocket": {"port": port},
            "periodSeconds": 10,
            "failureThreshold": 6,
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    return {
        "replicas": target.replicas,
        "selector": {"matchLabels": pod_labels},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "template": {
            "metadata": {"labels": pod_labels},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
            },
        },
    }
