"""What `k8s_deploy` would make of a Rollout. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass

from domain.action import K8sDeploy
from domain.rendered import Rendered
from tools.argo_objects import ROLLOUT, check_template, rollout_name
from tools.cluster_client import ClusterClient
from tools.cluster_lookup import missing
from tools.cluster_objects import with_image
from tools.cluster_render import bare


@dataclass(frozen=True)
class ArgoRenderer:
    """`Renderer` for Rollouts that exist."""

    client: ClusterClient

    async def rendered(self, action: K8sDeploy) -> tuple[Rendered, ...]:
        """The Rollout with the image in it. Raises Permanent where there is none, or
        where the image does not stand in it."""
        target = action.target
        found = await self.client.get(ROLLOUT, target.namespace, rollout_name(target))
        if found is None:
            raise missing(ROLLOUT, target, rollout_name(target))
        check_template(found)
        return (Rendered(bare(with_image(found, target, action.image), ROLLOUT), existed=True),)
