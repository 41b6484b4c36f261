"""`WritePort` on Google Cloud Deploy: a step of ours is a release, a rollout or a phase of one.

| action | in Cloud Deploy |
|---|---|
| `k8s_deploy` canary | a release for this run and target, rendered; nothing runs yet |
| `k8s_traffic` w | its rollout into the phase of w percent: created, approved or advanced |
| `k8s_deploy` stable | the rollout into its last phase, or a rollout of that phase alone |
| `k8s_rollback` | the rollout under way is cancelled, then the target rolled back to a release |
| `k8s_traffic` 0, `k8s_retire` | nothing: the last phase and a rollback leave no canary |

Doing a step twice finds what the first time made: names come from run, target and image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.action import Action, K8sDeploy, K8sRetire, K8sRollback, K8sTraffic
from domain.effect import Applied, Stamp
from domain.errors import Permanent, Temporary
from domain.service import Target
from tools import cloud_deploy_words as words
from tools.cloud_deploy_client import CloudDeployClient
from tools.cloud_deploy_errors import Exists, Untimely
from tools.cloud_deploy_hand import AGAIN_SECONDS, Hand
from tools.cloud_deploy_words import Ladder, Release, Rollout, last_part
from tools.ports import Guard

SAME_STEPS = (
    "make the weights under `canary:` in services.yaml and the percentages of the pipeline's "
    "canary the same"
)


@dataclass(frozen=True)
class CloudDeployWriter:
    """Carries releases out through a delivery pipeline that exists already.

    `patience` is how long, in seconds, one call waits for what it has made to appear, before it
    says `Temporary`.
    """

    client: CloudDeployClient
    patience: float = 15.0

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Do it; nothing is sent where Cloud Deploy is already so."""
        hand = Hand(self.client, stamp, guard, self.patience)
        match action:
            case K8sDeploy(track="canary"):
                return await _prepare(action, hand)
            case K8sDeploy():
                return await _finish(action, hand)
            case K8sTraffic():
                return await _shift(action, hand)
            case K8sRollback():
                return await _roll_back(action, hand)
            case K8sRetire():
                return await _retire(action, hand)
            case _:
                raise Permanent(f"{action.kind} is not an action on a workload")

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """What this very action made, or None."""
        match action:
            case K8sDeploy(track="canary"):
                name = words.release_name(action.target, action.image, stamp.run_id)
                release = await self.client.release(name, action.target)
                return _done(f"release {last_part(name)} is there", name) if release else None
            case K8sDeploy() | K8sTraffic():
                return await self._phase_begun(action, stamp)
            case K8sRollback():
                wanted = words.rollback_id(action.target, stamp)
                for one in await self.client.rollouts(action.target):
                    if one.id == wanted and not _wants_approval(one, action.target):
                        return _done(f"rollout {one.id} rolls the target back", one.name)
                return None
            case _:
                # It changes nothing, so there is nothing to find.
                return None

    async def _phase_begun(self, action: K8sDeploy | K8sTraffic, stamp: Stamp) -> Applied | None:
        if isinstance(action, K8sTraffic) and action.weight == 0:
            return None
        ladder = await self.client.ladder(action.target)
        phase = ladder.phase(action.weight) if isinstance(action, K8sTraffic) else ladder.final
        for one in await self.client.rollouts(action.target):
            found = one.phase(phase)
            if not words.is_of_run(one, action.target, stamp.run_id) or found is None:
                continue
            if _wants_approval(one, action.target):
                return None
            if found.state in words.BEGUN or (one.is_live and _waits_for(one, phase)):
                return _done(f"rollout {one.id} is in phase {phase}", one.name)
        return None


async def _prepare(action: K8sDeploy, hand: Hand) -> Applied:
    """A release for the target. Refused where the pipeline's canary is another than ours."""
    target = action.target
    ladder = await _open_ladder(hand.client, target)
    ladder.phase(action.weight)
    rollouts = await hand.client.rollouts(target)
    if words.deployed(rollouts) is None:
        raise Permanent(
            f"nothing was ever rolled out to {target.key} by Cloud Deploy, which skips the canary "
            "the first time and would give the new version all traffic",
            "roll the running version out once in Cloud Deploy, then release by canary",
        )
    last = words.newest(rollouts)
    if last is not None and (last.is_live or last.in_canary):
        _check_ours(last, target, hand.stamp)
        image = await _image(hand.client, last, target)
        if image != action.image:
            raise Permanent(
                f"rollout {last.id} of {image} is still under way to {target.key}",
                "roll it back first (/rollback)",
            )
        _check_next(ladder, last, action.weight)
        return _done(f"rollout {last.id} of {action.image} is under way already", last.name)
    _check_steps(ladder, target, action.weight)
    release = await hand.release(target, action.image)
    return _done(f"release {last_part(release.name)} of {action.image} is made", release.name)


def _check_steps(ladder: Ladder, target: Target, first: int) -> None:
    """All of the pipeline's percentages are to be those of the service, before anything begins."""
    theirs = tuple(percent for _, percent in ladder.rungs)
    ours = target.weights or (first, *theirs[1:])
    if theirs != ours:
        raise Permanent(
            f"the canary of pipeline {ladder.pipeline} goes {_percent(theirs)}, and that of "
            f"{target.key} {_percent(ours)}",
            SAME_STEPS,
        )


def _percent(weights: tuple[int, ...]) -> str:
    return ", ".join(f"{one}%" for one in weights)


async def _shift(action: K8sTraffic, hand: Hand) -> Applied:
    """Into the phase that gives the canary this weight."""
    target, weight = action.target, action.weight
    if action.match is not None:
        raise Permanent(
            f"Cloud Deploy cannot send {target.key} requests by their headers",
            "take `match:` out of the canary in services.yaml, or choose another executor",
        )
    rollouts = await hand.client.rollouts(target)
    last = words.newest(rollouts)
    if weight == 0:
        if last is None or not last.in_canary:
            return _done(f"no canary of {target.key} gets traffic", "", changed=False)
        raise Permanent(
            f"rollout {last.id} gives the canary of {target.key} traffic, and Cloud Deploy takes "
            "it away only by rolling the target back",
            "roll it back (/rollback)",
        )
    ladder = await _open_ladder(hand.client, target)
    phase = ladder.phase(weight)
    if last is None or not words.is_of_run(last, target, hand.stamp.run_id):
        if last is not None and last.is_live:
            _check_ours(last, target, hand.stamp)
        release = await _release_of_run(hand, target)
        if ladder.rungs[0][0] != phase:
            raise Permanent(f"the canary of {target.key} has not begun, so it cannot get {weight}%")
        rollout = await hand.roll_out(target, release, "")
        said = await hand.approved(target, rollout)
        return _done(f"rollout {rollout.id} begins with {phase} ({weight}%){said}", rollout.name)
    found = last.phase(phase)
    if found is not None and (found.state in words.BEGUN or _waits_for(last, phase)):
        said = await hand.approved(target, last)
        return _done(
            f"rollout {last.id} is in phase {phase} already{said}", last.name, changed=bool(said)
        )
    await _advance(hand, ladder, last, phase)
    return _done(f"rollout {last.id} goes on to {phase} ({weight}%)", last.name)


async def _finish(action: K8sDeploy, hand: Hand) -> Applied:
    """The last phase: of the rollout under way, or of one that consists of nothing else."""
    target, image = action.target, action.image
    ladder = await _open_ladder(hand.client, target)
    rollouts = await hand.client.rollouts(target)
    last = words.newest(rollouts)
    if last is not None:
        is_it = await _image(hand.client, last, target) == image
        if is_it and last.state == "SUCCEEDED":
            return _done(f"{target.key} runs {image} already", last.name, changed=False)
        if last.is_live or last.in_canary:
            _check_ours(last, target, hand.stamp)
            final = last.phases[-1] if last.phases else None
            if is_it and (final is None or last.at is None or final.state in words.BEGUN):
                said = await hand.approved(target, last)
                return _done(f"rollout {last.id} is on its way already{said}", last.name)
            if is_it and final is not None:
                await _advance(hand, ladder, last, final.id)
                return _done(f"rollout {last.id} goes on to {final.id}, all traffic", last.name)
            raise Permanent(
                f"rollout {last.id} of another version is under way to {target.key}",
                "roll it back first (/rollback)",
            )
    release = await hand.release(target, image)
    if release.rendered == "FAILED":
        raise Permanent(
            f"release {last_part(release.name)} could not be rendered: {release.failure}"
        )
    rollout = await hand.roll_out(target, release, ladder.final if ladder.rungs else "")
    said = await hand.approved(target, rollout)
    return _done(f"rollout {rollout.id} brings {image} to {target.key}{said}", rollout.name)


async def _roll_back(action: K8sRollback, hand: Hand) -> Applied:
    """What is under way is called off; then a rollout of the release that is to run."""
    target = action.target
    own = words.rollback_id(target, hand.stamp)
    rollouts = await hand.client.rollouts(target)
    last, proven = words.newest(rollouts), words.deployed(rollouts)
    if last is not None and last.id == own:
        said = await hand.approved(target, last)
        return _done(f"rollout {own} rolls {target.key} back already{said}", last.name)
    if last is None or (last is proven and action.image is None):
        return _done(f"nothing to roll back on {target.key}", "", changed=False)
    goal = await _release_to_restore(action, hand, rollouts)
    runs = proven is not None and proven.release == goal.name
    if runs and (last is proven or (last.is_canary and last.at is None and not last.is_live)):
        return _done(
            f"nothing to roll back: {target.key} runs {goal.image(target)}",
            last.name,
            changed=False,
        )
    # Before anything is called off: nothing could be put in its place.
    await _open_ladder(hand.client, target)
    if last.is_live:
        last = await _called_off(hand, target, last)
        if runs and not last.is_live and last.at is None:
            return _done(f"rollout {last.id} is called off before it began", last.name)
    try:
        await _put_back(hand, target, own, goal, last.name)
    except (Exists, Untimely) as error:
        now = words.newest(await hand.client.rollouts(target))
        if isinstance(error, Exists) or now is None or now.name != last.name:
            raise Temporary(f"{error}; another rollout came in between", 1.0) from None
        # It is the last one by all that can be seen. What was cancelled may not count as being on
        # the target; the way back must not end at that.
        await _put_back(hand, target, own, goal, "")
    rollout = await hand.until(target, own)
    said = await hand.approved(target, rollout)
    return _done(
        f"rollout {own} brings {target.key} back to {goal.image(target)}{said}", rollout.name
    )


async def _put_back(hand: Hand, target: Target, id: str, goal: Release, latest: str) -> None:
    await hand.client.roll_back(
        target,
        id,
        to_release=goal.name,
        latest=latest,
        notes=words.notes(target, hand.stamp),
        guard=hand.guard,
    )


async def _called_off(hand: Hand, target: Target, rollout: Rollout) -> Rollout:
    """A rollout once it has ended, by our hand or by itself meanwhile."""
    if rollout.state != "CANCELLING":
        try:
            await hand.client.cancel(rollout.name, hand.guard)
        except (Exists, Untimely):
            now = await hand.until(target, rollout.id)
            if now.is_live and now.state != "CANCELLING":
                raise
    return await hand.until(target, rollout.id, ended=True)


async def _retire(action: K8sRetire, hand: Hand) -> Applied:
    """Cloud Deploy takes its canaries away by itself; one that serves is not ours to take."""
    last = words.newest(await hand.client.rollouts(action.target))
    if last is not None and last.in_canary:
        raise Permanent(
            f"the canary of {action.target.key} still gets traffic (rollout {last.id})",
            "roll it back (/rollback), or let it go on",
        )
    return _done(f"no canary of {action.target.key} is left", "", changed=False)


async def _release_to_restore(action: K8sRollback, hand: Hand, rollouts: list[Rollout]) -> Release:
    """The release of the last known good image; without an image, the one that was stable."""
    target = action.target
    done = sorted(
        (one for one in rollouts if one.state == "SUCCEEDED"),
        key=lambda one: (one.ended, one.created),
        reverse=True,
    )
    for one in done:
        release = await hand.client.release(one.release, target)
        if release is None or release.abandoned:
            continue
        if action.image is None or release.image(target) == action.image:
            return release
    raise Permanent(
        f"Cloud Deploy has no release of {action.image or 'an earlier version'} that was rolled "
        f"out to {target.key} and is not abandoned",
        "release that version anew, or roll the target back in Cloud Deploy by hand",
    )


async def _open_ladder(client: CloudDeployClient, target: Target) -> Ladder:
    ladder = await client.ladder(target)
    if ladder.suspended:
        raise Permanent(
            f"pipeline {ladder.pipeline} is suspended",
            "lift the suspension in Cloud Deploy: it takes no new rollouts, none back either",
        )
    return ladder


def _wants_approval(rollout: Rollout, target: Target) -> bool:
    """Whether the step that made it is not done before it is approved."""
    return rollout.needs_approval and rollout.is_live and words.settings_of(target).approve


def _waits_for(rollout: Rollout, phase: str) -> bool:
    """Whether a rollout that has not begun will begin with this phase."""
    return rollout.at is None and rollout.next is not None and rollout.next.id == phase


async def _advance(hand: Hand, ladder: Ladder, rollout: Rollout, phase: str) -> None:
    upcoming = rollout.next
    if upcoming is None or upcoming.id != phase:
        raise Permanent(
            f"rollout {rollout.id} goes on to {upcoming.id if upcoming else 'nothing'}, "
            f"not to {phase}",
            SAME_STEPS,
        )
    if rollout.state != "IN_PROGRESS" or rollout.at is None or rollout.at.state != "SUCCEEDED":
        at = rollout.at.id if rollout.at else "its first phase"
        raise Temporary(f"rollout {rollout.id} has not come through {at} yet", AGAIN_SECONDS)
    await hand.client.advance(rollout.name, phase, hand.guard)


def _check_next(ladder: Ladder, rollout: Rollout, weight: int) -> None:
    """Before anything: is it our next weight that the pipeline would go on to?"""
    phase = ladder.phase(weight)
    found, upcoming = rollout.phase(phase), rollout.next
    if found is not None and (found.state in words.BEGUN or found is upcoming):
        return
    raise Permanent(
        f"rollout {rollout.id} goes on to {upcoming.id if upcoming else 'nothing'}, not to {phase}",
        SAME_STEPS,
    )


def _check_ours(rollout: Rollout, target: Target, stamp: Stamp) -> None:
    if words.is_of_run(rollout, target, stamp.run_id):
        return
    if rollout.is_live:
        raise Permanent(
            f"rollout {rollout.id}, which this run has not made, is under way to {target.key} "
            f"({rollout.state})",
            "let it end, or cancel it in Cloud Deploy, then retry",
        )
    raise Permanent(
        f"rollout {rollout.id} broke off ({rollout.state}), and its canary of {target.key} still "
        "gets traffic",
        "roll it back first (/rollback)",
    )


async def _release_of_run(hand: Hand, target: Target) -> Release:
    for one in await hand.client.releases(target):
        if words.is_of_run(one, target, hand.stamp.run_id) and not one.abandoned:
            return one
    raise Permanent(f"no release is prepared for {target.key} in this run", "start it anew")


async def _image(client: CloudDeployClient, rollout: Rollout, target: Target) -> str:
    release = await client.release(rollout.release, target)
    return release.image(target) if release else ""


def _done(summary: str, name: str, *, changed: bool = True) -> Applied:
    data: dict[str, Any] = {"changed": changed}
    return Applied(summary=summary, data={**data, "name": name} if name else data)
