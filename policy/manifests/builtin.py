"""The built-in rules: what every pod has to be like, whoever makes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any, Final

from domain.errors import SourceError
from domain.yaml_source import Path
from policy.manifests.finding import Finding
from policy.manifests.images import is_from, parse_image
from policy.manifests.objects import RUNS_TO_END, Container, Object, Pod
from policy.rules import ManifestRules

Rule = Callable[[ManifestRules, Pod], Iterator[Finding]]

IMAGE_RULES: Final = frozenset({"image-tag", "image-digest", "image-registry"})
_POLICIES: Final = frozenset(
    {
        ("networking.k8s.io", "NetworkPolicy"),
        ("extensions", "NetworkPolicy"),
        ("cilium.io", "CiliumNetworkPolicy"),
        ("crd.projectcalico.org", "NetworkPolicy"),
        ("projectcalico.org", "NetworkPolicy"),
    }
)


def check_pod(rules: ManifestRules, pod: Pod, wanted: Collection[str]) -> Iterator[Finding]:
    """What the rules that are wanted have against one pod.

    Raises SourceError for values that the API would not take, as they cannot be judged.
    """
    for name, rule in RULES.items():
        if name in wanted:
            yield from rule(rules, pod)


# --- images ---


def _image_tag(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    for path, text, who in _images(rules, pod):
        image = parse_image(text)
        if image is None:
            what = f"{text!r} is not an image reference" if text else "no image is named"
            yield Finding(
                "image-tag",
                pod.object,
                path,
                f"{who}: {what}.",
                "Name a repository and a tag: registry.example.com/app:1.2.3.",
            )
        elif not image.digest and image.tag in ("", "latest"):
            what = "has no tag" if not image.tag else "has the tag latest"
            yield Finding(
                "image-tag",
                pod.object,
                path,
                f"{who}: the image {text} {what}, so what runs can change without a change here.",
                "Name the version: a tag that is never moved, or a digest (@sha256:...).",
            )


def _image_digest(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    for path, text, who in _images(rules, pod):
        image = parse_image(text)
        if image is not None and not image.digest:
            yield Finding(
                "image-digest",
                pod.object,
                path,
                f"{who}: the image {text} is not pinned by its digest.",
                f"Write {text.partition('@')[0]}@sha256:..., as the registry names it.",
            )


def _image_registry(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    if not rules.registries:
        return
    for path, text, who in _images(rules, pod):
        image = parse_image(text)
        if image is None or not is_from(image, rules.registries):
            yield Finding(
                "image-registry",
                pod.object,
                path,
                f"{who}: the image {text or '(none)'} comes from "
                f"{image.place if image else 'nowhere that can be told'}, which is not allowed.",
                f"Take it from {', '.join(rules.registries)}.",
            )


def _images(rules: ManifestRules, pod: Pod) -> Iterator[tuple[Path, str, str]]:
    """Path, reference and owner of every image that the pod pulls."""
    for one in _bound(rules, pod):
        image = one.data.get("image")
        if image is not None and not isinstance(image, str):
            raise _unreadable(pod, (*one.path, "image"), "`image` is not text")
        yield (*one.path, "image"), image or "", f"container {one.name}"
    volumes = pod.spec.get("volumes")
    for index, volume in enumerate(volumes if isinstance(volumes, list) else ()):
        source = volume.get("image") if isinstance(volume, dict) else None
        if isinstance(source, dict) and isinstance(reference := source.get("reference"), str):
            path: Path = (*pod.path, "volumes", index, "image", "reference")
            if not any(fnmatchcase(reference, one) for one in rules.exempt_images):
                yield path, reference, f"volume {volume.get('name')}"


# --- containers ---


def _resources(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    of_pod = _mapping(pod, pod.spec, pod.path, "resources")
    for one in _bound(rules, pod):
        if one.sort == "ephemeralContainers":
            continue  # the API takes no resources there
        resources = _mapping(pod, one.data, one.path, "resources")
        missing = [
            demand
            for demand in rules.resources
            if not _states(pod, one.path, resources, demand)
            and not _states(pod, pod.path, of_pod, demand)
        ]
        if missing:
            wanted = ", ".join(f"{name}: {_EXAMPLES[name]}" for name in missing)
            yield Finding(
                "resources",
                pod.object,
                (*one.path, "resources"),
                f"container {one.name} does not state {', '.join(missing)}.",
                f"Under `resources`, state {wanted} (as much as it needs).",
            )


_EXAMPLES: Final = {
    "limits.cpu": '"1"',
    "limits.memory": "256Mi",
    "requests.cpu": "100m",
    "requests.memory": "128Mi",
}


def _states(pod: Pod, path: Path, resources: dict[str, Any], demand: str) -> bool:
    sort, _, name = demand.partition(".")
    amounts = _mapping(pod, resources, (*path, "resources"), sort)
    return amounts.get(name) not in (None, "", 0, "0")


def _privileged(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    for one in _bound(rules, pod):
        context = _mapping(pod, one.data, one.path, "securityContext")
        if _flag(pod, context, (*one.path, "securityContext"), "privileged"):
            yield Finding(
                "privileged",
                pod.object,
                (*one.path, "securityContext", "privileged"),
                f"container {one.name} is privileged: it can do whatever its node can.",
                "Take `privileged` out; add the single capability that it needs instead.",
            )


def _privilege_escalation(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    for one in _bound(rules, pod):
        context = _mapping(pod, one.data, one.path, "securityContext")
        where = (*one.path, "securityContext")
        if _flag(pod, context, where, "allowPrivilegeEscalation") is not False:
            yield Finding(
                "privilege-escalation",
                pod.object,
                (*where, "allowPrivilegeEscalation"),
                f"container {one.name} may gain more privileges than it begins with.",
                "Set securityContext.allowPrivilegeEscalation: false.",
            )


def _non_root(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    of_pod = _mapping(pod, pod.spec, pod.path, "securityContext")
    if _is_windows(pod):
        return
    for one in _bound(rules, pod):
        context = _mapping(pod, one.data, one.path, "securityContext")
        where: Path = (*one.path, "securityContext")
        user = context.get("runAsUser", of_pod.get("runAsUser"))
        if user is not None and (not isinstance(user, int) or isinstance(user, bool)):
            raise _unreadable(pod, (*where, "runAsUser"), "`runAsUser` is not a number")
        non_root = _flag(pod, context, where, "runAsNonRoot")
        if non_root is None:
            non_root = _flag(pod, of_pod, (*pod.path, "securityContext"), "runAsNonRoot")
        if user == 0:
            mine = "runAsUser" in context
            yield Finding(
                "non-root",
                pod.object,
                (*(where if mine else (*pod.path, "securityContext")), "runAsUser"),
                f"container {one.name} runs as root (user 0).",
                "Set runAsUser to another number, such as 10001, and runAsNonRoot: true.",
            )
        elif not non_root and user is None:
            yield Finding(
                "non-root",
                pod.object,
                (*where, "runAsNonRoot"),
                f"container {one.name} may run as root.",
                "Set securityContext.runAsNonRoot: true, in the pod or in the container.",
            )


def _probes(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    if pod.object.kind in RUNS_TO_END or pod.spec.get("restartPolicy") in ("Never", "OnFailure"):
        return
    for one in _bound(rules, pod):
        if not one.keeps_running:
            continue
        missing = [f"{name}Probe" for name in rules.probes if not one.data.get(f"{name}Probe")]
        if missing:
            yield Finding(
                "probes",
                pod.object,
                one.path,
                f"container {one.name} has no {' and no '.join(missing)}.",
                f"Add {' and '.join(missing)}: httpGet, grpc, tcpSocket or exec.",
            )


# --- the pod ---


def _host_namespaces(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if _flag(pod, pod.spec, pod.path, name):
            yield Finding(
                "host-namespaces",
                pod.object,
                (*pod.path, name),
                f"the pod shares its node's {name.removeprefix('host')} namespace ({name}).",
                f"Take `{name}` out.",
            )


def _host_path(rules: ManifestRules, pod: Pod) -> Iterator[Finding]:
    volumes = pod.spec.get("volumes")
    if volumes is not None and not isinstance(volumes, list):
        raise _unreadable(pod, (*pod.path, "volumes"), "`volumes` is not a list")
    for index, volume in enumerate(volumes or ()):
        if not isinstance(volume, dict):
            raise _unreadable(pod, (*pod.path, "volumes", index), "this volume is not a mapping")
        if "hostPath" in volume:
            source = volume["hostPath"]
            of = f" {source.get('path')}" if isinstance(source, dict) else ""
            yield Finding(
                "host-path",
                pod.object,
                (*pod.path, "volumes", index, "hostPath"),
                f"volume {volume.get('name')} mounts{of} of the node.",
                "Use a PersistentVolumeClaim, emptyDir, configMap or secret.",
            )


RULES: Final[dict[str, Rule]] = {
    "image-tag": _image_tag,
    "image-digest": _image_digest,
    "image-registry": _image_registry,
    "resources": _resources,
    "privileged": _privileged,
    "host-namespaces": _host_namespaces,
    "host-path": _host_path,
    "non-root": _non_root,
    "privilege-escalation": _privilege_escalation,
    "probes": _probes,
}
"""The rules about one pod, by name. `network-policy` is about all objects together."""


def check_network_policies(
    given: Iterable[Object], pods: Iterable[Pod], default: str
) -> Iterator[Finding]:
    """One finding for each namespace that has pods and no policy, at its first workload.

    `default`: the namespace of objects that name none.
    """
    guarded = {one.namespace or default for one in given if (one.group, one.kind) in _POLICIES}
    first: dict[str, Pod] = {}
    count: dict[str, int] = {}
    for pod in pods:
        namespace = pod.object.namespace or default
        first.setdefault(namespace, pod)
        count[namespace] = count.get(namespace, 0) + 1
    for namespace, pod in first.items():
        if namespace not in guarded:
            others = count[namespace] - 1
            more = f" and {others} more" if others else ""
            yield Finding(
                "network-policy",
                pod.object,
                ("metadata", "namespace"),
                f"no NetworkPolicy for the namespace {namespace} is among the objects given; "
                f"{pod.object.kind} {pod.object.name}{more} would run there without one.",
                f"Add one to the namespace {namespace}, to begin with one that denies all ingress "
                "(podSelector: {}, policyTypes: [Ingress]), and give its file as well.",
            )


# --- reading ---


def _bound(rules: ManifestRules, pod: Pod) -> Iterator[Container]:
    for one in pod.containers:
        image = one.data.get("image")
        exempt = isinstance(image, str) and any(
            fnmatchcase(image, pattern) for pattern in rules.exempt_images
        )
        if not exempt:
            yield one


def _mapping(pod: Pod, of: dict[str, Any], path: Path, key: str) -> dict[str, Any]:
    found = of.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _unreadable(pod, (*path, key), f"`{key}` is not a mapping")
    return found


def _flag(pod: Pod, of: dict[str, Any], path: Path, key: str) -> bool | None:
    found = of.get(key)
    if found is not None and not isinstance(found, bool):
        raise _unreadable(pod, (*path, key), f"`{key}` is {found!r}, which is not true or false")
    return found


def _is_windows(pod: Pod) -> bool:
    """Windows knows no user 0; its pods cannot set runAsUser at all."""
    found = pod.spec.get("os")
    return isinstance(found, dict) and found.get("name") == "windows"


def _unreadable(pod: Pod, path: Path, message: str) -> SourceError:
    return SourceError((pod.object.problem(path, message, "the API would refuse it; mend it"),))
