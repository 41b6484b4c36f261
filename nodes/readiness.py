"""When a workload counts as settled: the order rules of progressive delivery, as pure functions.

Forward: pods ready (spec observed, updated = available = desired) before weight; a route counts
only when Accepted and ResolvedRefs hold at its current generation.
"""

from __future__ import annotations

from typing import Literal

from domain.event import Frozen
from domain.service import Target
from domain.workload import TrackState, WorkloadState


class Reading(Frozen):
    """`settling`: look again; `stalled`: it will not get there by itself."""

    kind: Literal["done", "settling", "stalled"]
    reason: str


def deployed(seen: WorkloadState, track: Literal["stable", "canary"], image: str | None) -> Reading:
    """Whether a track runs the image at full strength (None: whichever image it has)."""
    state = seen.stable if track == "stable" else seen.canary
    if state is None:
        return Reading(kind="settling", reason=f"the {track} Deployment is not there yet")
    if state.stalled:
        return Reading(kind="stalled", reason=f"{state.name} cannot progress: {state.stalled}")
    if image is not None and state.image != image:
        told = f" ({state.told})" if state.told else ""
        return Reading(kind="settling", reason=f"{state.name} still names {state.image}{told}")
    if not state.ready:
        return Reading(kind="settling", reason=f"{state.name}: {_counts(state)}")
    return Reading(kind="done", reason=f"{state.name} is ready: {_counts(state)}")


def shifted(seen: WorkloadState, weight: int, target: Target) -> Reading:
    """Whether the route gives the canary this weight and the gateway has taken it over.

    An executor that has a say of its own over weights reports them as a route.
    """
    route = seen.route
    if target.workload.route is None and route is None:
        return _shifted_by_replicas(seen, weight)
    if route is None:
        return Reading(kind="stalled", reason=f"HTTPRoute {target.workload.route} does not exist")
    if route.stalled and not weight == route.canary_weight == 0:
        return Reading(kind="stalled", reason=route.stalled)
    if route.canary_weight != weight:
        return Reading(
            kind="settling", reason=f"the route still gives the canary {route.canary_weight}%"
        )
    if not route.accepted:
        return Reading(
            kind="settling",
            reason=f"the gateway has not taken the route over: {route.reason or 'no status yet'}",
        )
    return Reading(kind="done", reason=f"the gateway gives the canary {weight}%")


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
    return track.told or (
        f"{track.available} of {track.desired} available, {track.updated} updated, "
        f"{track.total} in all"
    )
