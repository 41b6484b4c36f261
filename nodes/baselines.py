"""Baselines: what runs on a target, where that is no longer what ran when the plan was made.

A change may stand in line behind others, and wait for people. What the others have brought in
meanwhile is what it is compared with, and what it goes back to.
"""

from __future__ import annotations

from domain.configuration import is_other
from domain.service import Target
from domain.state import Baseline, State
from domain.workload import TrackState, WorkloadState


def baseline_now(target: Target, seen: WorkloadState) -> Baseline:
    """What a target runs as of a look at it."""
    if seen.stable is None:
        return Baseline(key=target.key, image=None)
    return Baseline(key=target.key, image=seen.stable.image, config=seen.stable.config)


def under_way(seen: WorkloadState, *, held: bool) -> TrackState | None:
    """A canary of another version than stable's that serves, or may at any moment.

    `held`: a run is at work on the target. Without one, pods that get no traffic are what a budget
    kept from being retired, and no reason to leave stable alone.
    """
    stable, canary, route = seen.stable, seen.canary, seen.route
    if stable is None or canary is None:
        return None
    weight, accepted = (route.canary_weight, route.accepted) if route is not None else (0, True)
    serves = weight > 0 or (canary.desired > 0 and (held or not accepted))
    other = canary.image != stable.image or is_other(canary.config, stable.config)
    return canary if serves and other else None


def as_of_now(state: State, target: Target, seen: WorkloadState) -> tuple[Baseline, ...]:
    """The run's baselines, that of a target it has not yet rolled out to as of a look at it."""
    if seen.stable is None:
        return tuple(state["baselines"])
    now = baseline_now(target, seen)
    return tuple(now if one.key == now.key else one for one in state["baselines"])
