"""`k8s_deploy`: canary pods without traffic, a stable roll-out, a first install."""

from __future__ import annotations

from domain.action import K8sDeploy
from domain.configuration import Configuration, names_of
from domain.effect import Applied
from domain.errors import Permanent
from domain.service import Target
from tools import cluster_replicas
from tools.cluster_budget import budgets_over
from tools.cluster_client import DEPLOYMENT, HTTPROUTE, SERVICE, Kind
from tools.cluster_config import config_of, takes, with_config, with_environment
from tools.cluster_copies import snapshot
from tools.cluster_errors import Json
from tools.cluster_hand import Hand
from tools.cluster_lookup import (
    applied,
    at_full,
    is_autoscaled,
    missing,
    own_stable,
    told,
    unless_present,
)
from tools.cluster_objects import (
    FULL,
    TRACK,
    canary_name,
    canary_of,
    check_owned,
    first_deployment_spec,
    full_replicas,
    image_of,
    manifest,
    notes_of,
    replicas,
    selector_of,
    selects,
    service_selects,
    service_spec,
    track_labels,
    with_image,
)
from tools.cluster_route import canary_weights, route_spec, with_weight


async def deploy_canary(action: K8sDeploy, hand: Hand) -> Applied:
    """Create or update the canary: stable's own pod template with another image.

    It gets `weight` percent of stable's pods, rounded up, at least one; one that runs this image
    already is never made smaller, as it may be serving.
    """
    target, name = action.target, canary_name(action.target)
    stable = await own_stable(hand.client, target)
    canary = await hand.client.get(DEPLOYMENT, target.namespace, name)
    pods = track_labels(target, stable, "canary")
    if selects(stable["spec"]["selector"], pods):
        raise Permanent(
            f"the selector of Deployment {target.namespace}/{target.workload.deployment} would "
            "match the canary's pods too",
            f"a selector cannot be changed: recreate the Deployment with {TRACK}=stable in its "
            "selector and pod template (docs/kubernetes.md shows how to without an outage)",
        )
    serves = await _keep_apart(action, stable, canary, hand)
    config = await snapshot(hand, target, action.config, action.image)
    if serves and canary is not None and not takes(canary, target, config):
        raise _serves(target, names_of(config_of(canary, target)))
    # Whoever may not read budgets learns it now, and not when the pods are to go.
    await budgets_over(hand.client, stable)
    template = with_config(stable, config)
    is_scaled = await is_autoscaled(hand.client, target, name)
    size = full_replicas(stable, target) if FULL in notes_of(stable) else replicas(stable)
    wanted = max(1, -(-action.weight * size // 100))

    def service(current: Json | None) -> Json:
        selector = selector_of(target, pods)
        if current is None:
            return manifest(SERVICE, target, name, pods, service_spec(target, selector))
        if service_selects(current, pods):
            return current
        return {**current, "spec": {**current["spec"], "selector": selector}}

    def deployment(current: Json | None) -> Json:
        if current is None:
            spec = canary_of(template, target, action.image, wanted)
            return manifest(DEPLOYMENT, target, name, pods, spec)
        selector = current["spec"]["selector"]
        if not selects(selector, pods):
            raise Permanent(
                f"Deployment {target.namespace}/{name} selects other pods than a canary of "
                f"{target.workload.deployment} has, and a selector cannot be changed",
                f"delete it: `kubectl -n {target.namespace} delete deployment {name}`",
            )
        count, now = wanted, replicas(current)
        if is_scaled and now:
            count = now
        elif image_of(current, target) == action.image and takes(current, target, config):
            count = max(now, wanted)
        spec = canary_of(template, target, action.image, count)
        return {**current, "spec": {**spec, "selector": selector}}

    await hand.ensure(SERVICE, target.namespace, name, service)
    change = await hand.ensure(DEPLOYMENT, target.namespace, name, deployment)
    count = replicas(change.obj)
    verb = "already has" if change.did == "nothing" else "gets"
    return applied(
        hand,
        f"canary {target.namespace}/{name} {verb} {count} pod(s) of {action.image}" + _with(config),
        change,
        {"image": action.image, "replicas": count, **told(config)},
    )


async def _keep_apart(action: K8sDeploy, stable: Json, canary: Json | None, hand: Hand) -> bool:
    """See to it, before there are pods of a new image, that no traffic will reach them.

    Whether the canary gets traffic as it is.
    """
    target, name = action.target, action.target.workload.deployment
    pods = track_labels(target, stable, "canary")
    service = await hand.client.get(SERVICE, target.namespace, name)
    if target.workload.route is None:
        if service is None:
            raise missing(SERVICE, target, name)
        is_exposed = cluster_replicas.is_exposed(service, stable, canary, target)
        if not is_exposed:

            def stable_alone(current: Json | None) -> Json:
                if current is None:
                    raise missing(SERVICE, target, name)
                return cluster_replicas.with_selector(current, stable, target, 0)

            await hand.ensure(SERVICE, target.namespace, name, stable_alone)
    else:
        route = await hand.client.get(HTTPROUTE, target.namespace, target.workload.route)
        if route is None:
            raise missing(HTTPROUTE, target, target.workload.route)
        # What would stop the traffic step is better said before there are pods.
        check_owned(HTTPROUTE, route)
        with_weight(route, target, max(1, action.weight))
        is_exposed = any(canary_weights(route, target))
        if service is not None and service_selects(service, pods):
            raise Permanent(
                f"Service {target.namespace}/{name} would send traffic to the canary past the "
                "route's weights",
                f"add {TRACK}: stable to its selector",
            )
    if is_exposed and canary is not None and image_of(canary, target) != action.image:
        raise _serves(target, image_of(canary, target))
    return is_exposed


def _serves(target: Target, what: str) -> Permanent:
    return Permanent(
        f"the canary of {target.key} still serves traffic with {what}",
        "take its traffic away first (/rollback, or weight 0 on the route)",
    )


def _with(config: Configuration) -> str:
    return f" with {names_of(config)}" if config else ""


async def deploy_stable(action: K8sDeploy, hand: Hand, *, gateway: str, hostname: str) -> Applied:
    """Roll stable to the image, or install the service where it has never been.

    Stable that is gone while its canary has pods was there, with all that its owner has put into
    it; and one that was scaled to nothing meanwhile needs its pods back to take the traffic over.
    """
    target, name = action.target, action.target.workload.deployment
    stable = await hand.client.get(DEPLOYMENT, target.namespace, name)
    alone = (stable is None or not replicas(stable)) and await _has_canary(hand, target)
    if stable is None and alone:
        raise Permanent(
            f"Deployment {target.namespace}/{name} is gone while its canary has pods",
            "bring it back as it was; a first install would not know what its owner put into it",
        )
    if stable is None:
        return await _first_install(action, hand, gateway, hostname)
    config = await snapshot(hand, target, action.config, action.image)
    is_scaled = await is_autoscaled(hand.client, target, name)

    def rolled(current: Json | None) -> Json:
        if current is None:
            raise missing(DEPLOYMENT, target, name)
        if current["spec"].get("paused"):
            raise Permanent(
                f"Deployment {target.namespace}/{name} is paused, so it would not roll",
                f"`kubectl -n {target.namespace} rollout resume deployment {name}`",
            )
        changed = with_config(with_image(current, target, action.image), config)
        if alone and not replicas(current):
            return at_full(changed, target)
        return changed if is_scaled or FULL not in notes_of(current) else at_full(changed, target)

    change = await hand.ensure(DEPLOYMENT, target.namespace, name, rolled)
    verb = "already names" if change.did == "nothing" else "rolls to"
    return applied(
        hand,
        f"stable {target.namespace}/{name} {verb} {action.image}{_with(config)}",
        change,
        {"image": action.image, "replicas": replicas(change.obj), **told(config)},
    )


async def _has_canary(hand: Hand, target: Target) -> bool:
    canary = await hand.client.get(DEPLOYMENT, target.namespace, canary_name(target))
    return canary is not None and replicas(canary) > 0


async def _first_install(action: K8sDeploy, hand: Hand, gateway: str, hostname: str) -> Applied:
    target, name = action.target, action.target.workload.deployment
    config = await snapshot(hand, target, action.config, action.image)
    bodies = first_objects(target, action.image, gateway, hostname, config)
    if await is_autoscaled(hand.client, target, name):
        del bodies[-1][1]["spec"]["replicas"]
    made = []
    for kind, body in bodies:
        of = body["metadata"]["name"]
        change = await hand.ensure(kind, target.namespace, of, unless_present(body))
        if change.did == "created":
            made.append(f"{kind.kind} {of}")
    return applied(
        hand,
        f"first install of {target.key} with {action.image}: made {', '.join(made) or 'nothing'}",
        change,
        {"image": action.image, "made": made, **told(config)},
    )


def first_objects(
    target: Target, image: str, gateway: str, hostname: str, config: Configuration = ()
) -> list[tuple[Kind, Json]]:
    """Everything that a first install makes, in the order in which it is made. Configuration comes
    to its container as environment.

    The Deployment comes last: all before it is harmless without pods, and while it is missing the
    install goes on where it stopped.
    """
    name = target.workload.deployment
    spec = first_deployment_spec(target, image)
    pods = spec["template"]["metadata"]["labels"]
    deployment = with_environment(manifest(DEPLOYMENT, target, name, pods, spec), config)
    bodies = []
    for track, service in (("stable", name), ("canary", canary_name(target))):
        own = track_labels(target, deployment, track)
        bodies.append((SERVICE, manifest(SERVICE, target, service, own, service_spec(target, own))))
    if target.workload.route is not None:
        own = {"app": target.service}
        route = route_spec(target, gateway, _hostname(hostname, target))
        bodies.append((HTTPROUTE, manifest(HTTPROUTE, target, target.workload.route, own, route)))
    bodies.append((DEPLOYMENT, deployment))
    return bodies


def _hostname(template: str, target: Target) -> str:
    return template.format(
        service=target.service, namespace=target.namespace, environment=target.environment
    )
