"""What the server does to an object before storing it: type checks, defaults, validation.

Only fields that a release touches are checked; unknown fields pass. Wording and field paths follow
the real server's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

from evals.world.kube.errors import Cause, bad_request
from evals.world.kube.kinds import (
    CONFIGMAP,
    DEPLOYMENT,
    EVENT,
    GATEWAY,
    HPA,
    HTTPROUTE,
    NAMESPACE,
    PDB,
    POD,
    REPLICASET,
    SECRET,
    SERVICE,
    Kind,
    Obj,
)
from evals.world.kube.selectors import spec_matches

_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_SUBDOMAIN_HELP = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_HELP = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
    "'12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_IMMUTABLE = "field is immutable"
_WORKLOADS = (DEPLOYMENT, REPLICASET)

_TYPES: dict[Kind, tuple[tuple[str, str, type | tuple[type, ...], str], ...]] = {
    DEPLOYMENT: (
        ("spec.replicas", "DeploymentSpec.spec.replicas", int, "int32"),
        ("spec.paused", "DeploymentSpec.spec.paused", bool, "bool"),
        ("spec.minReadySeconds", "DeploymentSpec.spec.minReadySeconds", int, "int32"),
        ("spec.selector", "DeploymentSpec.spec.selector", dict, "v1.LabelSelector"),
        ("spec.template", "DeploymentSpec.spec.template", dict, "v1.PodTemplateSpec"),
        (
            "spec.template.spec.containers",
            "PodSpec.spec.template.spec.containers", list, "[]v1.Container",
        ),
    ),
    REPLICASET: (("spec.replicas", "ReplicaSetSpec.spec.replicas", int, "int32"),),
    SERVICE: (("spec.ports", "ServiceSpec.spec.ports", list, "[]v1.ServicePort"),),
    POD: (("spec.containers", "PodSpec.spec.containers", list, "[]v1.Container"),),
    CONFIGMAP: (("data", "ConfigMap.data", dict, "map[string]string"),),
    SECRET: (("data", "Secret.data", dict, "map[string][]uint8"),),
    HPA: (("spec.maxReplicas", "HorizontalPodAutoscalerSpec.spec.maxReplicas", int, "int32"),),
}  # fmt: skip


def check_types(kind: Kind, obj: Obj) -> None:
    """What decoding into Go structs refuses. Raises 400."""
    meta = obj.get("metadata")
    checks = [
        ("metadata.labels", "ObjectMeta.metadata.labels", dict, "map[string]string"),
        ("metadata.annotations", "ObjectMeta.metadata.annotations", dict, "map[string]string"),
        ("metadata.name", "ObjectMeta.metadata.name", str, "string"),
        ("spec", f"{kind.kind}.spec", dict, f"{kind.version}.{kind.kind}Spec"),
        ("status", f"{kind.kind}.status", dict, f"{kind.version}.{kind.kind}Status"),
        *_TYPES.get(kind, ()),
    ]
    if meta is not None and not isinstance(meta, dict):
        raise _undecodable(kind, meta, f"{kind.kind}.metadata", "v1.ObjectMeta")
    for path, go_field, wanted, go_type in checks:
        value: Any = obj
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        is_wrong_bool = isinstance(value, bool) and wanted is int
        if value is not None and (not isinstance(value, wanted) or is_wrong_bool):
            raise _undecodable(kind, value, go_field, go_type)
    for field in ("labels", "annotations"):
        for value in ((meta or {}).get(field) or {}).values():
            if not isinstance(value, str):
                raise _undecodable(kind, value, f"ObjectMeta.metadata.{field}", "string")


def _undecodable(kind: Kind, value: Any, go_field: str, go_type: str) -> Exception:
    names = {dict: "object", list: "array", str: "string", bool: "bool"}
    given = names.get(type(value), "number")
    return bad_request(
        f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: json: '
        f"cannot unmarshal {given} into Go struct field {go_field} of type {go_type}"
    )


# --- defaults -------------------------------------------------------------------------------------


def _default_pod_spec(spec: Obj) -> None:
    for name, value in (
        ("restartPolicy", "Always"), ("terminationGracePeriodSeconds", 30),
        ("dnsPolicy", "ClusterFirst"), ("securityContext", {}),
        ("schedulerName", "default-scheduler"),
    ):  # fmt: skip
        spec.setdefault(name, value)
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        if not isinstance(container, dict):
            continue
        image = str(container.get("image", ""))
        tag = image_tag(image)
        latest = tag in ("", "latest") and "@" not in image
        container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        for port in container.get("ports") or ():
            port.setdefault("protocol", "TCP")


def image_tag(image: str) -> str:
    """The tag of `registry/name:tag@digest`; the digest's first 12 digits when there is no tag."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if colon:
        return tag
    return digest.rpartition(":")[2][:12]


def _default_deployment(obj: Obj) -> None:
    spec = obj["spec"]
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.get("rollingUpdate") or {}
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
        strategy["rollingUpdate"] = rolling
    _default_template(spec)


def _default_template(spec: Obj) -> None:
    template = spec.setdefault("template", {})
    _default_pod_spec(template.setdefault("spec", {}))


def _default_replicaset(obj: Obj) -> None:
    obj["spec"].setdefault("replicas", 1)
    _default_template(obj["spec"])


def _default_service(obj: Obj) -> None:
    spec = obj["spec"]
    for name, value in (
        ("type", "ClusterIP"), ("sessionAffinity", "None"), ("internalTrafficPolicy", "Cluster"),
        ("ipFamilies", ["IPv4"]), ("ipFamilyPolicy", "SingleStack"),
    ):  # fmt: skip
        spec.setdefault(name, value)
    if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
        # Derived from the name so that two runs of a world look alike.
        name = obj["metadata"].get("namespace", "") + "/" + obj["metadata"]["name"]
        a, b = hashlib.sha256(name.encode()).digest()[:2]
        spec["clusterIP"] = f"10.96.{a}.{b}"
        spec["clusterIPs"] = [spec["clusterIP"]]
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))


def _default_secret(obj: Obj) -> None:
    obj.setdefault("type", "Opaque")
    for name, text in (obj.pop("stringData", None) or {}).items():
        data = obj.setdefault("data", {})
        data[name] = base64.b64encode(str(text).encode()).decode()


def _default_namespace(obj: Obj) -> None:
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    obj["spec"].setdefault("finalizers", ["kubernetes"])
    obj.setdefault("status", {"phase": "Active"})


def _default_route(obj: Obj) -> None:
    for parent in obj["spec"].get("parentRefs") or ():
        parent.setdefault("group", "gateway.networking.k8s.io")
        parent.setdefault("kind", "Gateway")
    for rule in obj["spec"].get("rules") or ():
        rule.setdefault("matches", [{"path": {"type": "PathPrefix", "value": "/"}}])
        for ref in rule.get("backendRefs") or ():
            ref.setdefault("group", "")
            ref.setdefault("kind", "Service")
            ref.setdefault("weight", 1)


def _default_pod(obj: Obj) -> None:
    _default_pod_spec(obj["spec"])
    obj.setdefault("status", {}).setdefault("phase", "Pending")


def _default_hpa(obj: Obj) -> None:
    obj["spec"].setdefault("minReplicas", 1)


_DEFAULTS: dict[Kind, Callable[[Obj], None]] = {
    DEPLOYMENT: _default_deployment, REPLICASET: _default_replicaset, SERVICE: _default_service,
    SECRET: _default_secret, NAMESPACE: _default_namespace, HTTPROUTE: _default_route,
    POD: _default_pod, HPA: _default_hpa,
}  # fmt: skip


def fill_defaults(kind: Kind, obj: Obj) -> None:
    """Put the server's defaults into `obj`, in place. Expects types to have been checked."""
    if kind not in (CONFIGMAP, SECRET, EVENT) and obj.get("spec") is None:
        obj["spec"] = {}
    if default := _DEFAULTS.get(kind):
        default(obj)


# --- validation -----------------------------------------------------------------------------------


def validate(kind: Kind, obj: Obj, old: Obj | None) -> list[Cause]:
    """All reasons why `obj` may not be stored (over `old`, if given). Empty means valid."""
    causes = _metadata(kind, obj)
    spec = obj.get("spec") or {}
    if kind in _WORKLOADS:
        causes += _workload(kind, spec, (old or {}).get("spec"))
    elif kind is POD:
        causes += _pod_spec("spec", spec)
    elif kind is SERVICE:
        causes += _service(spec, (old or {}).get("spec"))
    elif kind is HTTPROUTE:
        causes += _route(spec)
    elif kind is HPA:
        causes += _hpa(spec)
    elif kind is PDB:
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            detail = "minAvailable and maxUnavailable cannot be both set"
            causes.append(Cause("spec", "Invalid value", detail, spec))
    elif kind is GATEWAY:
        causes += [
            Cause(f"spec.{f}", "Required value")
            for f in ("gatewayClassName", "listeners")
            if not spec.get(f)
        ]
    elif kind is SECRET:
        causes += _secret(obj)
    immutable = kind in (CONFIGMAP, SECRET) and old is not None and old.get("immutable")
    if immutable and any(obj.get(f) != (old or {}).get(f) for f in ("data", "binaryData")):
        causes.append(Cause("data", "Forbidden", "field is immutable when `immutable` is set"))
    return causes


def _metadata(kind: Kind, obj: Obj) -> list[Cause]:
    meta = obj["metadata"]
    name = meta.get("name", "")
    causes = []
    if not name:
        detail = "name or generateName is required"
        return [Cause("metadata.name", "Required value", detail)]
    pattern = _LABEL if kind in (NAMESPACE, SERVICE) else _SUBDOMAIN
    if len(name) > 253 or not pattern.fullmatch(name):
        causes.append(Cause("metadata.name", "Invalid value", _SUBDOMAIN_HELP, name))
    for value in (meta.get("labels") or {}).values():
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            detail = _LABEL_HELP
            causes.append(Cause("metadata.labels", "Invalid value", detail, value))
    return causes


def _workload(kind: Kind, spec: Obj, old: Obj | None) -> list[Cause]:
    causes = []
    if spec.get("replicas", 0) < 0:
        detail = "must be greater than or equal to 0"
        causes.append(Cause("spec.replicas", "Invalid value", detail, spec["replicas"]))
    selector, template = spec.get("selector"), spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector:
        causes.append(Cause("spec.selector", "Required value"))
        detail = "`selector` does not match template `labels`"
        causes.append(Cause("spec.template.metadata.labels", "Invalid value", detail, labels))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        detail = "empty selector is invalid for deployment"
        causes.append(Cause("spec.selector", "Invalid value", detail, selector))
    elif not spec_matches(selector, labels):
        detail = "`selector` does not match template `labels`"
        causes.append(Cause("spec.template.metadata.labels", "Invalid value", detail, labels))
    if old is not None and selector != old.get("selector"):
        causes.append(Cause("spec.selector", "Invalid value", _IMMUTABLE, selector))
    causes += _pod_spec("spec.template.spec", template.get("spec") or {})
    strategy = spec.get("strategy") or {}
    if kind is DEPLOYMENT and strategy.get("type") not in ("RollingUpdate", "Recreate"):
        causes.append(
            Cause("spec.strategy.type", "Unsupported value",
                  'supported values: "Recreate", "RollingUpdate"', strategy.get("type"))
        )  # fmt: skip
    if strategy.get("type") == "Recreate" and strategy.get("rollingUpdate"):
        detail = "may not be specified when strategy `type` is 'Recreate'"
        causes.append(Cause("spec.strategy.rollingUpdate", "Forbidden", detail))
    rolling = strategy.get("rollingUpdate") or {}
    if kind is DEPLOYMENT and all(
        str(rolling.get(f)) in ("0", "0%") for f in ("maxSurge", "maxUnavailable")
    ):
        detail = "may not be 0 when `maxSurge` is 0"
        field = "spec.strategy.rollingUpdate.maxUnavailable"
        causes.append(Cause(field, "Invalid value", detail, rolling["maxUnavailable"]))
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds", 0)
    if kind is DEPLOYMENT and deadline is not None and deadline <= ready:
        detail = "must be greater than minReadySeconds"
        causes.append(Cause("spec.progressDeadlineSeconds", "Invalid value", detail, deadline))
    return causes


def _pod_spec(path: str, spec: Obj) -> list[Cause]:
    containers = spec.get("containers") or []
    if not containers:
        return [Cause(f"{path}.containers", "Required value")]
    causes, seen = [], set()
    for i, container in enumerate(containers):
        name = container.get("name")
        if not name:
            causes.append(Cause(f"{path}.containers[{i}].name", "Required value"))
        elif name in seen:
            causes.append(Cause(f"{path}.containers[{i}].name", "Duplicate value", "", name))
        elif len(name) > 63 or not _LABEL.fullmatch(name):
            detail = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters"
            causes.append(Cause(f"{path}.containers[{i}].name", "Invalid value", detail, name))
        seen.add(name)
        if not container.get("image"):
            causes.append(Cause(f"{path}.containers[{i}].image", "Required value"))
    return causes


def _service(spec: Obj, old: Obj | None) -> list[Cause]:
    causes = []
    ports = spec.get("ports") or []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(Cause("spec.ports", "Required value"))
    for i, port in enumerate(ports):
        number = port.get("port")
        if not isinstance(number, int) or not 0 < number < 65536:
            detail = "must be between 1 and 65535, inclusive"
            causes.append(Cause(f"spec.ports[{i}].port", "Invalid value", detail, number))
        if len(ports) > 1 and not port.get("name"):
            causes.append(Cause(f"spec.ports[{i}].name", "Required value"))
    if old and old.get("clusterIP") and spec.get("clusterIP") != old["clusterIP"]:
        value, detail = spec.get("clusterIP"), "may not change once set"
        causes.append(Cause("spec.clusterIPs[0]", "Invalid value", detail, value))
    return causes


def _route(spec: Obj) -> list[Cause]:
    causes = []
    for i, rule in enumerate(spec.get("rules") or ()):
        for j, ref in enumerate(rule.get("backendRefs") or ()):
            path = f"spec.rules[{i}].backendRefs[{j}]"
            if not ref.get("name"):
                causes.append(Cause(f"{path}.name", "Required value"))
            weight = ref.get("weight", 1)
            if not isinstance(weight, int) or isinstance(weight, bool):
                detail = f"{path}.weight in body must be of type int32: {json.dumps(weight)}"
                causes.append(Cause(f"{path}.weight", "Invalid value", detail, weight))
            elif not 0 <= weight <= 1_000_000:
                bound = "greater than or equal to 0" if weight < 0 else "less than or equal to 1e6"
                detail = f"{path}.weight in body should be {bound}"
                causes.append(Cause(f"{path}.weight", "Invalid value", detail, weight))
    return causes


def _hpa(spec: Obj) -> list[Cause]:
    causes = []
    most, least = spec.get("maxReplicas", 0), spec.get("minReplicas", 1)
    if most < 1:
        causes.append(Cause("spec.maxReplicas", "Invalid value", "must be greater than 0", most))
    elif most < least:
        detail = "must be greater than or equal to `minReplicas`"
        causes.append(Cause("spec.maxReplicas", "Invalid value", detail, most))
    target = spec.get("scaleTargetRef") or {}
    causes += [
        Cause(f"spec.scaleTargetRef.{f}", "Required value") for f in ("kind", "name")
        if not target.get(f)
    ]  # fmt: skip
    return causes


def _secret(obj: Obj) -> list[Cause]:
    causes = []
    for name, text in (obj.get("data") or {}).items():
        try:
            base64.b64decode(str(text), validate=True)
        except binascii.Error:
            causes.append(Cause(f"data[{name}]", "Invalid value", "illegal base64 data", text))
    return causes
