"""ReplicaSets make Pods; Pods become ready after a start-up time, or crash if the image is bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from evals.world.clock import rfc3339
from evals.world.kube.api import KubeApi
from evals.world.kube.kinds import POD, REPLICASET, Obj, clone
from evals.world.kube.store import Change, Key

MANAGER = "kube-controller-manager"
KUBELET = "kubelet"


def owner_reference(owner: Obj) -> Obj:
    """The `ownerReferences` entry that makes `owner` the controller of a dependent."""
    return {
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip


def owned_by(obj: Obj, uid: str) -> bool:
    """Whether the object's owner references name this uid."""
    return any(o["uid"] == uid for o in obj["metadata"].get("ownerReferences") or ())


def condition(obj: Obj, kind: str) -> Obj | None:
    """The status condition of that type, or None."""
    found = (obj.get("status") or {}).get("conditions") or ()
    return next((c for c in found if c["type"] == kind), None)


def is_ready(pod: Obj) -> bool:
    """Whether the pod's Ready condition is True."""
    ready = condition(pod, "Ready")
    return ready is not None and ready["status"] == "True"


def instant(text: str) -> datetime:
    """Read a Kubernetes timestamp."""
    return datetime.fromisoformat(text)


class ReplicaSets:
    """Keeps as many pods as each ReplicaSet wants, and counts them in its status."""

    name = "replicasets"

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def touched(self, change: Change) -> Iterable[Key]:
        """The set itself, or the set that controls a changed pod."""
        if change.kind is REPLICASET:
            yield change.key
        elif change.kind is POD:
            for owner in change.object["metadata"].get("ownerReferences") or ():
                if owner["kind"] == "ReplicaSet":
                    yield change.key[0], owner["name"]

    def all_keys(self) -> Iterable[Key]:
        """Every ReplicaSet."""
        return [_key(obj) for obj in self._api.select(REPLICASET)]

    def reconcile(self, key: Key) -> datetime | None:
        """Create or delete pods, then write the status."""
        found = self._api.find(REPLICASET, *key)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        uid, wanted = found["metadata"]["uid"], found["spec"]["replicas"]
        pods = [p for p in self._api.select(POD, key[0]) if owned_by(p, uid)]
        for _ in range(wanted - len(pods)):
            pods.append(self._create(found))
        if len(pods) > wanted:
            # Those that serve nobody go first; among equals the youngest.
            pods.sort(key=lambda p: (is_ready(p), p["metadata"]["name"]), reverse=True)
            for pod in pods[wanted:]:
                self._api.delete(POD, key[0], pod["metadata"]["name"])
            pods = pods[:wanted]
        delay = timedelta(seconds=found["spec"].get("minReadySeconds", 0))
        now, later = self._api.clock.now(), []
        available = 0
        ready = [p for p in pods if is_ready(p)]
        for pod in ready:
            since = instant((condition(pod, "Ready") or {})["lastTransitionTime"])
            if since + delay <= now:
                available += 1
            else:
                later.append(since + delay)
        status: Obj = {
            "replicas": len(pods), "fullyLabeledReplicas": len(pods),
            "observedGeneration": found["metadata"]["generation"],
        }  # fmt: skip
        if ready:
            status["readyReplicas"] = len(ready)
        if available:
            status["availableReplicas"] = available
        if status != found.get("status"):
            updated = {**found, "status": status}
            self._api.update(REPLICASET, *key, updated, subresource="status", manager=MANAGER)
        return min(later, default=None)

    def _create(self, owner: Obj) -> Obj:
        template = clone(owner["spec"]["template"])
        meta = {
            "generateName": owner["metadata"]["name"] + "-",
            "labels": template["metadata"].get("labels") or {},
            "annotations": template["metadata"].get("annotations") or {},
            "ownerReferences": [owner_reference(owner)],
        }
        body = {"metadata": meta, "spec": template["spec"], "status": {"phase": "Pending"}}
        return self._api.create(POD, owner["metadata"]["namespace"], body, manager=MANAGER)


class Kubelet:
    """Turns pending pods into running ones after the start-up time, or into crash loops.

    `delay` gives the start-up time of a pod in simulated seconds; `crashes` says whether an image
    never becomes ready. Both are asked again at each look, so that a scenario may change. A pod
    that once was ready stays so, unless its image is made to crash later.
    """

    name = "kubelet"

    def __init__(
        self, api: KubeApi, delay: Callable[[Obj], float], crashes: Callable[[str], bool]
    ) -> None:
        self._api = api
        self._delay = delay
        self._crashes = crashes

    def touched(self, change: Change) -> Iterable[Key]:
        """New pods and changed specs; its own status writes are no news."""
        if change.kind is POD and change.type != "DELETED":
            old = change.previous
            if old is None or old["spec"] != change.object["spec"]:
                yield change.key

    def all_keys(self) -> Iterable[Key]:
        """Every pod."""
        return [_key(obj) for obj in self._api.select(POD)]

    def reconcile(self, key: Key) -> datetime | None:
        """Write the pod's status for this moment."""
        pod = self._api.find(POD, *key)
        if pod is None or pod["metadata"].get("deletionTimestamp"):
            return None
        now = self._api.clock.now()
        up_at = instant(pod["metadata"]["creationTimestamp"]) + timedelta(seconds=self._delay(pod))
        containers = pod["spec"]["containers"]
        if any(self._crashes(str(c.get("image", ""))) for c in containers):
            if (condition(pod, "Ready") or {}).get("reason") != "ContainersNotReady":
                self._write(pod, "Running", ready=False, now=now, crashed=True)
            return None
        if is_ready(pod):
            return None
        if now < up_at:
            return up_at
        self._write(pod, "Running", ready=True, now=now, crashed=False)
        return None

    def _write(self, pod: Obj, phase: str, *, ready: bool, now: datetime, crashed: bool) -> None:
        stamp = rfc3339(now)
        state: Obj = {"running": {"startedAt": stamp}}
        if crashed:
            detail = "back-off 10s restarting failed container"
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": detail}}
        flag = {"status": "True" if ready else "False", "lastTransitionTime": stamp}
        if not ready:
            flag["reason"] = "ContainersNotReady"
        status: Obj = {
            "phase": phase, "startTime": stamp, "podIP": _address(pod),
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp},
                {"type": "Initialized", "status": "True", "lastTransitionTime": stamp},
                {"type": "ContainersReady", **flag},
                {"type": "Ready", **flag},
            ],
            "containerStatuses": [
                {
                    "name": c["name"], "image": c["image"], "imageID": c["image"],
                    "ready": ready, "started": ready, "state": state,
                    "restartCount": 3 if crashed else 0,
                }
                for c in pod["spec"]["containers"]
            ],
        }  # fmt: skip
        self._api.update(
            POD, pod["metadata"]["namespace"], pod["metadata"]["name"],
            {**pod, "status": status}, subresource="status", manager=KUBELET,
        )  # fmt: skip


def _address(pod: Obj) -> str:
    bits = int(pod["metadata"]["uid"][:4], 16)
    return f"10.244.{bits >> 8}.{bits & 255}"


def _key(obj: Obj) -> Key:
    return obj["metadata"]["namespace"], obj["metadata"]["name"]
