"""When a workload counts as settled: the order rules of progressive delivery, as pure functions.

Forward: pods ready (spec observed, updated = available = desired) before weight; a route counts
only when Accepted and ResolvedRefs hold at its current generation.
"""

from __future__ import annotations

from typing import Literal

from domain.action import K8sDeploy, K8sRetire, K8sRollback, K8sTraffic
from domain.event import Frozen
from domain.service import Target
from domain.workload import TOO_LATE, TrackState, WorkloadState

Settled = K8sDeploy | K8sTraffic | K8sRollback | K8sRetire
"""Actions after which the cluster takes its time."""

LEAST_PODS = 0.5
"""Share of stable's pods without which nothing is given back to it."""


class Reading(Frozen):
    """`settling`: look again; `stalled`: it will not get there by itself; `unsure`: an analysis of
    the executor's own could not decide, so a person has to."""

    kind: Literal["done", "settling", "stalled", "unsure"]
    reason: str
    by_time: bool = False
    """Whether it counts as stalled only because the cluster has waited for too long."""


def reading_of(action: Settled, seen: WorkloadState) -> Reading:
    """Whether a workload shows what an action asked for."""
    match action:
        case K8sDeploy():
            return deployed(seen, action.track, action.image)
        case K8sRollback():
            reading = deployed(seen, "stable", action.image)
            if reading.kind != "done" and _carries_it(action, seen):
                reason = f"stable can take it all as it is: {reading.reason}"
                return Reading(kind="done", reason=reason)
            return reading
        case K8sTraffic():
            return shifted(seen, action.weight, action.target)
        case K8sRetire():
            return retired(seen)


def _carries_it(action: K8sRollback, seen: WorkloadState) -> bool:
    """Whether stable, which the change has not touched, can be given the rest of the traffic
    although it has trouble of its own: a bad canary must not keep its share until the last pod of
    stable has found a node. The larger that share, the more of the pods have to be there."""
    if action.image is not None or action.target.workload.executor != "kubernetes":
        return False
    stable, route = seen.stable, seen.route
    if stable is None or route is None or not stable.available:
        return False
    needed = max(LEAST_PODS, 2 * route.canary_weight / 100)
    return stable.available >= needed * stable.desired


def deployed(seen: WorkloadState, track: Literal["stable", "canary"], image: str | None) -> Reading:
    """Whether a track runs the image at full strength (None: whichever image it has)."""
    state = seen.stable if track == "stable" else seen.canary
    if state is None:
        return Reading(kind="settling", reason=f"the {track} Deployment is not there yet")
    if state.stalled:
        reason = f"{state.name} cannot progress: {state.stalled}"
        return Reading(kind="stalled", reason=reason, by_time=state.stalled.startswith(TOO_LATE))
    if image is not None and state.image != image:
        told = f" ({state.told})" if state.told else ""
        return Reading(kind="settling", reason=f"{state.name} still names {state.image}{told}")
    if not state.ready:
        return Reading(kind="settling", reason=f"{state.name}: {_counts(state)}")
    return Reading(kind="done", reason=f"{state.name} is ready: {_counts(state)}")


def shifted(seen: WorkloadState, weight: int, target: Target) -> Reading:
    """Whether the canary has this weight and what carries the traffic has taken it over.

    An executor that sets weights by itself reports a route of its own, without an HTTPRoute.
    """
    route = seen.route
    if route is None and target.workload.route is None:
        return _shifted_by_replicas(seen, weight)
    if weight and (reading := interrupted(seen)) is not None:
        return reading
    if route is None:
        return Reading(kind="stalled", reason=f"HTTPRoute {target.workload.route} does not exist")
    if route.stalled and not weight == route.canary_weight == 0:
        return Reading(kind="stalled", reason=route.stalled)
    if route.canary_weight != weight:
        told = f" ({route.reason})" if route.reason else ""
        return Reading(
            kind="settling",
            reason=f"the route still gives the canary {route.canary_weight}%{told}",
        )
    if not route.accepted:
        return Reading(
            kind="settling",
            reason=f"{route.by} has not taken the route over: {route.reason or 'no status yet'}",
        )
    return Reading(kind="done", reason=f"{route.by} gives the canary {weight}%")


def interrupted(seen: WorkloadState) -> Reading | None:
    """Why the canary cannot go on by itself; None when nothing keeps it."""
    canary = seen.canary
    if canary is None:
        return None
    if canary.stalled:
        return Reading(kind="stalled", reason=f"{canary.name} cannot progress: {canary.stalled}")
    if canary.undecided:
        return Reading(
            kind="unsure", reason=f"{canary.name} waits for a person: {canary.undecided}"
        )
    return None


def retired(seen: WorkloadState) -> Reading:
    """Whether no canary pod is left."""
    if seen.canary is None or (seen.canary.desired == 0 and seen.canary.total == 0):
        return Reading(kind="done", reason="no canary pod is left")
    return Reading(kind="settling", reason=f"{seen.canary.name}: {_counts(seen.canary)}")


def _shifted_by_replicas(seen: WorkloadState, weight: int) -> Reading:
    stable, canary = seen.stable, seen.canary
    for track in (stable, canary):
        if track is not None and track.stalled:
            return Reading(kind="stalled", reason=f"{track.name}: {track.stalled}")
        if track is not None and not track.ready:
            return Reading(kind="settling", reason=f"{track.name}: {_counts(track)}")
    of_canary = canary.available if canary else 0
    of_all = of_canary + (stable.available if stable else 0)
    share = 100 * of_canary / of_all if of_all else 0
    return Reading(
        kind="done",
        reason=f"{of_canary} of {of_all} pods are canary ({share:.0f}%, asked {weight}%)",
    )


def _counts(track: TrackState) -> str:
    why = f"; {track.why}" if track.why and not track.stalled else ""
    return track.told or (
        f"{track.available} of {track.desired} available, {track.updated} updated, "
        f"{track.total} in all{why}"
    )
