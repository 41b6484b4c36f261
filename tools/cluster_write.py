"""Brings Deployments, Services and HTTPRoutes to what an action says. One class, four actions.

Every write is worked out from the object as it is, so doing an action twice changes nothing the
second time. Each changed object carries run, step and digest of the action; of an action on
several objects the last one written decides whether it was done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domain.action import Action, K8sDeploy, K8sRetire, K8sRollback, K8sTraffic
from domain.effect import Applied, Stamp
from domain.errors import Permanent, Temporary
from domain.service import Target
from tools import cluster_replicas
from tools.cluster_client import DEPLOYMENT, HPA, HTTPROUTE, SERVICE, ClusterClient, Kind
from tools.cluster_errors import Json
from tools.cluster_hand import Change, Hand
from tools.cluster_objects import (
    FULL,
    annotations,
    bears,
    canary_name,
    canary_of,
    check_owned,
    first_deployment_spec,
    full_replicas,
    image_of,
    manifest,
    replicas,
    selector_of,
    selects,
    service_selects,
    service_spec,
    track_labels,
    with_image,
)
from tools.cluster_route import canary_weights, route_spec, with_weight
from tools.ports import Guard

CANARY_WAIT_SECONDS = 2.0


@dataclass(frozen=True)
class KubernetesWriter:
    """`WritePort` for `k8s_deploy`, `k8s_traffic`, `k8s_rollback` and `k8s_retire`.

    `gateway` (`name` or `namespace/name`) and `hostname` (a template over `{service}`,
    `{namespace}` and `{environment}`) are used only when a first install makes an HTTPRoute; a
    route that exists keeps its own.
    """

    client: ClusterClient
    gateway: str = "fermata"
    hostname: str = "{service}.{namespace}"

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Do it; nothing is written where the cluster is already so."""
        hand = Hand(self.client, stamp, guard)
        match action:
            case K8sDeploy(track="canary"):
                return await self._deploy_canary(action, hand)
            case K8sDeploy():
                return await self._deploy_stable(action, hand)
            case K8sTraffic():
                if action.target.workload.route is None:
                    return await self._traffic_by_replicas(action, hand)
                return await self._traffic_by_route(action, action.target.workload.route, hand)
            case K8sRollback():
                return await self._rollback(action, hand)
            case K8sRetire():
                return await self._retire(action, hand)
            case _:
                raise Permanent(f"{action.kind} is not an action on a cluster")

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Whether the object that the action writes last bears its stamp and is as it says."""
        kind, name = _last_object(action)
        target = _target(action)
        found = await self.client.get(kind, target.namespace, name)
        if found is None or not bears(found, stamp) or not _shows(found, action):
            return None
        summary = f"{kind.kind} {target.namespace}/{name} shows that {action.kind} was done"
        return self._applied(summary, Change(found, "changed"), {"read_back": True})

    # --- k8s_deploy ---

    async def _deploy_canary(self, action: K8sDeploy, hand: Hand) -> Applied:
        target, name = action.target, canary_name(action.target)
        stable = await self._stable(target)
        canary = await self.client.get(DEPLOYMENT, target.namespace, name)
        pods = track_labels(target, stable, "canary")
        if selects(stable["spec"]["selector"], pods):
            raise _overlapping(target)
        await self._check_unexposed(action, stable, canary, hand)
        wanted = max(1, -(-action.weight * self._size(stable, target) // 100))
        scaled = await self._autoscaled(target, name)

        def service(current: Json | None) -> Json:
            selector = selector_of(target, pods)
            if current is None:
                return manifest(SERVICE, target, name, pods, service_spec(target, selector))
            if service_selects(current, pods):
                return current
            return {**current, "spec": {**current["spec"], "selector": selector}}

        def deployment(current: Json | None) -> Json:
            if current is None:
                spec = canary_of(stable, target, action.image, wanted)
                return manifest(DEPLOYMENT, target, name, pods, spec)
            if not selects(current["spec"]["selector"], pods):
                raise Permanent(
                    f"Deployment {target.namespace}/{name} selects other pods than a canary of "
                    f"{target.workload.deployment} has, and a selector cannot be changed",
                    f"delete it: `kubectl -n {target.namespace} delete deployment {name}`",
                )
            count, now = wanted, replicas(current)
            if image_of(current, target) == action.image or (scaled and now):
                count = now if scaled and now else max(now, wanted)
            spec = canary_of(stable, target, action.image, count)
            return {**current, "spec": {**spec, "selector": current["spec"]["selector"]}}

        await hand.ensure(SERVICE, target.namespace, name, service)
        change = await hand.ensure(DEPLOYMENT, target.namespace, name, deployment)
        count = replicas(change.obj)
        return self._applied(
            f"canary {target.namespace}/{name} runs {action.image} on {count} pods, "
            "still without new traffic",
            change,
            {"image": action.image, "replicas": count},
        )

    async def _check_unexposed(
        self, action: K8sDeploy, stable: Json, canary: Json | None, hand: Hand
    ) -> None:
        """See to it that pods of a new image get no traffic, before there are any."""
        target = action.target
        service = await self.client.get(SERVICE, target.namespace, target.workload.deployment)
        if target.workload.route is not None:
            route = await self._route(target, target.workload.route)
            check_owned(HTTPROUTE, route)
            # Better refused now than when the pods are there.
            with_weight(route, target, max(1, action.weight))
            exposed = any(canary_weights(route, target))
            if service is not None and service_selects(
                service, track_labels(target, stable, "canary")
            ):
                raise _leaking(target)
        else:
            if service is None:
                raise Permanent(
                    f"there is no Service {target.namespace}/{target.workload.deployment}, so "
                    "there is nothing to split the traffic with",
                    "create it, or name an HTTPRoute as workload.route in services.yaml",
                )
            exposed = cluster_replicas.exposure(service, stable, canary, target)
            if not exposed:
                await hand.ensure(
                    SERVICE,
                    target.namespace,
                    target.workload.deployment,
                    lambda now: cluster_replicas.with_selector(
                        now or service, stable, target, weight=0
                    ),
                )
        if exposed and canary is not None and image_of(canary, target) != action.image:
            raise Permanent(
                f"the canary of {target.key} still serves traffic with {image_of(canary, target)}",
                "take its traffic away first (/rollback, or weight 0 on the route)",
            )

    async def _deploy_stable(self, action: K8sDeploy, hand: Hand) -> Applied:
        target, name = action.target, action.target.workload.deployment
        if await self.client.get(DEPLOYMENT, target.namespace, name) is None:
            return await self._first_install(action, hand)
        scaled = await self._autoscaled(target, name)

        def rolled(current: Json | None) -> Json:
            if current is None:
                raise _missing(DEPLOYMENT, target, name)
            if current["spec"].get("paused"):
                raise Permanent(
                    f"Deployment {target.namespace}/{name} is paused, so it would not roll",
                    f"`kubectl -n {target.namespace} rollout resume deployment {name}`",
                )
            changed = with_image(current, target, action.image)
            return changed if scaled or FULL not in annotations(current) else _full(changed, target)

        change = await hand.ensure(DEPLOYMENT, target.namespace, name, rolled)
        verb = "already names" if change.did == "nothing" else "rolls to"
        return self._applied(
            f"stable {target.namespace}/{name} {verb} {action.image}",
            change,
            {"image": action.image, "replicas": replicas(change.obj)},
        )

    async def _first_install(self, action: K8sDeploy, hand: Hand) -> Applied:
        target, name = action.target, action.target.workload.deployment
        spec = first_deployment_spec(target, action.image)
        if await self._autoscaled(target, name):
            del spec["replicas"]
        deployment = manifest(
            DEPLOYMENT, target, name, spec["template"]["metadata"]["labels"], spec
        )
        made = []
        for track, service in (("stable", name), ("canary", canary_name(target))):
            pods = track_labels(target, deployment, track)
            body = manifest(SERVICE, target, service, pods, service_spec(target, pods))
            change = await hand.ensure(SERVICE, target.namespace, service, _present(body))
            made += [f"Service {service}"] if change.did == "created" else []
        if target.workload.route is not None:
            namespace, _, gateway = self.gateway.rpartition("/")
            host = self.hostname.format(
                service=target.service, namespace=target.namespace, environment=target.environment
            )
            body = manifest(
                HTTPROUTE,
                target,
                target.workload.route,
                {"app": target.service},
                route_spec(target, gateway, namespace or None, host),
            )
            change = await hand.ensure(
                HTTPROUTE, target.namespace, target.workload.route, _present(body)
            )
            made += [f"HTTPRoute {target.workload.route}"] if change.did == "created" else []
        # Last, because everything before it is harmless without pods.
        change = await hand.ensure(DEPLOYMENT, target.namespace, name, _present(deployment))
        made += [f"Deployment {name}"] if change.did == "created" else []
        return self._applied(
            f"first install of {target.key} with {action.image}: made {', '.join(made)}"
            if made
            else f"{target.key} is already installed",
            change,
            {"image": action.image, "made": made},
        )

    # --- k8s_traffic ---

    async def _traffic_by_route(self, action: K8sTraffic, route: str, hand: Hand) -> Applied:
        target, weight = action.target, action.weight
        if weight > 0:
            await self._check_canary_serves(target)

        def weighted(current: Json | None) -> Json:
            if current is None:
                raise _missing(HTTPROUTE, target, route)
            return with_weight(current, target, weight)

        change = await hand.ensure(HTTPROUTE, target.namespace, route, weighted)
        verb = "already gives" if change.did == "nothing" else "gives"
        return self._applied(
            f"HTTPRoute {target.namespace}/{route} {verb} the canary {weight}%",
            change,
            {"weight": weight},
        )

    async def _traffic_by_replicas(self, action: K8sTraffic, hand: Hand) -> Applied:
        target, weight = action.target, action.weight
        name, canary = target.workload.deployment, canary_name(target)
        stable = await self._stable(target)
        scaled = await self._autoscaled(target, name)
        if scaled and 50 < weight < 100:
            raise Permanent(
                f"stable of {target.key} is sized by a HorizontalPodAutoscaler, so replica "
                "weighting cannot make it the smaller part",
                "name an HTTPRoute as workload.route in services.yaml, or use weights up to 50",
            )
        full = replicas(stable) if scaled else full_replicas(stable, target)
        changes = []
        if weight > 0:
            await self._check_canary_serves(target)
            small, count = cluster_replicas.sizes(full, weight)
            changes.append(await self._scale(hand, target, canary, count))
            if not scaled:
                changes.append(await self._scale(hand, target, name, small, note_full=full))
        elif not scaled:
            changes.append(await self._scale(hand, target, name, full, note_full=full))

        def selecting(current: Json | None) -> Json:
            if current is None:
                raise _missing(SERVICE, target, name)
            return cluster_replicas.with_selector(current, stable, target, weight)

        if weight > 0 or await self.client.get(SERVICE, target.namespace, name):
            changes.append(await hand.ensure(SERVICE, target.namespace, name, selecting))
        if weight == 0 and await self.client.get(DEPLOYMENT, target.namespace, canary):
            changes.append(await self._scale(hand, target, canary, 0))
        did = "nothing" if all(one.did == "nothing" for one in changes) else "changed"
        last = changes[-1].obj if changes else stable
        return self._applied(
            f"Service {target.namespace}/{name} spreads traffic for a canary weight of {weight}%"
            + (" (it already did)" if did == "nothing" else ""),
            Change(last, "nothing" if did == "nothing" else "changed"),
            {"weight": weight},
        )

    async def _check_canary_serves(self, target: Target) -> None:
        """No weight for pods that are not there: a Service without ready endpoints answers 503."""
        name = canary_name(target)
        canary = await self.client.get(DEPLOYMENT, target.namespace, name)
        if canary is None:
            raise _missing(DEPLOYMENT, target, name)
        if not (canary.get("status") or {}).get("availableReplicas"):
            raise Temporary(
                f"Deployment {target.namespace}/{name} has no available pod yet, so it gets no "
                "traffic",
                CANARY_WAIT_SECONDS,
            )

    # --- k8s_rollback, k8s_retire ---

    async def _rollback(self, action: K8sRollback, hand: Hand) -> Applied:
        target, name = action.target, action.target.workload.deployment
        scaled = await self._autoscaled(target, name)

        def restored(current: Json | None) -> Json:
            if current is None:
                raise _missing(DEPLOYMENT, target, name)
            changed = with_image(current, target, action.image or image_of(current, target))
            # A paused Deployment would never go back.
            changed["spec"].pop("paused", None)
            # An autoscaler sizes it, but one at 0 is switched off.
            return changed if scaled and replicas(current) else _full(changed, target)

        change = await hand.ensure(DEPLOYMENT, target.namespace, name, restored)
        image, count = image_of(change.obj, target), replicas(change.obj)
        summary = f"stable {target.namespace}/{name} goes back to {image} with {count} pods"
        if change.did == "nothing":
            summary = (
                f"nothing to roll back: stable {target.namespace}/{name} already names {image} "
                f"with {count} pods"
            )
        return self._applied(summary, change, {"image": image, "replicas": count})

    async def _retire(self, action: K8sRetire, hand: Hand) -> Applied:
        target, name = action.target, canary_name(action.target)
        canary = await self.client.get(DEPLOYMENT, target.namespace, name)
        if canary is None:
            return Applied(
                summary=f"there is no canary {target.namespace}/{name} to retire",
                data={"changed": False},
                simulated=self.client.simulated,
            )
        await self._check_idle(target, canary)
        change = await self._scale(hand, target, name, 0)
        verb = "has no pods already" if change.did == "nothing" else "is scaled to 0"
        return self._applied(f"canary {target.namespace}/{name} {verb}", change, {"replicas": 0})

    async def _check_idle(self, target: Target, canary: Json) -> None:
        if target.workload.route is not None:
            route = await self.client.get(HTTPROUTE, target.namespace, target.workload.route)
            weight = max(canary_weights(route, target), default=0) if route else 0
            if weight:
                raise Permanent(
                    f"HTTPRoute {target.namespace}/{target.workload.route} still gives the canary "
                    f"{weight}%, so its pods stay",
                    "take its traffic away first (k8s_traffic with weight 0)",
                )
            return
        stable = await self._stable(target)
        service = await self.client.get(SERVICE, target.namespace, target.workload.deployment)
        if cluster_replicas.exposure(service, stable, canary, target):
            raise Permanent(
                f"Service {target.namespace}/{target.workload.deployment} still sends traffic to "
                "the canary, so its pods stay",
                "take its traffic away first (k8s_traffic with weight 0)",
            )

    # --- shared ---

    async def _scale(
        self, hand: Hand, target: Target, name: str, count: int, *, note_full: int | None = None
    ) -> Change:
        """Scale a Deployment; `note_full` is kept on it for as long as it has fewer."""

        def scaled(current: Json | None) -> Json:
            if current is None:
                raise _missing(DEPLOYMENT, target, name)
            changed = {**current, "spec": {**current["spec"], "replicas": count}}
            if note_full is None:
                return changed
            noted = {key: value for key, value in annotations(current).items() if key != FULL}
            if count < note_full:
                noted[FULL] = str(note_full)
            return {**changed, "metadata": {**changed["metadata"], "annotations": noted}}

        return await hand.ensure(DEPLOYMENT, target.namespace, name, scaled)

    async def _stable(self, target: Target) -> Json:
        name = target.workload.deployment
        found = await self.client.get(DEPLOYMENT, target.namespace, name)
        if found is None:
            raise _missing(DEPLOYMENT, target, name)
        check_owned(DEPLOYMENT, found)
        return found

    async def _route(self, target: Target, name: str) -> Json:
        found = await self.client.get(HTTPROUTE, target.namespace, name)
        if found is None:
            raise _missing(HTTPROUTE, target, name)
        return found

    def _size(self, stable: Json, target: Target) -> int:
        """Stable's pods at full strength: replica weighting may have taken some away."""
        return full_replicas(stable, target) if FULL in annotations(stable) else replicas(stable)

    async def _autoscaled(self, target: Target, name: str) -> bool:
        """Whether a HorizontalPodAutoscaler sizes this Deployment."""
        for scaler in await self.client.items(HPA, target.namespace):
            ref = scaler["spec"]["scaleTargetRef"]
            if ref.get("kind") == "Deployment" and ref.get("name") == name:
                return True
        return False

    def _applied(self, summary: str, change: Change, data: dict[str, Any]) -> Applied:
        meta = change.obj["metadata"]
        where = {"namespace": meta["namespace"], "name": meta["name"]}
        seen = {"resource_version": meta.get("resourceVersion"), "uid": meta.get("uid")}
        return Applied(
            summary=summary,
            data={**where, **seen, "changed": change.did != "nothing", **data},
            simulated=self.client.simulated,
        )
