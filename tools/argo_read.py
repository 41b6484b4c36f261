"""Looks at a target's Rollout, and says in our own words how it stands. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import Permanent, Temporary
from domain.service import Target
from domain.workload import RouteState, TrackState, WorkloadState
from tools.argo_hand import see
from tools.argo_objects import HASH, Sight, full_size
from tools.cluster_client import POD, ClusterClient
from tools.cluster_errors import Json
from tools.cluster_objects import image_of, is_owned, replicas
from tools.cluster_read import pod_reason


@dataclass(frozen=True)
class ArgoReader:
    """`ClusterReader` on Argo Rollouts."""

    client: ClusterClient

    async def workload(self, target: Target) -> WorkloadState:
        """The Rollout's stable and canary ReplicaSets as tracks, its weight as a route.

        Raises Permanent when the catalogue does not fit it (no such container), or when the
        cluster may not be read.
        """
        sight = await see(self.client, target)
        if sight is None:
            return WorkloadState(stable=None, canary=None, route=None)
        why = await self._why(sight) if sight.degraded else ""
        return WorkloadState(
            stable=_stable(sight, target, why),
            canary=_canary(sight, target, why),
            route=_route(sight),
        )

    async def _why(self, sight: Sight) -> str:
        """Why the update was given up: the controller's words, and its pods' when they know."""
        if sight.aborted:
            return sight.degraded
        newest = sight.status.get("currentPodHash")
        try:
            pods = await self.client.items(
                POD, sight.rollout["metadata"]["namespace"], f"{HASH}={newest}", whole=False
            )
        except (Permanent, Temporary):
            # An account that may not list pods still learns that the update was given up.
            return sight.degraded
        reason = next((reason for pod in pods if (reason := pod_reason(pod))), "")
        return f"{sight.degraded}; {reason}" if reason else sight.degraded


def _stable(sight: Sight, target: Target, why: str) -> TrackState | None:
    found = sight.stable
    if found is None:
        return None
    status = found.get("status") or {}
    total = status.get("replicas") or 0
    if not sight.in_progress and not sight.is_routed:
        # Pods of another version serve, too, until they are gone.
        total = sight.status.get("replicas") or 0
    return TrackState(
        name=sight.rollout["metadata"]["name"],
        image=image_of(found, target),
        desired=replicas(found) if sight.in_progress else full_size(sight.rollout),
        updated=status.get("replicas") or 0,
        available=status.get("availableReplicas") or 0,
        total=total,
        observed=sight.observed,
        stalled="" if sight.in_progress else why,
        owned=is_owned(sight.rollout),
    )


def _canary(sight: Sight, target: Target, why: str) -> TrackState | None:
    is_news = not sight.observed and (
        sight.stable is None or image_of(sight.rollout, target) != image_of(sight.stable, target)
    )
    if not sight.in_progress and not is_news:
        return None
    found = sight.canary
    status = (found or {}).get("status") or {}
    wanted = replicas(found) if found else 0
    # Before its first pod is asked for, a canary with none of none is not a ready one.
    is_early = sight.stop is None and not sight.aborted
    return TrackState(
        name=f"{sight.rollout['metadata']['name']} (update)",
        image=image_of(sight.rollout, target),
        desired=max(1, wanted) if is_early else wanted,
        updated=status.get("replicas") or 0,
        available=status.get("availableReplicas") or 0,
        total=status.get("replicas") or 0,
        observed=sight.observed and found is not None,
        stalled=why,
        undecided=sight.undecided,
        owned=is_owned(sight.rollout),
    )


def _route(sight: Sight) -> RouteState:
    reason = _unsettled(sight)
    return RouteState(
        canary_weight=sight.weight,
        accepted=not reason,
        reason=reason,
        by="Argo Rollouts",
        owned=is_owned(sight.rollout),
    )


def _unsettled(sight: Sight) -> str:
    """Why its weight is not yet one to count on; '' when it is."""
    if not sight.observed:
        return "the Argo Rollouts controller has not seen the latest spec"
    if not sight.in_progress or sight.aborted:
        return "" if sight.weight == 0 else "its traffic router has not taken the weight back yet"
    if sight.undecided:
        return sight.undecided
    if sight.stop is None:
        step = f"step {sight.step} of {len(sight.steps)}"
        return f"the Rollout is on its way ({step}, {sight.status.get('message') or 'no message'})"
    weights: Json = (sight.status.get("canary") or {}).get("weights") or {}
    if weights.get("verified") is False:
        return "its traffic router has not confirmed the weight"
    if sight.is_routed and sight.weight != sight.stop.weight:
        return f"its traffic router is at {sight.weight}%, the step asks for {sight.stop.weight}%"
    return ""
