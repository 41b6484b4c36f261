"""What `k8s_deploy` would write, worked out from the cluster as it is. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.action import K8sDeploy
from domain.rendered import Rendered
from domain.service import Executor
from tools.cluster_client import DEPLOYMENT, ClusterClient, Kind
from tools.cluster_config import with_config
from tools.cluster_deploy import first_objects
from tools.cluster_errors import Json
from tools.cluster_lookup import missing
from tools.cluster_objects import (
    canary_name,
    canary_of,
    full_replicas,
    manifest,
    notes_of,
    track_labels,
    with_image,
)
from tools.ports import Renderer

_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


@dataclass(frozen=True)
class KubernetesRenderer:
    """`Renderer` for Deployments. `gateway` and `hostname` as in `KubernetesWriter`."""

    client: ClusterClient
    gateway: str = "fermata"
    hostname: str = "{service}.{namespace}"

    async def rendered(self, action: K8sDeploy) -> tuple[Rendered, ...]:
        """The Deployment after the step; on a first install, everything that it makes."""
        target, name = action.target, action.target.workload.deployment
        stable = await self.client.get(DEPLOYMENT, target.namespace, name)
        if action.track == "canary":
            if stable is None:
                raise missing(DEPLOYMENT, target, name)
            count = max(1, -(-action.weight * full_replicas(stable, target) // 100))
            pods = track_labels(target, stable, "canary")
            spec = canary_of(with_config(stable, action.config), target, action.image, count)
            canary = manifest(DEPLOYMENT, target, canary_name(target), pods, spec)
            return (Rendered(canary, existed=True),)
        if stable is None:
            made = first_objects(target, action.image, self.gateway, self.hostname, action.config)
            return tuple(Rendered(body, existed=False) for _, body in made)
        rolled = with_config(with_image(stable, target, action.image), action.config)
        return (Rendered(bare(rolled, DEPLOYMENT), existed=True),)


@dataclass(frozen=True)
class ExecutorRenderer:
    """`Renderer` that asks the target's executor; of one that cannot say, the image is known."""

    executors: Mapping[Executor, Renderer]

    async def rendered(self, action: K8sDeploy) -> tuple[Rendered, ...]:
        """See `Renderer`."""
        found = self.executors.get(action.target.workload.executor)
        if found is not None:
            return await found.rendered(action)
        target = action.target
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": target.workload.deployment, "namespace": target.namespace},
            "spec": {"containers": [{"name": target.workload.container, "image": action.image}]},
        }
        return (Rendered(pod, existed=True, is_whole=False),)


def bare(obj: Json, kind: Kind) -> Json:
    """Without what the server keeps on it: it is not part of what is written."""
    meta = {
        key: value
        for key, value in obj["metadata"].items()
        if key in ("name", "namespace", "labels")
    }
    notes = {key: value for key, value in notes_of(obj).items() if key != _APPLIED}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {**meta, "annotations": notes},
        "spec": obj["spec"],
    }
