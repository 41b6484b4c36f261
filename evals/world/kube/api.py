"""The verbs of the API server, in process: what HTTP requests and controllers both go through."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Callable
from typing import Any

from evals.world.clock import Clock, rfc3339
from evals.world.kube import errors, fields, patch, rules
from evals.world.kube.kinds import DEPLOYMENT, KINDS, NAMESPACE, Kind, Obj, clone
from evals.world.kube.selectors import fields_test, labels_test
from evals.world.kube.store import Store

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"

_SCALE = Kind("autoscaling", "v1", "Scale", "scales")
_FIXED = ("uid", "creationTimestamp", "generation", "resourceVersion", "selfLink", "namespace")


class KubeApi:
    """Create, read, update, patch, delete with the real server's rules, on one `Store`.

    All methods are synchronous and atomic on the event loop. They raise `ApiError` and nothing
    else for bad input. Returned objects are shared with the store: clone before changing them.
    """

    def __init__(self, store: Store, clock: Clock, *, seed: int = 0) -> None:
        self.store = store
        self.clock = clock
        # A restart goes on at another version, so that names and uids are not drawn twice.
        self._random = random.Random(f"{seed}/{store.version}")

    # --- reading ---

    def get(self, kind: Kind, namespace: str, name: str) -> Obj:
        """One object. Raises 404."""
        found = self.store.get(kind, namespace, name)
        if found is None:
            raise errors.not_found(kind, name)
        return found

    def find(self, kind: Kind, namespace: str, name: str) -> Obj | None:
        """One object or None."""
        return self.store.get(kind, namespace, name)

    def select(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Obj]:
        """Objects in the order of their keys. Raises 400 for a selector that cannot be parsed."""
        keep = self.filter(kind, labels, fields)
        return [obj for obj in self.store.all(kind, namespace) if keep(obj)]

    def filter(self, kind: Kind, labels: str, fields: str) -> Callable[[Obj], bool]:
        """One test made of both selectors. Raises 400."""
        by_label, by_field = labels_test(labels), fields_test(kind, fields)
        return lambda obj: by_label(obj["metadata"].get("labels") or {}) and by_field(obj)

    # --- writing ---

    def create(
        self, kind: Kind, namespace: str, body: Obj, *, manager: str = "unknown", dry: bool = False
    ) -> Obj:
        """Create. Raises 400, 404 (no such namespace), 409 AlreadyExists, 422."""
        obj = clone(body)
        self._decode(kind, namespace, obj)
        meta = obj["metadata"]
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = meta["generateName"] + self._suffix()
        name = meta.get("name") or ""
        if meta.get("resourceVersion"):
            raise errors.internal("resourceVersion should not be set on objects to be created")
        if kind.namespaced and self.store.get(NAMESPACE, "", namespace) is None:
            raise errors.not_found(NAMESPACE, namespace)
        for field in ("uid", "creationTimestamp", "generation", "managedFields", "selfLink"):
            meta.pop(field, None)
        if kind.status and kind.kind != "Pod":
            obj.pop("status", None)
        self._admit(kind, obj, None)
        if self.store.get(kind, namespace, name) is not None:
            raise errors.already_exists(kind, name)
        now = rfc3339(self.clock.now())
        meta["uid"] = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
        meta["creationTimestamp"] = now
        if kind.generation:
            meta["generation"] = 1
        if kind is DEPLOYMENT:
            obj["status"] = {}
        fields.track_update(kind, None, obj, manager, "", now)
        return obj if dry else self.store.put(kind, obj)

    def update(
        self, kind: Kind, namespace: str, name: str, body: Obj, *,
        subresource: str = "", manager: str = "unknown", dry: bool = False,
    ) -> Obj:  # fmt: skip
        """Replace the object, or only its status. Raises 400, 404, 409 Conflict, 422."""
        live = self.get(kind, namespace, name)
        obj = clone(body)
        self._decode(kind, namespace, obj)
        given = obj["metadata"].get("name") or name
        if given != name:
            raise errors.bad_request(
                f"the name of the object ({given}) does not match the name on the URL ({name})"
            )
        obj["metadata"]["name"] = name
        if kind.custom and not obj["metadata"].get("resourceVersion"):
            cause = errors.Cause(
                "metadata.resourceVersion", "Invalid value", "must be specified for an update", 0
            )
            raise errors.invalid(kind, name, [cause])
        return self._replace(kind, live, obj, subresource, manager, dry)

    def patch(
        self, kind: Kind, namespace: str, name: str, body: Any, content_type: str, *,
        subresource: str = "", manager: str = "unknown", force: bool = False, dry: bool = False,
    ) -> tuple[Obj, bool]:  # fmt: skip
        """Patch in any of the four formats; the flag says whether server-side apply created it.

        Raises 400, 404, 409, 415, 422.
        """
        if content_type == APPLY:
            return self._apply(kind, namespace, name, body, subresource, manager, force, dry)
        live = self.get(kind, namespace, name)
        target = clone(live)
        if content_type == JSON_PATCH:
            obj = patch.json_patch(target, body)
        elif not isinstance(body, dict):
            raise errors.bad_request("error decoding patch: the patch is not an object")
        elif content_type == MERGE:
            obj = patch.json_merge(target, body)
        elif content_type == STRATEGIC and not kind.custom:
            obj = patch.strategic_merge(kind, target, body)
        else:
            accepted = [JSON_PATCH, MERGE, *([] if kind.custom else [STRATEGIC]), APPLY]
            raise errors.unsupported_media_type(accepted)
        self._decode(kind, namespace, obj)
        if obj["metadata"].get("name") != name:
            raise errors.bad_request("the name of an object cannot be changed")
        return self._replace(kind, live, obj, subresource, manager, dry), False

    def _apply(
        self, kind: Kind, namespace: str, name: str, body: Any, subresource: str,
        manager: str, force: bool, dry: bool,
    ) -> tuple[Obj, bool]:  # fmt: skip
        if not isinstance(body, dict):
            raise errors.bad_request("error decoding YAML: the body is not an object")
        config = clone(body)
        if not config.get("apiVersion") or not config.get("kind"):
            raise errors.bad_request("invalid object type: apiVersion and kind must be set")
        self._decode(kind, namespace, config)
        meta = config["metadata"]
        if meta.get("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({meta['name']}) does not match the name on the URL "
                f"({name})"
            )
        meta["name"] = name
        if meta.get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        live = self.store.get(kind, namespace, name)
        now = rfc3339(self.clock.now())
        if live is None:
            if subresource:
                raise errors.not_found(kind, name)
            empty: Obj = {
                "apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name}
            }  # fmt: skip
            if meta.get("resourceVersion"):
                raise errors.not_found(kind, name)
            merged = fields.apply(kind, empty, config, manager, force=True, subresource="", now=now)
            owned = merged["metadata"].pop("managedFields", None)
            obj = self.create(kind, namespace, merged, manager=manager, dry=True)
            # Ownership is what was applied, not what defaulting added.
            obj["metadata"]["managedFields"] = owned
            return (obj if dry else self.store.put(kind, obj)), True
        if subresource == "status":
            config = {k: v for k, v in config.items() if k != "spec"}
        elif kind.status:
            config = {k: v for k, v in config.items() if k != "status"}
        merged = fields.apply(
            kind, live, config, manager, force=force, subresource=subresource, now=now
        )
        if rv := meta.get("resourceVersion"):
            merged["metadata"]["resourceVersion"] = rv
        return self._replace(kind, live, merged, subresource, manager, dry, tracked=True), False

    def _replace(
        self, kind: Kind, live: Obj, obj: Obj, subresource: str, manager: str, dry: bool,
        *, tracked: bool = False,
    ) -> Obj:  # fmt: skip
        old, meta = live["metadata"], obj["metadata"]
        name = old["name"]
        if (meta.get("resourceVersion") or old["resourceVersion"]) != old["resourceVersion"]:
            raise errors.conflict(kind, name)
        if meta.get("uid", old["uid"]) != old["uid"]:
            raise errors.conflict(
                kind, name,
                "StorageError: invalid object, Code: 4, AdditionalErrorMsg: "
                f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
                f"{old['uid']}",
            )  # fmt: skip
        managed = meta.get("managedFields")
        if subresource:
            changed = clone(live)
            if subresource == "status":
                changed["status"] = obj.get("status") or {}
            else:
                changed["spec"] = obj["spec"]
            obj = changed
        else:
            for field in _FIXED:
                meta.pop(field, None)
                if field in old:
                    meta[field] = old[field]
            if kind.status:
                obj.pop("status", None)
                if "status" in live:
                    obj["status"] = live["status"]
        meta = obj["metadata"]
        if subresource != "status":
            self._admit(kind, obj, live)
            if kind.generation and obj.get("spec") != live.get("spec"):
                meta["generation"] = old.get("generation", 0) + 1
        if tracked:
            meta["managedFields"] = managed
        else:
            now = rfc3339(self.clock.now())
            before = live.get("metadata", {}).get("managedFields")
            meta["managedFields"] = before
            if obj != live:
                fields.track_update(kind, live, obj, manager, subresource, now)
            if not meta.get("managedFields"):
                meta.pop("managedFields", None)
        if obj == live:
            return live
        if dry:
            return obj
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            return self.store.remove(kind, old.get("namespace", ""), name)
        return self.store.put(kind, obj)

    def delete(
        self, kind: Kind, namespace: str, name: str, *,
        options: Obj | None = None, dry: bool = False,
    ) -> Obj:  # fmt: skip
        """Delete; dependents follow through the garbage collector unless orphaned.

        An object with finalizers only gets its deletionTimestamp. Raises 404, and 409 when a
        precondition fails. Returns the object's last state.
        """
        live = self.get(kind, namespace, name)
        options = options or {}
        wanted = options.get("preconditions") or {}
        for field, shown, why in (
            ("uid", "UID", "deleted and then recreated"),
            ("resourceVersion", "ResourceVersion", "modified"),
        ):
            now = live["metadata"][field]
            if wanted.get(field, now) != now:
                raise errors.precondition_failed(
                    kind, name,
                    f"the {shown} in the precondition ({wanted[field]}) does not match the "
                    f"{shown} in record ({now}). The object might have been {why}",
                )  # fmt: skip
        if dry:
            return live
        if options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents"):
            self._orphan(live["metadata"]["uid"], namespace)
        if live["metadata"].get("finalizers"):
            if live["metadata"].get("deletionTimestamp"):
                return live
            doomed = clone(live)
            doomed["metadata"]["deletionTimestamp"] = rfc3339(self.clock.now())
            doomed["metadata"]["deletionGracePeriodSeconds"] = 0
            return self.store.put(kind, doomed)
        return self.store.remove(kind, namespace, name)

    def _orphan(self, uid: str, namespace: str) -> None:
        for kind in KINDS:
            for obj in self.store.all(kind, namespace):
                owners = obj["metadata"].get("ownerReferences") or []
                if any(o["uid"] == uid for o in owners):
                    freed = clone(obj)
                    kept = [o for o in owners if o["uid"] != uid]
                    freed["metadata"]["ownerReferences"] = kept
                    self.store.put(kind, freed)

    # --- the scale subresource ---

    def scale(self, kind: Kind, namespace: str, name: str) -> Obj:
        """The `autoscaling/v1` Scale of a Deployment or ReplicaSet. Raises 404."""
        obj = self.get(kind, namespace, name)
        meta = {
            k: obj["metadata"][k]
            for k in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        }
        wanted = obj["spec"]["selector"].get("matchLabels") or {}
        return {
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta,
            "spec": {"replicas": obj["spec"]["replicas"]} if obj["spec"]["replicas"] else {},
            "status": {
                "replicas": (obj.get("status") or {}).get("replicas", 0),
                "selector": ",".join(f"{k}={v}" for k, v in sorted(wanted.items())),
            },
        }  # fmt: skip

    def set_scale(
        self, kind: Kind, namespace: str, name: str, scale: Obj, *,
        manager: str = "unknown", dry: bool = False,
    ) -> Obj:  # fmt: skip
        """Store the replicas of a Scale. Raises 404, 409, 422."""
        live = self.get(kind, namespace, name)
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if not isinstance(replicas, int):
            raise errors.bad_request(
                'Scale in version "v1" cannot be handled as a Scale: json: cannot unmarshal into '
                "Go struct field ScaleSpec.spec.replicas of type int32"
            )
        if replicas < 0:
            detail = "must be greater than or equal to 0"
            cause = errors.Cause("spec.replicas", "Invalid value", detail, replicas)
            raise errors.invalid(_SCALE, name, [cause])
        obj = clone(live)
        obj["spec"]["replicas"] = replicas
        obj["metadata"]["resourceVersion"] = (scale.get("metadata") or {}).get("resourceVersion")
        self._replace(kind, live, obj, "scale", manager, dry)
        answer = self.scale(kind, namespace, name)
        answer["spec"]["replicas"] = replicas
        return answer

    # --- shared ---

    def _decode(self, kind: Kind, namespace: str, obj: Obj) -> None:
        if not isinstance(obj, dict):
            raise errors.bad_request("the body is not an object")
        for field in ("apiVersion", "kind") if kind.custom else ():
            # Kinds from CRDs have no Go type to guess these from.
            if not obj.get(field):
                shown = field if field == "apiVersion" else "Kind"
                raise errors.bad_request(
                    f"the object provided is unrecognized (must be of type {kind.kind}): "
                    f"Object '{shown}' is missing"
                )
        given = obj.setdefault("apiVersion", kind.api_version)
        if given != kind.api_version:
            raise errors.bad_request(
                f"the API version in the data ({given}) does not match the expected API version "
                f"({kind.api_version})"
            )
        name = obj.setdefault("kind", kind.kind)
        if name != kind.kind:
            raise errors.bad_request(
                f'{name} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f'no kind "{name}" is registered for this resource'
            )
        if obj.get("metadata") is None:
            obj["metadata"] = {}
        rules.check_types(kind, obj)
        if not kind.namespaced:
            obj["metadata"].pop("namespace", None)
        elif obj["metadata"].setdefault("namespace", namespace) != namespace:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )

    def _admit(self, kind: Kind, obj: Obj, old: Obj | None) -> None:
        rules.fill_defaults(kind, obj)
        if causes := rules.validate(kind, obj, old):
            raise errors.invalid(kind, obj["metadata"].get("name", ""), causes)

    def _suffix(self) -> str:
        return "".join(self._random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))


def template_hash(template: Obj) -> str:
    """A stable `pod-template-hash` in the real one's alphabet (the hash itself differs)."""
    digest = hashlib.sha256(repr(sorted(_flat(template))).encode()).digest()
    return "".join("bcdfghjklmnpqrstvwxz2456789"[b % 27] for b in digest[:10])


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _flat(v, f"{path}/{k}")]
    if isinstance(value, list):
        return [pair for i, v in enumerate(value) for pair in _flat(v, f"{path}/{i}")]
    return [(path, repr(value))]
