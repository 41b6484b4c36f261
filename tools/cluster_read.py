"""Looks at a target's Deployments and route. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.clock import Clock, SystemClock
from domain.configuration import Configuration
from domain.errors import Permanent, Temporary
from domain.service import Target
from domain.workload import TOO_LATE, TrackState, WorkloadState
from tools.cluster_client import DEPLOYMENT, HTTPROUTE, POD, ClusterClient
from tools.cluster_config import config_of
from tools.cluster_copies import held_now
from tools.cluster_errors import Json
from tools.cluster_objects import canary_name, image_of, is_owned, replicas
from tools.cluster_route import route_state


@dataclass(frozen=True)
class KubernetesReader:
    """`ClusterReader` on the Kubernetes API.

    `require_route_status` False counts a route as accepted when no gateway has written a status at
    all: for clusters whose gateway writes none. `clock` is the cluster's time.
    """

    client: ClusterClient
    require_route_status: bool = True
    clock: Clock = field(default_factory=SystemClock)

    async def workload(self, target: Target) -> WorkloadState:
        """The target's Deployments and route; None for what does not exist.

        Raises Permanent when an object is there but the catalogue does not fit it (no such
        container), or when the cluster may not be read.
        """
        where, names = target.namespace, target.workload
        stable = await self.client.get(DEPLOYMENT, where, names.deployment)
        canary = await self.client.get(DEPLOYMENT, where, canary_name(target))
        route = await self.client.get(HTTPROUTE, where, names.route) if names.route else None
        return WorkloadState(
            stable=await self._track(stable, target) if stable else None,
            canary=await self._track(canary, target) if canary else None,
            route=route_state(route, target, needs_status=self.require_route_status)
            if route
            else None,
        )

    async def configuration(self, target: Target) -> Configuration:
        """See `ConfigReader`."""
        return await held_now(self.client, target)

    async def _track(self, deployment: Json, target: Target) -> TrackState:
        status = deployment.get("status") or {}
        observed = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        # A condition of an older generation says nothing of this one.
        stalled = stalled_reason(deployment, self.clock.now()) if observed else ""
        counts = ("replicas", "updatedReplicas", "availableReplicas")
        is_there = all(status.get(one, 0) == replicas(deployment) for one in counts)
        why = await self._pods_reason(deployment) if observed and not is_there else ""
        if stalled and why:
            stalled = f"{stalled}; {why}"
        return TrackState(
            name=deployment["metadata"]["name"],
            image=image_of(deployment, target),
            desired=replicas(deployment),
            updated=status.get("updatedReplicas", 0),
            available=status.get("availableReplicas", 0),
            total=status.get("replicas", 0),
            observed=observed,
            stalled=stalled,
            why=why,
            config=config_of(deployment, target),
            owned=is_owned(deployment),
        )

    async def _pods_reason(self, deployment: Json) -> str:
        """Why its pods do not run, in the kubelet's or the scheduler's words; '' when unknown."""
        selector = deployment["spec"]["selector"].get("matchLabels") or {}
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        if not labels:
            return ""
        try:
            where = deployment["metadata"]["namespace"]
            pods = await self.client.items(POD, where, labels, whole=False)
        except (Permanent, Temporary):
            # An account that may not list pods still learns that the roll-out is stalled.
            return ""
        return next((reason for pod in pods if (reason := pod_reason(pod))), "")


def pod_reason(pod: Json) -> str:
    """What keeps a pod from being ready (`ImagePullBackOff: ...`, `Unschedulable: ...`), or ''."""
    status = pod.get("status") or {}
    name = pod["metadata"]["name"]
    containers = [
        *(status.get("initContainerStatuses") or ()),
        *(status.get("containerStatuses") or ()),
    ]
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return _worded(name, waiting["reason"], waiting.get("message"))
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _worded(name, condition.get("reason") or "", condition.get("message"))
    return ""


def _worded(pod: str, reason: str, message: str | None) -> str:
    text = " ".join((message or "").split())[:200]
    return f"pod {pod}: {reason}" + (f" ({text})" if text else "")


def stalled_reason(deployment: Json, now: datetime) -> str:
    """That a Deployment's progress deadline is over, in its controller's words; '' when it is not.

    The controller leaves the condition of the last template in place until it sees the new one get
    somewhere, although it reports the new generation as observed. So the condition counts once the
    deadline has passed since somebody wrote the spec.
    """
    for condition in (deployment.get("status") or {}).get("conditions") or ():
        late = condition.get("reason") == TOO_LATE
        if condition["type"] == "Progressing" and condition["status"] == "False" and late:
            written, said = _spec_written(deployment), condition.get("lastUpdateTime")
            # Whole seconds on both sides: of the same second it is not known which came first.
            older = bool(written and said and datetime.fromisoformat(said) <= written)
            if older and written is not None and now < written + _deadline(deployment):
                return ""
            return f"{TOO_LATE}: {condition.get('message') or 'no message'}"
    return ""


def _spec_written(deployment: Json) -> datetime | None:
    """When somebody last wrote the spec, in whole seconds; None where nobody kept account."""
    times = [
        datetime.fromisoformat(one["time"])
        for one in deployment["metadata"].get("managedFields") or ()
        if not one.get("subresource") and "f:spec" in (one.get("fieldsV1") or {}) and "time" in one
    ]
    return max(times, default=None)


def _deadline(deployment: Json) -> timedelta:
    return timedelta(seconds=deployment["spec"].get("progressDeadlineSeconds", 600))
