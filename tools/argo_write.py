"""`WritePort` on Argo Rollouts: which action goes where, and what shows that it was done."""

from __future__ import annotations

from dataclasses import dataclass

from domain.action import Action, K8sDeploy, K8sRetire, K8sRollback, K8sTraffic
from domain.effect import Applied, Stamp
from domain.errors import Permanent
from domain.service import Target
from tools.argo_drive import begin, roll, weigh
from tools.argo_hand import ArgoHand, see
from tools.argo_objects import Sight, stops
from tools.argo_restore import retire, roll_back
from tools.cluster_client import ClusterClient
from tools.cluster_hand import Hand
from tools.cluster_lookup import report
from tools.cluster_objects import bears, image_of
from tools.ports import Guard


@dataclass(frozen=True)
class ArgoWriter:
    """Drives existing Rollouts that are ours, or whose owner allows it; makes none."""

    client: ClusterClient

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Do it; nothing is written where the Rollout is already so."""
        match action:
            case K8sDeploy(track="canary"):
                return await begin(action, self._hand(action.target, stamp, guard))
            case K8sDeploy():
                return await roll(action, self._hand(action.target, stamp, guard))
            case K8sTraffic():
                return await weigh(action, self._hand(action.target, stamp, guard))
            case K8sRollback():
                return await roll_back(action, self._hand(action.target, stamp, guard))
            case K8sRetire():
                return await retire(action, self._hand(action.target, stamp, guard))
            case _:
                raise Permanent(f"{action.kind} is not an action on a Rollout")

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Whether the Rollout bears the action's stamp and still is as the action made it."""
        if not isinstance(action, K8sDeploy | K8sTraffic | K8sRollback | K8sRetire):
            raise Permanent(f"{action.kind} is not an action on a Rollout")
        sight = await see(self.client, action.target)
        if sight is None or not bears(sight.rollout, stamp) or not _shows(sight, action):
            return None
        summary = f"Rollout {sight.name} shows that {action.kind} was done"
        return report(self.client, summary, sight.rollout, {"changed": True, "read_back": True})

    def _hand(self, target: Target, stamp: Stamp, guard: Guard) -> ArgoHand:
        return ArgoHand(Hand(self.client, stamp, guard), target)


def _shows(sight: Sight, action: K8sDeploy | K8sTraffic | K8sRollback | K8sRetire) -> bool:
    """Whether the Rollout still is what the action made of it."""
    if not sight.observed:
        return False
    match action:
        case K8sDeploy():
            is_there = image_of(sight.rollout, action.target) == action.image
            is_full = not sight.in_progress or bool(sight.status.get("promoteFull"))
            return (
                is_there and not sight.status.get("abort") and (is_full or action.track == "canary")
            )
        case K8sRollback():
            is_there = action.image is None or (
                image_of(sight.rollout, action.target) == action.image
            )
            return is_there and (not sight.in_progress or bool(sight.status.get("promoteFull")))
        case K8sRetire():
            return not sight.in_progress or sight.aborted
        case K8sTraffic(weight=0):
            return not sight.in_progress or sight.aborted
        case K8sTraffic():
            if not sight.in_progress or sight.aborted:
                return False
            ahead = [one for one in stops(sight.rollout) if one.index >= sight.step]
            return bool(ahead) and ahead[0].weight == action.weight
