"""Deployments make ReplicaSets and roll from one to the next.

The arithmetic follows kube-controller-manager's `rolling.go`, `sync.go` and `progress.go`.
Left out: proportional scaling in the middle of a rollout.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from evals.world.clock import rfc3339
from evals.world.controllers.pods import (
    MANAGER,
    condition,
    instant,
    owned_by,
    owner_reference,
)
from evals.world.kube.api import KubeApi, template_hash
from evals.world.kube.kinds import DEPLOYMENT, EVENT, REPLICASET, Obj, clone
from evals.world.kube.store import Change, Key

REVISION = "deployment.kubernetes.io/revision"
HASH = "pod-template-hash"


class Deployments:
    """The deployment controller."""

    name = "deployments"

    def __init__(self, api: KubeApi) -> None:
        self._api = api

    def touched(self, change: Change) -> Iterable[Key]:
        """The Deployment itself, or the one that controls a changed ReplicaSet."""
        if change.kind is DEPLOYMENT and change.type != "DELETED":
            yield change.key
        elif change.kind is REPLICASET:
            for owner in change.object["metadata"].get("ownerReferences") or ():
                if owner["kind"] == "Deployment":
                    yield change.key[0], owner["name"]

    def all_keys(self) -> Iterable[Key]:
        """Every Deployment."""
        return [
            (d["metadata"]["namespace"], d["metadata"]["name"])
            for d in self._api.select(DEPLOYMENT)
        ]

    def reconcile(self, key: Key) -> datetime | None:
        """One step of the rollout; the ReplicaSets' own changes lead to the next one."""
        found = self._api.find(DEPLOYMENT, *key)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        uid = found["metadata"]["uid"]
        sets = [rs for rs in self._api.select(REPLICASET, key[0]) if owned_by(rs, uid)]
        paused = bool(found["spec"].get("paused"))
        new = _current(found, sets)
        if not paused:
            new = self._adopt(found, new, sets)
        found = self._api.get(DEPLOYMENT, *key)
        old = [rs for rs in sets if new is None or rs["metadata"]["uid"] != new["metadata"]["uid"]]
        old.sort(key=_revision)
        if paused:
            self._scale_paused(found, new, old)
        elif new is not None:
            if found["spec"]["strategy"]["type"] == "Recreate":
                self._recreate(found, new, old)
            else:
                self._roll(found, new, old)
            self._clean_up(found, old)
        return self._write_status(key, new, old)

    # --- ReplicaSets ---

    def _adopt(self, deployment: Obj, new: Obj | None, sets: list[Obj]) -> Obj:
        """Find or create the ReplicaSet of the present template, with the newest revision."""
        others = [_revision(rs) for rs in sets if rs is not new]
        revision = max(others, default=0) + 1
        if new is not None and _revision(new) > max(others, default=0):
            revision = _revision(new)
        namespace = deployment["metadata"]["namespace"]
        if new is None:
            new = self._create(deployment, revision)
            sets.append(new)
        elif _revision(new) != revision:
            changed = clone(new)
            changed["metadata"].setdefault("annotations", {})[REVISION] = str(revision)
            updated = self._api.update(
                REPLICASET, namespace, new["metadata"]["name"], changed, manager=MANAGER
            )
            sets[sets.index(new)] = updated
            new = updated
        notes = deployment["metadata"].get("annotations") or {}
        if notes.get(REVISION) != str(revision):
            changed = clone(deployment)
            changed["metadata"].setdefault("annotations", {})[REVISION] = str(revision)
            self._api.update(
                DEPLOYMENT, namespace, deployment["metadata"]["name"], changed, manager=MANAGER
            )
        return new

    def _create(self, deployment: Obj, revision: int) -> Obj:
        meta, spec = deployment["metadata"], deployment["spec"]
        template = clone(spec["template"])
        pod_hash = template_hash(template)
        labels = {**((template.get("metadata") or {}).get("labels") or {}), HASH: pod_hash}
        template.setdefault("metadata", {})["labels"] = labels
        selector = clone(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH: pod_hash}
        notes = {
            k: v
            for k, v in (meta.get("annotations") or {}).items()
            if k not in (REVISION, "kubectl.kubernetes.io/last-applied-configuration")
        }
        body: Obj = {
            "metadata": {
                "name": f"{meta['name']}-{pod_hash}", "labels": labels,
                "annotations": {**notes, REVISION: str(revision)},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": 0, "selector": selector, "template": template,
                "minReadySeconds": spec.get("minReadySeconds", 0),
            },
        }  # fmt: skip
        return self._api.create(REPLICASET, meta["namespace"], body, manager=MANAGER)

    def _set_scale(self, deployment: Obj, rs: Obj, replicas: int) -> None:
        if rs["spec"]["replicas"] == replicas:
            return
        meta = rs["metadata"]
        self._api.set_scale(
            REPLICASET, meta["namespace"], meta["name"], {"spec": {"replicas": replicas}},
            manager=MANAGER,
        )  # fmt: skip
        verb = "up" if replicas > rs["spec"]["replicas"] else "down"
        self._event(
            deployment, "ScalingReplicaSet",
            f"Scaled {verb} replica set {meta['name']} from {rs['spec']['replicas']} to {replicas}",
        )  # fmt: skip

    def _event(self, deployment: Obj, reason: str, message: str) -> None:
        meta, now = deployment["metadata"], rfc3339(self._api.clock.now())
        self._api.create(
            EVENT, meta["namespace"],
            {
                "metadata": {"generateName": f"{meta['name']}."},
                "involvedObject": {
                    "apiVersion": deployment["apiVersion"], "kind": deployment["kind"],
                    "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
                },
                "reason": reason, "message": message, "type": "Normal", "count": 1,
                "firstTimestamp": now, "lastTimestamp": now,
                "source": {"component": "deployment-controller"},
                "reportingComponent": "deployment-controller", "reportingInstance": "",
            },
            manager=MANAGER,
        )  # fmt: skip

    # --- rolling ---

    def _roll(self, deployment: Obj, new: Obj, old: list[Obj]) -> None:
        desired = deployment["spec"]["replicas"]
        surge, unavailable = _bounds(deployment)
        total = sum(rs["spec"]["replicas"] for rs in [new, *old])
        size = new["spec"]["replicas"]
        if size > desired:
            self._set_scale(deployment, new, desired)
            return
        if size < desired and total < desired + surge:
            self._set_scale(deployment, new, size + min(desired + surge - total, desired - size))
            return
        if not any(rs["spec"]["replicas"] for rs in old):
            return
        room = total - (desired - unavailable) - (size - _available(new))
        if room <= 0:
            return
        sizes = {rs["metadata"]["name"]: rs["spec"]["replicas"] for rs in old}
        # First what does not serve anyway, then, within the bound, what does.
        for rs in old:
            name = rs["metadata"]["name"]
            dead = min(room, max(0, sizes[name] - _available(rs)))
            sizes[name] -= dead
            room -= dead
        alive = _available(new) + sum(min(_available(rs), sizes[rs["metadata"]["name"]])
                                      for rs in old)  # fmt: skip
        spare = max(0, alive - (desired - unavailable))
        for rs in old:
            name = rs["metadata"]["name"]
            cut = min(spare, sizes[name])
            sizes[name] -= cut
            spare -= cut
        for rs in old:
            self._set_scale(deployment, rs, sizes[rs["metadata"]["name"]])

    def _recreate(self, deployment: Obj, new: Obj, old: list[Obj]) -> None:
        for rs in old:
            self._set_scale(deployment, rs, 0)
        if all((rs.get("status") or {}).get("replicas", 0) == 0 for rs in old):
            self._set_scale(deployment, new, deployment["spec"]["replicas"])

    def _scale_paused(self, deployment: Obj, new: Obj | None, old: list[Obj]) -> None:
        """A paused Deployment still follows its replica count, on the one active set."""
        active = [rs for rs in [*old, *([new] if new else [])] if rs["spec"]["replicas"]]
        if len(active) == 1:
            self._set_scale(deployment, active[0], deployment["spec"]["replicas"])

    def _clean_up(self, deployment: Obj, old: list[Obj]) -> None:
        idle = [
            rs for rs in old
            if not rs["spec"]["replicas"] and not (rs.get("status") or {}).get("replicas")
        ]  # fmt: skip
        for rs in idle[: max(0, len(idle) - deployment["spec"]["revisionHistoryLimit"])]:
            self._api.delete(REPLICASET, rs["metadata"]["namespace"], rs["metadata"]["name"])

    # --- status ---

    def _write_status(self, key: Key, new: Obj | None, old: list[Obj]) -> datetime | None:
        live = self._api.find(DEPLOYMENT, *key)
        if live is None:
            return None
        sets = [self._api.find(REPLICASET, key[0], rs["metadata"]["name"])
                for rs in [*old, *([new] if new else [])]]  # fmt: skip
        counted = [rs.get("status") or {} for rs in sets if rs]
        updated = 0
        if new is not None:
            fresh = self._api.find(REPLICASET, key[0], new["metadata"]["name"])
            updated = ((fresh or {}).get("status") or {}).get("replicas", 0)
        replicas = sum(s.get("replicas", 0) for s in counted)
        ready = sum(s.get("readyReplicas", 0) for s in counted)
        available = sum(s.get("availableReplicas", 0) for s in counted)
        wished = sum(rs["spec"]["replicas"] for rs in sets if rs)
        status: Obj = {"observedGeneration": live["metadata"]["generation"]}
        for name, count in (
            ("replicas", replicas), ("updatedReplicas", updated), ("readyReplicas", ready),
            ("availableReplicas", available),
            ("unavailableReplicas", max(0, max(wished, replicas) - available)),
        ):  # fmt: skip
            if count:
                status[name] = count
        status["conditions"], due = self._conditions(live, status, new)
        if status != live.get("status"):
            self._api.update(
                DEPLOYMENT, *key, {**live, "status": status}, subresource="status", manager=MANAGER
            )
        return due

    def _conditions(
        self, live: Obj, status: Obj, new: Obj | None
    ) -> tuple[list[Obj], datetime | None]:
        desired = live["spec"]["replicas"]
        _, unavailable = _bounds(live)
        now = self._api.clock.now()
        name = new["metadata"]["name"] if new else ""
        enough = status.get("availableReplicas", 0) >= desired - unavailable
        minimum = _condition(
            live, "Available", "True" if enough else "False",
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            f"Deployment {'has' if enough else 'does not have'} minimum availability.", now,
        )  # fmt: skip
        before = condition(live, "Progressing")
        done = (
            status.get("updatedReplicas", 0) == desired
            and status.get("replicas", 0) == desired
            and status.get("availableReplicas", 0) == desired
        )
        moved = before is None or any(
            status.get(f, 0) != (live.get("status") or {}).get(f, 0)
            for f in ("updatedReplicas", "readyReplicas", "availableReplicas")
        )
        restarted = (live.get("status") or {}).get("observedGeneration") != status[
            "observedGeneration"
        ] and not done
        due = None
        if live["spec"].get("paused"):
            progress = _condition(
                live, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now
            )
        elif done:
            progress = _condition(
                live, "Progressing", "True", "NewReplicaSetAvailable",
                f'ReplicaSet "{name}" has successfully progressed.', now,
            )  # fmt: skip
        else:
            limit = timedelta(seconds=live["spec"]["progressDeadlineSeconds"])
            since = instant(before["lastUpdateTime"]) if before else now
            stalled = before is not None and before["reason"] == "ProgressDeadlineExceeded"
            was_done = before is not None and before["reason"] in (
                "NewReplicaSetAvailable", "DeploymentPaused",
            )  # fmt: skip
            if moved or restarted or was_done:
                progress = _condition(
                    live, "Progressing", "True", "ReplicaSetUpdated",
                    f'ReplicaSet "{name}" is progressing.', now, renew=True,
                )  # fmt: skip
                due = now + limit
            elif before is not None and (stalled or since + limit <= now):
                progress = _condition(
                    live, "Progressing", "False", "ProgressDeadlineExceeded",
                    f'ReplicaSet "{name}" has timed out progressing.', now,
                )  # fmt: skip
            else:
                assert before is not None
                progress, due = before, since + limit
        return [minimum, progress], due


def _condition(
    live: Obj, kind: str, status: str, reason: str, message: str, now: datetime,
    *, renew: bool = False,
) -> Obj:  # fmt: skip
    old, stamp = condition(live, kind), rfc3339(now)
    if old is not None and not renew and (old["status"], old["reason"], old["message"]) == (
        status, reason, message,
    ):  # fmt: skip
        return old
    same = old is not None and old["status"] == status
    return {
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastUpdateTime": stamp,
        "lastTransitionTime": old["lastTransitionTime"] if old and same else stamp,
    }  # fmt: skip


def _current(deployment: Obj, sets: list[Obj]) -> Obj | None:
    """The ReplicaSet whose template is the Deployment's, whatever its revision."""
    wanted = _bare(deployment["spec"]["template"])
    return next((rs for rs in sets if _bare(rs["spec"]["template"]) == wanted), None)


def _bare(template: Obj) -> Obj:
    """The template without what only the ReplicaSet carries."""
    meta = dict(template.get("metadata") or {})
    meta["labels"] = {k: v for k, v in (meta.get("labels") or {}).items() if k != HASH}
    return {**template, "metadata": meta}


def _revision(rs: Obj) -> int:
    text = (rs["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def _available(rs: Obj) -> int:
    return int((rs.get("status") or {}).get("availableReplicas", 0))


def _bounds(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; surge rounds up, unavailable down, never both zero."""
    desired = deployment["spec"]["replicas"]
    rolling = deployment["spec"]["strategy"].get("rollingUpdate")
    if not rolling:
        return 0, desired
    surge = _resolve(rolling.get("maxSurge", 0), desired, math.ceil)
    unavailable = _resolve(rolling.get("maxUnavailable", 0), desired, math.floor)
    if not surge and not unavailable:
        unavailable = 1
    return surge, min(unavailable, desired)


def _resolve(value: int | str, whole: int, rounded: object) -> int:
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * whole / 100
        return math.ceil(share) if rounded is math.ceil else math.floor(share)
    return int(value)
