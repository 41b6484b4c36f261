"""Configuration versions as pure functions on JSON: digests, copies, and references to them.

A copy is called `<name>-<digest>`, is immutable, and belongs to one service. Its name is all that a
pod template has to say of the version, so the references are the record of what a Deployment runs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from copy import deepcopy

from domain.configuration import DIGITS, Configuration, ConfigVersion
from domain.errors import Permanent
from domain.service import Target
from tools.cluster_client import CONFIGMAP, SECRET, Kind
from tools.cluster_errors import Json
from tools.cluster_objects import MANAGED_BY, OWNER, labels_of

OF, SERVICE_LABEL = "fermata.dev/config-of", "fermata.dev/service"
KEY_SECRET = "fermata-config-key"  # the name of the object, not what is in it
KEY_FIELD = "key"
KEY_BYTES = 32
CONTENT = ("data", "binaryData")
KINDS: dict[str, Kind] = {"ConfigMap": CONFIGMAP, "Secret": SECRET}


# --- content ---


def digest_of_content(source: Json, kind: str, service: str, key: bytes) -> str:
    """The first digits of an HMAC over an object's content; an empty key for a ConfigMap's.

    The service goes in, so that two of them that share an object have copies of their own.
    """
    content = {field: source.get(field) or {} for field in CONTENT}
    told = {"kind": kind, "service": service, "type": source.get("type") or "", **content}
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:DIGITS]


def key_in(secret: Json) -> bytes:
    """The key that Secrets of a namespace are digested with. Raises Permanent without one."""
    try:
        key = base64.b64decode((secret.get("data") or {})[KEY_FIELD], validate=True)
    except (KeyError, ValueError):
        key = b""
    if len(key) >= KEY_BYTES:
        return key
    meta = secret["metadata"]
    raise Permanent(
        f"Secret {meta['namespace']}/{meta['name']} holds no key of {KEY_BYTES} bytes",
        f"delete it, a new one is made: `kubectl -n {meta['namespace']} delete secret "
        f"{meta['name']}`",
    )


def key_secret(namespace: str, key: bytes) -> Json:
    """The object that keeps the key where whoever may read it may read the Secrets themselves."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEY_SECRET, "namespace": namespace, "labels": {MANAGED_BY: OWNER}},
        "type": "Opaque",
        "immutable": True,
        "data": {KEY_FIELD: base64.b64encode(key).decode()},
    }


def copy_of(source: Json, version: ConfigVersion, target: Target) -> Json:
    """The immutable copy. Labels and annotations of the source are left out: tools that manage the
    source would take the copy for theirs."""
    body: Json = {
        "apiVersion": "v1",
        "kind": version.kind,
        "metadata": {
            "name": version.copy_name,
            "namespace": target.namespace,
            "labels": labels_for(target) | {MANAGED_BY: OWNER},
            "annotations": {OF: version.name},
        },
        "immutable": True,
    }
    body |= {field: source[field] for field in CONTENT if source.get(field)}
    if version.kind == "Secret" and source.get("type"):
        body["type"] = source["type"]
    return body


def labels_for(target: Target) -> dict[str, str]:
    """By which a service's copies are found again."""
    return {SERVICE_LABEL: target.service}


def version_of_copy(copy: Json, versions: Configuration, kind: str) -> ConfigVersion | None:
    """Which version an object is the copy of; None when it is none of ours."""
    meta = copy["metadata"]
    if labels_of(copy).get(MANAGED_BY) != OWNER:
        return None
    for one in versions:
        if one.kind == kind and (meta.get("annotations") or {}).get(OF) == one.name:
            digest = one.version_in(meta["name"])
            return one.model_copy(update={"digest": digest}) if digest else None
    return None


# --- references ---


def references(pod_spec: Json) -> Iterator[tuple[str, Json, str]]:
    """Each reference to a ConfigMap or Secret: kind, the object that holds it, the key it is at."""
    for container in [
        *(pod_spec.get("initContainers") or ()),
        *(pod_spec.get("containers") or ()),
        *(pod_spec.get("ephemeralContainers") or ()),
    ]:
        for variable in container.get("env") or ():
            source = variable.get("valueFrom") or {}
            yield from _named(source, configmap="configMapKeyRef", secret="secretKeyRef")
        for source in container.get("envFrom") or ():
            yield from _named(source, configmap="configMapRef", secret="secretRef")
    for volume in pod_spec.get("volumes") or ():
        yield from _named(volume, configmap="configMap", secret="")
        if isinstance(volume.get("secret"), dict):
            yield "Secret", volume["secret"], "secretName"
        for source in (volume.get("projected") or {}).get("sources") or ():
            yield from _named(source, configmap="configMap", secret="secret")


def _named(source: Json, *, configmap: str, secret: str) -> Iterator[tuple[str, Json, str]]:
    for kind, key in (("ConfigMap", configmap), ("Secret", secret)):
        if key and isinstance(source.get(key), dict):
            yield kind, source[key], "name"


def refers_to(pod_spec: Json, kind: str, name: str) -> bool:
    """Whether a pod takes anything from an object."""
    return any(of == kind and held.get(key) == name for of, held, key in references(pod_spec))


def config_of(deployment: Json, target: Target) -> Configuration:
    """The versions that a Deployment's pod template names, of the objects in the catalogue.

    Where it names several of one object none of them is the version: the digest is ''.
    """
    if target.workload.config is None:
        return ()
    pod_spec, found = deployment["spec"]["template"]["spec"], []
    for one in target.workload.config.objects:
        digests = {
            digest
            for kind, held, key in references(pod_spec)
            if kind == one.kind and (digest := one.version_in(str(held.get(key) or ""))) is not None
        }
        if digests:
            digest = digests.pop() if len(digests) == 1 else ""
            found.append(one.model_copy(update={"digest": digest}))
    return tuple(found)


def takes(deployment: Json, target: Target, versions: Configuration) -> bool:
    """Whether a Deployment's pod template takes all of these, in whatever order they are named."""
    return set(versions) <= set(config_of(deployment, target))


def with_config(deployment: Json, versions: Configuration) -> Json:
    """A copy whose pod template takes these versions, wherever it takes any of them.

    Raises Permanent for an object that the template does not use at all.
    """
    changed = deepcopy(deployment)
    pod_spec = changed["spec"]["template"]["spec"]
    for one in versions:
        is_used = False
        for kind, held, key in references(pod_spec):
            if kind == one.kind and one.version_in(str(held.get(key) or "")) is not None:
                held[key], is_used = one.copy_name, True
        if not is_used:
            raise unused(one, deployment)
    return changed


def unused(version: ConfigVersion, deployment: Json) -> Permanent:
    """The catalogue names an object that no container and no volume takes anything from."""
    meta = deployment["metadata"]
    return Permanent(
        f"Deployment {meta['namespace']}/{meta['name']} uses nothing of {version.kind} "
        f"{version.name}",
        "refer to it in the pod template (env, envFrom or a volume), or take it out of "
        "workload.config in services.yaml",
    )


def with_environment(deployment: Json, versions: Configuration) -> Json:
    """A copy whose first container has all of these as its environment: for a first install."""
    changed = deepcopy(deployment)
    container = changed["spec"]["template"]["spec"]["containers"][0]
    for one in versions:
        key = "configMapRef" if one.kind == "ConfigMap" else "secretRef"
        container.setdefault("envFrom", []).append({key: {"name": one.copy_name}})
    return changed
