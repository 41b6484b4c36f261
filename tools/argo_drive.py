"""`k8s_deploy` and `k8s_traffic` on a Rollout: from stop to stop, and then all the way.

On a Rollout pods and weight of a step come together: setting the image begins the update, which
runs to its first stop. Policy has looked at that weight when it allowed the deploy.
"""

from __future__ import annotations

from domain.action import K8sDeploy, K8sTraffic
from domain.effect import Applied
from domain.errors import Permanent, Temporary
from tools.argo_hand import AGAIN_SECONDS, ArgoHand
from tools.argo_objects import (
    Sight,
    Stop,
    check_drivable,
    check_steps,
    stop_at,
    stops,
)
from tools.cluster_errors import Json
from tools.cluster_lookup import report
from tools.cluster_objects import image_of, notes_of, with_image

BEFORE = "fermata.dev/before"
"""On the Rollout: the run that began the update, and the image that was stable then."""


async def begin(action: K8sDeploy, hand: ArgoHand) -> Applied:
    """Set the image, so that the update runs to its first stop; start an aborted one again."""
    target, image = action.target, action.image
    sight = await hand.look()
    check_drivable(sight.rollout)
    check_steps(sight.rollout, target, action.weight)
    _check_not_paused(sight)
    is_new = image_of(sight.rollout, target) != image
    if is_new:
        _check_free(sight, hand)
    stable = image_of(sight.stable, target) if sight.stable else ""

    def with_new(rollout: Json) -> Json:
        if image_of(rollout, target) == image:
            return rollout
        noted = {**notes_of(rollout), BEFORE: f"{hand.hand.stamp.run_id} {stable}"}
        changed = with_image(rollout, target, image)
        return {**changed, "metadata": {**changed["metadata"], "annotations": noted}}

    change = await hand.shape(with_new)
    sight = await hand.until("the new pod template", lambda now: now.observed)
    retried = bool(sight.status.get("abort")) and not is_new
    if retried:
        sight = await hand.until(
            "the retry",
            lambda now: not now.status.get("abort") and not now.status.get("abortedAt"),
            lambda now: {"abort": False} if now.status.get("abort") else None,
        )
        await hand.mark()
    did = change.did != "nothing" or retried
    verb = "updates to" if did else "already updates to"
    if not sight.in_progress:
        verb = "already runs" if not did else "runs"
    return report(
        hand.hand.client,
        f"Rollout {sight.name} {verb} {image}",
        sight.rollout,
        {"changed": did, "image": image, "retried": retried},
    )


async def roll(action: K8sDeploy, hand: ArgoHand) -> Applied:
    """All pods to the image, past the steps that remain: they have been judged, or none is
    planned."""
    target, image = action.target, action.image
    sight = await hand.look()
    check_drivable(sight.rollout)
    _check_not_paused(sight)
    change = await hand.shape(lambda rollout: with_image(rollout, target, image))
    sight = await hand.until("the new pod template", lambda now: now.observed)
    promoted = await finish(hand, sight)
    did = change.did != "nothing" or promoted
    if promoted:
        await hand.mark()
        sight = await hand.look()
    verb = "is promoted to" if did else "already runs"
    return report(
        hand.hand.client,
        f"Rollout {sight.name} {verb} {image}",
        sight.rollout,
        {"changed": did, "image": image},
    )


async def finish(hand: ArgoHand, sight: Sight) -> bool:
    """Promote an update past all of its steps; False when none is in progress."""
    if not sight.in_progress:
        return False

    def heard(now: Sight) -> bool:
        full = now.status.get("promoteFull") and not now.status.get("abort")
        return not now.in_progress or bool(full and now.step >= len(now.steps))

    await hand.until(
        "the full promotion",
        heard,
        lambda now: None if now.status.get("promoteFull") else {"promoteFull": True},
    )
    return True


async def weigh(action: K8sTraffic, hand: ArgoHand) -> Applied:
    """Move the update on to its stop at a weight; weight 0 aborts it."""
    sight = await hand.look()
    check_drivable(sight.rollout)
    if action.match is not None:
        raise Permanent(
            f"Rollout {sight.name} cannot be told who reaches its canary by {action.match.words}",
            "take `match` out of services.yaml; a `setHeaderRoute` step of the Rollout does it",
        )
    if action.weight == 0:
        did = await abort(hand, sight)
        told = "takes all traffic from the update" if did else "gives no update any traffic"
    else:
        check_steps(sight.rollout, action.target, action.weight)
        did = await _move_on(hand, sight, action.weight)
        told = f"{'goes' if did else 'already goes'} to its stop at {action.weight}%"
    if did:
        await hand.mark()
    sight = await hand.look()
    return report(
        hand.hand.client,
        f"Rollout {sight.name} {told}",
        sight.rollout,
        {"changed": did, "weight": action.weight, "step": sight.step},
    )


async def abort(hand: ArgoHand, sight: Sight) -> bool:
    """Abort the update that is in progress; False, and nothing done, when there is none."""
    if not sight.in_progress or sight.aborted:
        return False
    await hand.until(
        "the abort",
        lambda now: not now.in_progress or now.aborted,
        lambda now: None if now.status.get("abort") else {"abort": True},
    )
    return True


async def _move_on(hand: ArgoHand, sight: Sight, weight: int) -> bool:
    """Leave stop after stop until the way leads to the one at `weight`."""
    wanted = stop_at(sight, weight)
    did = False
    while True:
        _check_on_course(sight, wanted, weight)
        left = sight.step
        if not any(left <= one.index < wanted.index for one in stops(sight.rollout)):
            return did
        if did and sight.stop is None:
            sight = await hand.until(
                "the next stop", lambda now: now.stop is not None or not now.in_progress
            )
            continue
        if sight.stop is None and not sight.undecided and not sight.is_unpausing:
            raise Temporary(
                f"Rollout {sight.name} is on its way to the stop before {weight}% (step {left} of "
                f"{len(sight.steps)})",
                AGAIN_SECONDS,
            )

        def moved(now: Sight, left: int = left) -> bool:
            return not now.in_progress or now.step > left

        def onward(now: Sight, left: int = left) -> Json | None:
            return None if now.step > left or not now.pauses else _promotion(now)

        sight = await hand.until(f"the promotion to {weight}%", moved, onward)
        did = True


def _promotion(sight: Sight) -> Json:
    """What makes a paused Rollout go on, as `kubectl argo rollouts promote` writes it.

    An analysis step that was inconclusive has to be stepped over: without that it would pause
    again. A person has accepted it by then (docs/executors.md).
    """
    run = (sight.status.get("canary") or {}).get("currentStepAnalysisRunStatus") or {}
    if run.get("status") == "Inconclusive" and sight.status.get("controllerPause"):
        index = min(sight.step + 1, len(sight.steps))
        return {"pauseConditions": None, "controllerPause": False, "currentStepIndex": index}
    return {"pauseConditions": None}


def _check_on_course(sight: Sight, wanted: Stop, weight: int) -> None:
    """Raises Permanent when the update is not one that can still come to its stop at `weight`."""
    remedy = "start the release again; what somebody else promotes or aborts is not overruled"
    if not sight.in_progress:
        raise Permanent(
            f"Rollout {sight.name} has no update in progress to give {weight}%: it was promoted or "
            "taken back by somebody else",
            remedy,
        )
    if sight.aborted:
        raise Permanent(
            f"Rollout {sight.name} was aborted: {sight.degraded or 'no reason'}", remedy
        )
    if sight.step > wanted.index:
        raise Permanent(
            f"Rollout {sight.name} has gone past its stop at {weight}% (step {sight.step} of "
            f"{len(sight.steps)}): somebody else promoted it",
            remedy,
        )


def _check_not_paused(sight: Sight) -> None:
    if sight.rollout["spec"].get("paused"):
        namespace, _, name = sight.name.partition("/")
        raise Permanent(
            f"Rollout {sight.name} is paused by hand (spec.paused), so it would not update",
            f"`kubectl argo rollouts -n {namespace} promote {name}`",
        )


def _check_free(sight: Sight, hand: ArgoHand) -> None:
    """Raises Permanent while another version serves as canary: its traffic would change hands."""
    if not sight.in_progress or sight.aborted or not sight.available_canary or not sight.weight:
        return
    image = image_of(sight.rollout, hand.target)
    raise Permanent(
        f"Rollout {sight.name} is in the middle of an update to {image}, which serves "
        f"{sight.weight}% of the traffic",
        "finish it or take it back first (/rollback, or `kubectl argo rollouts abort`)",
    )
