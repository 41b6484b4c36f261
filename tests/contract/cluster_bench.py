"""The cluster adapter on a site, in a namespace of its own, and what its tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from domain.action import Action, K8sDeploy, K8sTraffic, action_digest
from domain.effect import Applied, Stamp
from domain.errors import LeaseLost
from domain.service import Target, Workload
from domain.workload import WorkloadState
from evals.world.faults import FaultRule
from tests.contract.cluster_site import Obj, Site
from tools.cluster_client import ClusterClient
from tools.cluster_read import KubernetesReader
from tools.cluster_write import KubernetesWriter

V1, V2, V3 = (f"registry.example/web:{n}.0.0" for n in (1, 2, 3))
BROKEN = "registry.example/web:broken-2"
DEADLINE_SECONDS = 30.0


def web_in(namespace: str, *, route: str | None = "web", replicas: int = 2) -> Target:
    """`web` in a namespace."""
    workload = Workload(deployment="web", container="app", port=8080, route=route)
    return Target(
        service="web", environment="test", namespace=namespace, workload=workload, replicas=replicas
    )


@dataclass
class Bench:
    """The adapter on a site, in a namespace of its own."""

    site: Site
    target: Target
    client: ClusterClient
    guarded: int = 0
    has_lease: bool = True
    run: UUID = field(default_factory=uuid4)

    @property
    def writer(self) -> KubernetesWriter:
        return KubernetesWriter(self.client)

    @property
    def where(self) -> str:
        return self.target.namespace

    def stamp(self, action: Action, step: str = "step") -> Stamp:
        return Stamp(
            run_id=self.run, step_id=step, digest=action_digest(action), decision_id=uuid4()
        )

    async def guard(self) -> None:
        if not self.has_lease:
            raise LeaseLost("taken over")
        self.guarded += 1

    async def apply(self, action: Action) -> Applied:
        return await self.writer.apply(action, self.stamp(action), self.guard)

    async def seen(self) -> WorkloadState:
        return await KubernetesReader(self.client).workload(self.target)

    async def until(self, done: Callable[[WorkloadState], bool]) -> WorkloadState:
        """The workload once it is so; fails after a while."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not done(state := await self.seen()):  # noqa: ASYNC110  # a cluster has no event
                await asyncio.sleep(0.05)
        return state

    # actions

    def stable(self, image: str) -> K8sDeploy:
        return K8sDeploy(target=self.target, track="stable", image=image, weight=100)

    def canary(self, image: str, weight: int = 10) -> K8sDeploy:
        return K8sDeploy(target=self.target, track="canary", image=image, weight=weight)

    def traffic(self, weight: int) -> K8sTraffic:
        return K8sTraffic(target=self.target, weight=weight)

    async def installed(self, image: str = V1) -> None:
        """Stable runs `image` and the gateway has its route."""
        await self.apply(self.stable(image))
        await self.until(stable_ready)
        if self.target.workload.route:
            await self.site.report(self.where, "web")

    async def canaried(self, image: str = V2, weight: int = 10) -> None:
        """A ready canary beside stable, without traffic."""
        await self.apply(self.canary(image, weight))
        await self.until(canary_ready)

    def fault(self, path: str, method: str = "GET", **what: object) -> FaultRule:
        return self.site.faults.add(FaultRule.from_json({"path": path, "method": method, **what}))


def stable_ready(state: WorkloadState) -> bool:
    return state.stable is not None and state.stable.ready


def canary_ready(state: WorkloadState) -> bool:
    return state.canary is not None and state.canary.ready


def weights(route: Obj) -> list[list[tuple[str, int]]]:
    return [
        [(ref["name"], ref["weight"]) for ref in rule["backendRefs"]]
        for rule in route["spec"]["rules"]
    ]
