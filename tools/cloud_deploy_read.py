"""What Cloud Deploy says about a target, as a workload. Changes nothing.

Cloud Deploy reports releases, rollouts and phases, and no pods. A rollout that has gone all the way
has waited for the pods itself; it stands here as one replica of one, with its state in words.

A canary is what is prepared (a rendered release of ours: nothing runs) or the part of a rollout
before its last phase. A rollout that broke off there still serves, and is told so.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.service import Target
from domain.workload import RouteState, TrackState, WorkloadState
from tools.cloud_deploy_client import CloudDeployClient
from tools.cloud_deploy_words import (
    TARGET,
    Ladder,
    Release,
    Rollout,
    deployed,
    newest,
)

BY = "Cloud Deploy"
BROKEN = {
    "FAILED": "failed",
    "APPROVAL_REJECTED": "was rejected by an approver",
    "HALTED": "was halted",
}
WAITS = {
    "PENDING": "waits for an earlier rollout on this target",
    "PENDING_APPROVAL": "waits for approval in Cloud Deploy",
    "PENDING_RELEASE": "waits for its release to be rendered",
    "CANCELLING": "is being cancelled",
}


@dataclass(frozen=True)
class CloudDeployReader:
    """`ClusterReader` on Cloud Deploy."""

    client: CloudDeployClient

    async def workload(self, target: Target) -> WorkloadState:
        """What runs on the target, what is on its way there, and how far it has got."""
        ladder = await self.client.ladder(target)
        rollouts = await self.client.rollouts(target)
        last, before = newest(rollouts), deployed(rollouts)
        now = await self._release(last, target)
        was = now if last is before else await self._release(before, target)
        prepared = None
        if last is None or not (last.is_live or last.in_canary):
            releases = await self.client.releases(target)
            prepared = prepared_for(target, releases, rollouts, last)
        return state_of(target, ladder, (last, now), (before, was), prepared)

    async def _release(self, rollout: Rollout | None, target: Target) -> Release | None:
        return await self.client.release(rollout.release, target) if rollout else None


def prepared_for(
    target: Target, releases: list[Release], rollouts: list[Rollout], last: Rollout | None
) -> Release | None:
    """The release that we have made for a target, when it has not been brought there yet."""
    begun = {one.release for one in rollouts}
    for one in releases:
        if one.notes.get(TARGET) != target.key or one.abandoned:
            continue
        is_newer = last is None or one.created >= last.created
        return one if is_newer and one.name not in begun else None
    return None


def state_of(
    target: Target,
    ladder: Ladder,
    latest: tuple[Rollout | None, Release | None],
    proven: tuple[Rollout | None, Release | None],
    prepared: Release | None,
) -> WorkloadState:
    """A workload from the latest rollout and the last one that went all the way, with their
    releases, and what is prepared. Pure."""
    last, now = latest
    before, was = proven
    image_now = now.image(target) if now else ""
    stable = _track(before, was.image(target) if was else "") if before else None
    if last is None or last.state == "SUCCEEDED":
        canary = _prepared(prepared, target) if prepared else None
        return WorkloadState(stable=stable, canary=canary, route=_no_weight())
    moving = _track(last, image_now)
    if last.is_canary and last.at is None and prepared is not None:
        # It ended before it began (rejected, for one): that was its own release's business.
        return WorkloadState(stable=stable, canary=_prepared(prepared, target), route=_no_weight())
    if last.is_canary:
        weight = ladder.weight(last.at.id) if last.at else 0
        return WorkloadState(stable=stable, canary=moving, route=_route(last, weight))
    canary = _prepared(prepared, target) if prepared and not last.is_live else None
    return WorkloadState(stable=moving, canary=canary, route=_no_weight())


def _track(rollout: Rollout, image: str) -> TrackState:
    done = rollout.state == "SUCCEEDED" or _has_arrived(rollout)
    # Nothing runs of a canary that has not begun; it is not ready to be retired but gone.
    one = 0 if rollout.is_canary and rollout.at is None else 1
    return TrackState(
        name=f"rollout {rollout.id}",
        image=image,
        desired=one,
        updated=one if done else 0,
        available=one if done else 0,
        total=one,
        observed=True,
        stalled=_stalled(rollout),
        told=told(rollout),
    )


def _prepared(release: Release, target: Target) -> TrackState:
    """Rendered and waiting: there is nothing of it that could serve."""
    id = release.name.rpartition("/")[2]
    stalled = ""
    if release.rendered == "FAILED":
        stalled = f"it could not be rendered: {release.failure or 'see its render log'}"
    return TrackState(
        name=f"release {id}",
        image=release.image(target),
        desired=0,
        updated=0,
        available=0,
        total=0,
        observed=release.rendered == "SUCCEEDED",
        stalled=stalled,
        told="rendered" if release.rendered == "SUCCEEDED" else "being rendered",
    )


def _route(rollout: Rollout, weight: int) -> RouteState:
    return RouteState(
        canary_weight=weight,
        accepted=_has_arrived(rollout) or not rollout.is_live,
        reason=told(rollout),
        by=BY,
        stalled=_stalled(rollout) and f"rollout {rollout.id} {_stalled(rollout)}",
    )


def _no_weight() -> RouteState:
    return RouteState(canary_weight=0, accepted=True, by=BY)


def _has_arrived(rollout: Rollout) -> bool:
    """Whether it has come through its present phase and waits to be advanced."""
    return (
        rollout.state == "IN_PROGRESS"
        and rollout.at is not None
        and rollout.at.state == "SUCCEEDED"
        and rollout.at is not rollout.phases[-1]
    )


def _stalled(rollout: Rollout) -> str:
    how = BROKEN.get(rollout.state)
    if how is None and rollout.at is not None and rollout.at.state in ("FAILED", "ABORTED"):
        how = "failed"
    if how is None:
        return ""
    where = f" in phase {rollout.at.id}" if rollout.at else ""
    return f"{how}{where}" + (f": {rollout.failure}" if rollout.failure else "")


def told(rollout: Rollout) -> str:
    """Where a rollout stands, in words."""
    if rollout.state in WAITS:
        return f"rollout {rollout.id} {WAITS[rollout.state]}"
    if rollout.at is None:
        return f"rollout {rollout.id} is {rollout.state}"
    if rollout.state == "CANCELLED":
        return f"rollout {rollout.id} was cancelled in phase {rollout.at.id}, which still serves"
    return f"rollout {rollout.id} is {rollout.state}, phase {rollout.at.id} is {rollout.at.state}"
