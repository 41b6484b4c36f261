"""A Rollout that takes its pod template from elsewhere (spec.workloadRef) is refused in words."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

import pytest

from domain.action import K8sDeploy
from domain.errors import Permanent
from domain.service import Target, Workload
from tools.argo_read import ArgoReader
from tools.argo_render import ArgoRenderer
from tools.cluster_client import ClusterClient
from tools.cluster_errors import Json

TARGET = Target(
    service="web",
    environment="prod",
    namespace="shop",
    workload=Workload(executor="argo-rollouts", deployment="web", container="app"),
    replicas=2,
)


class Borrowed:
    """A cluster with one Rollout, in the middle of an update."""

    async def get(self, *_: object) -> Json:
        return {
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 1},
            "spec": {
                "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "strategy": {"canary": {"steps": [{"setWeight": 10}, {"pause": {}}]}},
            },
            "status": {"observedGeneration": "1", "currentPodHash": "b", "stableRS": "a"},
        }

    async def items(self, *_: object, **__: object) -> list[Json]:
        return []


@pytest.mark.parametrize("how", ["read", "rendered"])
async def test_a_borrowed_template_is_named_before_anything_is_decided(how: str) -> None:
    client = cast("ClusterClient", Borrowed())
    action = K8sDeploy(target=TARGET, track="canary", image="web:2", weight=10)
    asked: Awaitable[Any] = (
        ArgoReader(client).workload(TARGET)
        if how == "read"
        else ArgoRenderer(client).rendered(action)
    )
    with pytest.raises(Permanent, match="another object"):
        await asked
