"""`k8s_rollback` and `k8s_retire`: stable as it was, and the canary out of the way."""

from __future__ import annotations

from domain.action import K8sRetire, K8sRollback
from domain.configuration import names_of
from domain.effect import Applied
from domain.errors import Permanent
from domain.service import Target
from tools.cluster_budget import check_budgets
from tools.cluster_client import DEPLOYMENT, HTTPROUTE, SERVICE
from tools.cluster_config import with_config
from tools.cluster_copies import check_copies
from tools.cluster_errors import Json
from tools.cluster_hand import Hand
from tools.cluster_lookup import (
    applied,
    at_full,
    is_autoscaled,
    missing,
    own_stable,
    scale,
    told,
)
from tools.cluster_objects import canary_name, image_of, replicas, with_image
from tools.cluster_replicas import is_exposed
from tools.cluster_route import canary_weights


async def roll_back(action: K8sRollback, hand: Hand) -> Applied:
    """Stable to the given image (None: the one it has) and configuration, unpaused, with all pods.

    Full means at least what the catalogue says and never fewer than there are. An autoscaler's
    number is left alone unless it is 0, which switches the autoscaler off.
    """
    target, name = action.target, action.target.workload.deployment
    is_scaled = await is_autoscaled(hand.client, target, name)
    await check_copies(hand.client, target, action.config or ())

    def restored(current: Json | None) -> Json:
        if current is None:
            raise missing(DEPLOYMENT, target, name)
        changed = with_image(current, target, action.image or image_of(current, target))
        if action.config is not None:
            changed = with_config(changed, action.config)
        # A paused Deployment would stay where it is.
        changed["spec"].pop("paused", None)
        return changed if is_scaled and replicas(current) else at_full(changed, target)

    change = await hand.ensure(DEPLOYMENT, target.namespace, name, restored)
    image, count = image_of(change.obj, target), replicas(change.obj)
    with_what = f" and {names_of(action.config)}" if action.config else ""
    summary = (
        f"stable {target.namespace}/{name} goes back to {image}{with_what} with {count} pod(s)"
    )
    if change.did == "nothing":
        summary = (
            f"nothing to roll back: stable {target.namespace}/{name} already names {image}"
            f"{with_what} with {count} pod(s)"
        )
    data = {"image": image, "replicas": count, **told(action.config or ())}
    return applied(hand, summary, change, data)


async def retire(action: K8sRetire, hand: Hand) -> Applied:
    """Scale the canary to 0. Raises Permanent while traffic is sent to it, Temporary while a budget
    wants its pods."""
    target, name = action.target, canary_name(action.target)
    canary = await hand.client.get(DEPLOYMENT, target.namespace, name)
    if canary is None:
        return Applied(
            summary=f"there is no canary {target.namespace}/{name} to retire",
            data={"namespace": target.namespace, "name": name, "changed": False},
            simulated=hand.client.simulated,
        )
    await _check_idle(target, canary, hand)
    await check_budgets(hand.client, target, canary, 0)
    change = await scale(hand, target, name, 0)
    verb = "has no pods already" if change.did == "nothing" else "is scaled to 0"
    summary = f"canary {target.namespace}/{name} {verb}"
    return applied(hand, summary, change, {"replicas": 0})


async def _check_idle(target: Target, canary: Json, hand: Hand) -> None:
    names, where = target.workload, target.namespace
    if names.route is not None:
        route = await hand.client.get(HTTPROUTE, where, names.route)
        weight = max(canary_weights(route, target), default=0) if route else 0
        sender = f"HTTPRoute {where}/{names.route} gives it {weight}%" if weight else ""
    else:
        stable = await own_stable(hand.client, target)
        service = await hand.client.get(SERVICE, where, names.deployment)
        exposed = is_exposed(service, stable, canary, target)
        sender = f"Service {where}/{names.deployment} selects it" if exposed else ""
    if sender:
        raise Permanent(
            f"the canary {where}/{canary_name(target)} still gets traffic ({sender}), so its pods "
            "stay",
            "take its traffic away first (k8s_traffic with weight 0)",
        )
