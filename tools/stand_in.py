"""The simulated cluster in the place of an executor that is not set up.

Cloud Deploy and Argo Rollouts set weights by themselves, so a service of theirs needs no route in
services.yaml. Where the emulator stands in, an HTTPRoute called like the Deployment carries the
weights; counting pods instead would give another share of the traffic than was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.action import Action, K8sDeploy, K8sRetire, K8sRollback, K8sTraffic
from domain.effect import Applied, Stamp
from domain.rendered import Rendered
from domain.service import Target, Workload
from domain.workload import WorkloadState
from tools.ports import ClusterReader, Guard, Renderer, WritePort

WEIGHING = frozenset({"cloud-deploy", "argo-rollouts"})
"""Executors that need no route of ours for exact weights."""


def route_of(workload: Workload) -> str | None:
    """The HTTPRoute that carries a workload's weights in the simulated cluster."""
    if workload.route is None and workload.executor in WEIGHING:
        return workload.deployment
    return workload.route


def routed(target: Target) -> Target:
    """The target as the simulated cluster has it."""
    route = route_of(target.workload)
    return target.model_copy(
        update={"workload": target.workload.model_copy(update={"route": route})}
    )


@dataclass(frozen=True)
class StandInWriter:
    """`WritePort` that does with the emulator what another executor would do."""

    writer: WritePort

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """See `WritePort`."""
        return await self.writer.apply(_routed(action), stamp, guard)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """See `WritePort`."""
        return await self.writer.read_back(_routed(action), stamp)


@dataclass(frozen=True)
class StandInReader:
    """`ClusterReader` on what `StandInWriter` has written."""

    reader: ClusterReader

    async def workload(self, target: Target) -> WorkloadState:
        """See `ClusterReader`."""
        return await self.reader.workload(routed(target))


@dataclass(frozen=True)
class StandInRenderer:
    """`Renderer` of what `StandInWriter` would write."""

    renderer: Renderer

    async def rendered(self, action: K8sDeploy) -> tuple[Rendered, ...]:
        """See `Renderer`."""
        return await self.renderer.rendered(
            action.model_copy(update={"target": routed(action.target)})
        )


def _routed(action: Action) -> Action:
    if isinstance(action, K8sDeploy | K8sTraffic | K8sRollback | K8sRetire):
        return action.model_copy(update={"target": routed(action.target)})
    return action
