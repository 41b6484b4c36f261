"""Documents become Kubernetes objects, and objects the pods that they would make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from domain.errors import SourceError, SourceProblem
from domain.yaml_source import Path
from policy.manifests.documents import Document

POD_TEMPLATES: Final[dict[tuple[str, str], Path]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("extensions", "Deployment"): ("spec", "template"),
    ("extensions", "DaemonSet"): ("spec", "template"),
    ("extensions", "ReplicaSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    ("argoproj.io", "Rollout"): ("spec", "template"),
}
"""Where the kinds that make pods keep the pod's template, by API group and kind."""
_KINDS: Final = frozenset(kind.lower() for _, kind in POD_TEMPLATES) - {"rollout"}
_ALIKE: Final[tuple[Path, ...]] = (
    ("spec", "template"),
    ("spec", "jobTemplate", "spec", "template"),
)
"""Where kinds of others (DeploymentConfig, a Knative Service) keep pods, if they make any."""
RUNS_TO_END: Final = frozenset({"Job", "CronJob"})
CLUSTER_WIDE: Final = frozenset(
    {
        "Namespace",
        "Node",
        "PersistentVolume",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "StorageClass",
        "PriorityClass",
        "IngressClass",
        "GatewayClass",
        "RuntimeClass",
        "CSIDriver",
        "CSINode",
        "VolumeAttachment",
        "APIService",
        "ValidatingWebhookConfiguration",
        "MutatingWebhookConfiguration",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "CertificateSigningRequest",
        "FlowSchema",
        "PriorityLevelConfiguration",
    }
)
"""Kinds of Kubernetes itself that are in no namespace."""


@dataclass(frozen=True)
class Object:
    """One Kubernetes object and where it was written."""

    document: Document
    path: Path
    """Where it begins in its document: () but for the items of a List and for reviews."""
    data: dict[str, Any]
    review: dict[str, Any] | None = None
    """The request of the AdmissionReview it came in, if it did."""

    @property
    def kind(self) -> str:
        """`Deployment`."""
        return str(self.data["kind"])

    @property
    def group(self) -> str:
        """`apps`; '' for the core group."""
        head, slash, _ = str(self.data["apiVersion"]).rpartition("/")
        return head if slash else ""

    @property
    def version(self) -> str:
        """`v1`."""
        return str(self.data["apiVersion"]).rpartition("/")[2]

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata; empty when it has none."""
        found = self.data.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        """Its name, or the beginning of the one it will be given; '' when it says neither."""
        return str(self.metadata.get("name") or self.metadata.get("generateName") or "")

    @property
    def namespace(self) -> str:
        """The namespace it says; '' when it says none."""
        return str(self.metadata.get("namespace") or "")

    @property
    def title(self) -> str:
        """`Deployment shop/checkout`."""
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}".strip()

    def line(self, path: Path) -> int:
        """Line of the value at a path in the object."""
        return self.document.line((*self.path, *path))

    def problem(self, path: Path, message: str, hint: str = "") -> SourceProblem:
        """Something that cannot be read, at a path in the object."""
        return self.document.problem((*self.path, *path), f"{self.title}: {message}", hint)


@dataclass(frozen=True)
class Container:
    """A container, and where it stands in its object."""

    path: Path
    data: dict[str, Any]
    sort: str
    """`containers`, `initContainers` or `ephemeralContainers`."""

    @property
    def name(self) -> str:
        """Its name, for sentences."""
        return str(self.data.get("name") or f"number {self.path[-1]}")

    @property
    def keeps_running(self) -> bool:
        """Whether it serves as long as the pod does; an init container does as a sidecar."""
        if self.sort == "initContainers":
            return self.data.get("restartPolicy") == "Always"
        return self.sort == "containers"


@dataclass(frozen=True)
class Pod:
    """The pod that an object is or would make."""

    object: Object
    path: Path
    """Where its spec stands in the object."""
    spec: dict[str, Any]
    containers: tuple[Container, ...]


def objects_of(document: Document) -> Iterator[Object]:
    """The objects of a document; a List gives its items. Raises SourceError for what is none."""
    yield from _objects(document, (), document.data)


def _objects(document: Document, path: Path, data: Any) -> Iterator[Object]:
    if isinstance(data, list) and not path:
        for index, item in enumerate(data):
            yield from _objects(document, (index,), item)
        return
    if not isinstance(data, dict):
        _stop(document, path, "this is not a Kubernetes object", "an object is a mapping")
    version, kind = data.get("apiVersion"), data.get("kind")
    for key, value in (("apiVersion", version), ("kind", kind)):
        if not isinstance(value, str) or not value:
            _stop(
                document,
                (*path, key),
                f"this is not a Kubernetes object: it has no `{key}`",
                "give manifests only; leave out values files and the like",
            )
    assert isinstance(kind, str)
    if "{{" in f"{version}{kind}":
        _stop(document, path, "this is a template that has not been rendered", "render it first")
    if kind.endswith("List") and isinstance(data.get("items"), list):
        for index, item in enumerate(data["items"]):
            yield from _objects(document, (*path, "items", index), _with_kind(data, item))
    elif kind == "List":
        _stop(document, path, "this List has no `items`", "a List holds objects under `items`")
    elif kind == "AdmissionReview":
        yield from _reviewed(document, path, data)
    else:
        metadata = data.get("metadata")
        if metadata is not None and not isinstance(metadata, dict):
            _stop(document, (*path, "metadata"), "`metadata` is not a mapping", "write its keys")
        yield Object(document, path, data)


def _with_kind(of: dict[str, Any], item: Any) -> Any:
    """Items of a typed list (`PodList`) may leave out what they are."""
    kind = of["kind"]
    if kind == "List" or not isinstance(item, dict) or "kind" in item:
        return item
    return {"apiVersion": of["apiVersion"], "kind": kind.removesuffix("List"), **item}


def _reviewed(document: Document, path: Path, data: dict[str, Any]) -> Iterator[Object]:
    request = data.get("request")
    if not isinstance(request, dict):
        _stop(document, path, "this AdmissionReview has no `request`", "give the whole review")
    key = "object" if isinstance(request.get("object"), dict) else "oldObject"
    for one in _objects(document, (*path, "request", key), request.get(key)):
        yield Object(document, one.path, one.data, review=request)


def _stop(document: Document, path: Path, message: str, hint: str) -> NoReturn:
    raise SourceError((document.problem(path, message, hint),))


def pod_of(obj: Object) -> Pod | None:
    """The pod that an object makes; None for kinds that make none.

    Raises SourceError for a workload whose pod cannot be read: it must not pass as one without.
    """
    where = POD_TEMPLATES.get((obj.group, obj.kind)) or _alike(obj)
    if where is None and (obj.group, obj.kind) not in POD_TEMPLATES:
        if obj.kind.lower() in _KINDS and obj.group in ("", "apps", "batch", "extensions"):
            raise SourceError(
                (
                    obj.problem(
                        ("apiVersion",),
                        f"there is no {obj.kind} in {obj.data['apiVersion']}",
                        _versions(obj.kind),
                    ),
                )
            )
        return None
    where = where or ()
    if obj.kind == "Rollout" and "workloadRef" in (obj.data.get("spec") or {}):
        return None
    path: Path = () if obj.kind == "Pod" else where
    here: Any = obj.data
    for end, key in enumerate((*path, "spec"), 1):
        here = here.get(key) if isinstance(here, dict) else None
        if not isinstance(here, dict):
            spot = ".".join((*(str(one) for one in path), "spec")[:end])
            raise SourceError(
                (
                    obj.problem(
                        (*path, "spec")[:end],
                        f"`{spot}` is not a mapping, so its pods cannot be judged",
                        "write the pod's template there",
                    ),
                )
            )
    spec_path = (*path, "spec")
    return Pod(obj, spec_path, here, tuple(_containers(obj, spec_path, here)))


def _alike(obj: Object) -> Path | None:
    for path in _ALIKE:
        here: Any = obj.data
        for key in (*path, "spec", "containers"):
            here = here.get(key) if isinstance(here, dict) else None
        if isinstance(here, list) and here and all(isinstance(one, dict) for one in here):
            return path
    return None


def _versions(kind: str) -> str:
    groups = sorted(
        f"{group}/v1, kind: {one}" if group else f"v1, kind: {one}"
        for group, one in POD_TEMPLATES
        if one.lower() == kind.lower()
    )
    return f"write apiVersion: {' or '.join(one for one in groups if 'extensions' not in one)}"


def _containers(obj: Object, path: Path, spec: dict[str, Any]) -> Iterator[Container]:
    """All containers. A request to add ephemeral containers carries no others."""
    if not spec.get("containers") and not spec.get("ephemeralContainers"):
        raise _unjudged(obj, (*path, "containers"), "`containers` is not a list of containers")
    for sort in ("initContainers", "containers", "ephemeralContainers"):
        listed = spec.get(sort)
        if listed is None:
            continue
        if not isinstance(listed, list):
            raise _unjudged(obj, (*path, sort), f"`{sort}` is not a list of containers")
        for index, one in enumerate(listed):
            if not isinstance(one, dict):
                raise _unjudged(obj, (*path, sort, index), "this container is not a mapping")
            yield Container((*path, sort, index), one, sort)


def _unjudged(obj: Object, path: Path, message: str) -> SourceError:
    hint = "list containers there, each with a name and an image"
    return SourceError((obj.problem(path, f"{message}, so its pods cannot be judged", hint),))


def json_path(path: Path) -> str:
    """A path as a JSON path (RFC 9535): `$.spec.containers[0].image`."""
    return "$" + "".join(_segment(one) for one in path)


def _segment(part: str | int) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if part.isidentifier() and part.isascii():
        return f".{part}"
    escaped = part.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"
