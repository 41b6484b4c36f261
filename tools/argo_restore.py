"""`k8s_rollback` and `k8s_retire` on a Rollout: no update, and its template as it was.

An abort takes the traffic away at once, but leaves `spec.template` on the bad version: whoever
retries, scales or applies next would bring it back. So the template goes back, too.
"""

from __future__ import annotations

from copy import deepcopy

from domain.action import K8sRetire, K8sRollback
from domain.effect import Applied
from domain.errors import Permanent, Temporary
from domain.service import Target
from tools.argo_drive import BEFORE, abort, finish
from tools.argo_hand import ArgoHand
from tools.argo_objects import HASH, Sight
from tools.cluster_errors import Json
from tools.cluster_lookup import report
from tools.cluster_objects import image_of, notes_of, with_image


async def roll_back(action: K8sRollback, hand: ArgoHand) -> Applied:
    """Abort what is in progress, then bring stable to the image (None: the one that was stable
    when this run began), with the template that belongs to it."""
    target = action.target
    sight = await hand.look()
    if sight.stable is None:
        raise Permanent(
            f"Rollout {sight.name} has no stable version to go back to",
            "deploy a version that works",
        )
    image = action.image or _before(sight, hand) or image_of(sight.stable, target)
    try:
        aborted = await abort(hand, sight)
    except Temporary:
        # The template goes back even so: whenever the controller comes to it, all of it is said.
        aborted = False
    change = await hand.shape(lambda rollout: _resumed(with_image(rollout, target, image)))
    sight = await hand.until("the way back", lambda now: now.observed)
    template = _template_of(sight, image, target)
    restored = change.did != "nothing"
    if sight.in_progress and template is not None:
        # More than the image differs from the version that was good: all of it goes back.
        whole = await hand.shape(lambda rollout: _with_template(rollout, template))
        sight = await hand.until("the way back", lambda now: now.observed)
        restored = restored or whole.did != "nothing"
    promoted = await finish(hand, sight)
    did = aborted or restored or promoted
    if did:
        await hand.mark()
    sight = await hand.look()
    told = f"goes back to {image}" if did else f"has nothing to roll back: it runs {image} already"
    return report(
        hand.hand.client,
        f"Rollout {sight.name} {told}",
        sight.rollout,
        {"changed": did, "image": image, "aborted": aborted},
    )


async def retire(action: K8sRetire, hand: ArgoHand) -> Applied:
    """Nothing to write: Argo takes the pods of an update away by itself. Raises Permanent while
    one still gets traffic."""
    sight = await hand.look()
    if sight.in_progress and not sight.aborted and sight.weight:
        raise Permanent(
            f"the update of Rollout {sight.name} still gets {sight.weight}% of the traffic, so its "
            "pods stay",
            "take its traffic away first (k8s_traffic with weight 0)",
        )
    return report(
        hand.hand.client,
        f"Argo takes the pods of Rollout {sight.name}'s last update away by itself",
        sight.rollout,
        {"changed": False},
    )


def _before(sight: Sight, hand: ArgoHand) -> str:
    """The image that was stable when this run began its update; '' when it began none."""
    run, _, image = notes_of(sight.rollout).get(BEFORE, "").partition(" ")
    return image if run == str(hand.hand.stamp.run_id) else ""


def _template_of(sight: Sight, image: str, target: Target) -> Json | None:
    """The pod template with which the image was last stable or at least run; None when unknown."""
    running = [sight.stable] if sight.stable else []
    by_revision = sorted(sight.sets, key=_revision, reverse=True)
    current = sight.status.get("currentPodHash")
    for one in (*running, *by_revision):
        labels = one["metadata"].get("labels") or {}
        if labels.get(HASH) != current and image_of(one, target) == image:
            template = deepcopy(one["spec"]["template"])
            template["metadata"].get("labels", {}).pop(HASH, None)
            return template  # type: ignore[no-any-return]
    return None


def _revision(replica_set: Json) -> int:
    given = notes_of(replica_set).get("rollout.argoproj.io/revision", "")
    return int(given) if given.isdigit() else 0


def _resumed(rollout: Json) -> Json:
    """Not paused by hand, or the way back would stay where it is."""
    spec = {key: value for key, value in rollout["spec"].items() if key != "paused"}
    return {**rollout, "spec": spec}


def _with_template(rollout: Json, template: Json) -> Json:
    return {**rollout, "spec": {**rollout["spec"], "template": template}}
