"""`k8s_traffic`: the canary's weight, on an HTTPRoute or by numbers of pods."""

from __future__ import annotations

from domain.action import K8sTraffic
from domain.effect import Applied
from domain.errors import Permanent, Temporary
from domain.service import Target
from tools.cluster_budget import check_budgets, why_kept
from tools.cluster_client import DEPLOYMENT, HTTPROUTE, SERVICE, ClusterClient
from tools.cluster_errors import Json
from tools.cluster_hand import Change, Hand
from tools.cluster_lookup import applied, is_autoscaled, missing, own_stable, scale
from tools.cluster_objects import canary_name, full_replicas, replicas
from tools.cluster_replicas import sizes, with_selector
from tools.cluster_route import with_weight
from tools.cluster_testers import with_testers

CANARY_WAIT_SECONDS = 2.0


async def weigh_by_route(action: K8sTraffic, route: str, hand: Hand) -> Applied:
    """Set the two backends' weights in every rule that has both, let testers in or out, and touch
    nothing else."""
    target, weight, match = action.target, action.weight, action.match
    if weight > 0 or match is not None:
        await _check_canary_serves(hand.client, target)

    def weighted(current: Json | None) -> Json:
        if current is None:
            raise missing(HTTPROUTE, target, route)
        return with_testers(with_weight(current, target, weight), target, match)

    change = await hand.ensure(HTTPROUTE, target.namespace, route, weighted)
    verb = "already gives" if change.did == "nothing" else "gives"
    testers = f", and requests with {match.words}" if match is not None else ""
    return applied(
        hand,
        f"HTTPRoute {target.namespace}/{route} {verb} the canary {weight}%{testers}",
        change,
        {"weight": weight},
    )


async def weigh_by_replicas(action: K8sTraffic, hand: Hand) -> Applied:
    """Size both tracks, then let the Service select those that are to serve.

    Weight 0 first gives stable its pods back, then turns the Service to it, then takes the
    canary's pods away.
    """
    target, weight = action.target, action.weight
    if action.match is not None:
        raise Permanent(
            f"{target.key} has no HTTPRoute, so requests with {action.match.words} cannot be told "
            "from others",
            "name an HTTPRoute as workload.route in services.yaml",
        )
    name, canary = target.workload.deployment, canary_name(target)
    stable = await own_stable(hand.client, target)
    is_scaled = await is_autoscaled(hand.client, target, name)
    if is_scaled and 50 < weight < 100:
        raise Permanent(
            f"stable of {target.key} is sized by a HorizontalPodAutoscaler, so replica weighting "
            "cannot make it the smaller part",
            "name an HTTPRoute as workload.route in services.yaml, or use weights up to 50",
        )
    full = replicas(stable) if is_scaled else full_replicas(stable, target)
    changes: list[Change] = []
    small = full
    if weight > 0:
        await _check_canary_serves(hand.client, target)
        small, count = sizes(full, weight)
        changes.append(await scale(hand, target, canary, count))
    if not is_scaled:
        await check_budgets(hand.client, target, stable, small)
        changes.append(await scale(hand, target, name, small, note_full=full))

    def selecting(current: Json | None) -> Json:
        if current is None:
            raise missing(SERVICE, target, name)
        return with_selector(current, stable, target, weight)

    changes.append(await hand.ensure(SERVICE, target.namespace, name, selecting))
    kept = ""
    if weight == 0 and (there := await hand.client.get(DEPLOYMENT, target.namespace, canary)):
        # Traffic is back already. Pods that a budget wants are left for `k8s_retire` to wait for.
        kept = await why_kept(hand.client, target, there, 0)
        if not kept:
            changes.append(await scale(hand, target, canary, 0))
    did = "nothing" if all(one.did == "nothing" for one in changes) else "changed"
    verb = "already spreads" if did == "nothing" else "spreads"
    return applied(
        hand,
        f"Service {target.namespace}/{name} {verb} traffic by pods for a canary weight of "
        f"{weight}%" + (f"; its pods stay for now: {kept}" if kept else ""),
        Change(changes[-1].obj, "nothing" if did == "nothing" else "changed"),
        {"weight": weight},
    )


async def _check_canary_serves(client: ClusterClient, target: Target) -> None:
    """No weight for pods that are not there: a Service without ready endpoints answers 503."""
    name = canary_name(target)
    canary = await client.get(DEPLOYMENT, target.namespace, name)
    if canary is None:
        raise missing(DEPLOYMENT, target, name)
    if not (canary.get("status") or {}).get("availableReplicas"):
        raise Temporary(
            f"Deployment {target.namespace}/{name} has no available pod, so it gets no traffic",
            CANARY_WAIT_SECONDS,
        )
