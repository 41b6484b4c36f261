"""`WritePort` on the Kubernetes API: which action goes where, and what shows that it was done.

Every write is worked out from the object as it is, so doing an action twice changes nothing the
second time. Each changed object carries run, step and digest of the action; of an action on
several objects the one written last decides whether it was done.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.action import Action, K8sDeploy, K8sPrune, K8sRetire, K8sRollback, K8sTraffic
from domain.effect import Applied, Stamp
from domain.errors import Permanent
from tools.cluster_client import DEPLOYMENT, HTTPROUTE, SERVICE, ClusterClient, Kind
from tools.cluster_config import takes
from tools.cluster_copies import prune
from tools.cluster_deploy import deploy_canary, deploy_stable
from tools.cluster_errors import Json
from tools.cluster_hand import Hand
from tools.cluster_lookup import report
from tools.cluster_objects import TRACK, bears, canary_name, image_of, replicas
from tools.cluster_restore import retire, roll_back
from tools.cluster_route import canary_weights
from tools.cluster_testers import tester_marks
from tools.cluster_traffic import weigh_by_replicas, weigh_by_route
from tools.ports import Guard

ClusterAction = K8sDeploy | K8sTraffic | K8sRollback | K8sRetire | K8sPrune
Stamped = K8sDeploy | K8sTraffic | K8sRollback | K8sRetire
"""Those that leave a stamp on an object."""
CLUSTER_KINDS = ("k8s_deploy", "k8s_traffic", "k8s_rollback", "k8s_retire", "k8s_prune")
"""The action kinds to register this writer for."""


@dataclass(frozen=True)
class KubernetesWriter:
    """Writes Deployments, Services and HTTPRoutes that are ours, or whose owner allows it.

    `gateway` (`name`, or `namespace/name`) and `hostname` (a template over `{service}`,
    `{namespace}` and `{environment}`) are used only when a first install makes an HTTPRoute; a
    route that exists keeps its own.
    """

    client: ClusterClient
    gateway: str = "fermata"
    hostname: str = "{service}.{namespace}"

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Do it; nothing is written where the cluster is already so."""
        hand = Hand(self.client, stamp, guard)
        match _ours(action):
            case K8sDeploy(track="canary") as deploy:
                return await deploy_canary(deploy, hand)
            case K8sDeploy() as deploy:
                return await deploy_stable(
                    deploy, hand, gateway=self.gateway, hostname=self.hostname
                )
            case K8sTraffic() as traffic:
                route = traffic.target.workload.route
                if route is None:
                    return await weigh_by_replicas(traffic, hand)
                return await weigh_by_route(traffic, route, hand)
            case K8sRollback() as rollback:
                return await roll_back(rollback, hand)
            case K8sRetire() as away:
                return await retire(away, hand)
            case K8sPrune() as tidying:
                return await prune(tidying, hand)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Whether the object that the action writes last bears its stamp and is as it says."""
        ours = _ours(action)
        if isinstance(ours, K8sPrune):
            # What is deleted bears no stamp; doing it once more deletes what is left.
            return None
        kind, name = _last_object(ours)
        namespace = ours.target.namespace
        found = await self.client.get(kind, namespace, name)
        if found is None or not bears(found, stamp) or not _shows(found, ours):
            return None
        summary = f"{kind.kind} {namespace}/{name} shows that {action.kind} was done"
        return report(self.client, summary, found, {"changed": True, "read_back": True})


def _ours(action: Action) -> ClusterAction:
    if isinstance(action, (K8sDeploy, K8sTraffic, K8sRollback, K8sRetire, K8sPrune)):
        return action
    raise Permanent(f"{action.kind} is not an action on a cluster")


def _last_object(action: Stamped) -> tuple[Kind, str]:
    """The object that an action writes last."""
    workload, canary = action.target.workload, canary_name(action.target)
    match action:
        case K8sDeploy(track="canary") | K8sRetire():
            return DEPLOYMENT, canary
        case K8sDeploy() | K8sRollback():
            return DEPLOYMENT, workload.deployment
        case K8sTraffic():
            if workload.route is not None:
                return HTTPROUTE, workload.route
            return (SERVICE, workload.deployment) if action.weight else (DEPLOYMENT, canary)


def _shows(found: Json, action: Stamped) -> bool:
    """Whether the object's spec still is what the action made of it."""
    match action:
        case K8sDeploy():
            same = image_of(found, action.target) == action.image and replicas(found) > 0
            known = tuple(one for one in action.config if one.digest)
            return same and takes(found, action.target, known)
        case K8sRollback():
            same = action.image is None or image_of(found, action.target) == action.image
            return same and takes(found, action.target, action.config or ())
        case K8sRetire():
            return replicas(found) == 0
        case K8sTraffic():
            if action.target.workload.route is not None:
                same = set(canary_weights(found, action.target)) == {action.weight}
                return same and bool(tester_marks(found)) == (action.match is not None)
            if action.weight == 0:
                return replicas(found) == 0
            track = (found["spec"].get("selector") or {}).get(TRACK)
            return bool(track == ("canary" if action.weight >= 100 else None))
