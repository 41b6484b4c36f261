"""One port, several executors: each target's actions go to the one its service is released by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from domain.action import Action, target_of
from domain.effect import Applied, Stamp
from domain.errors import Permanent
from domain.service import Executor, Target
from domain.workload import WorkloadState
from tools.ports import ClusterReader, Guard, WritePort

Port = TypeVar("Port")


@dataclass(frozen=True)
class ExecutorWriter:
    """`WritePort` that hands an action to its target's executor.

    Raises `Permanent` for an executor that is not set up: a release is never carried out by another
    one than its service names.
    """

    executors: Mapping[Executor, WritePort]

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """See `WritePort`."""
        return await self._of(action).apply(action, stamp, guard)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """See `WritePort`."""
        return await self._of(action).read_back(action, stamp)

    def _of(self, action: Action) -> WritePort:
        target = target_of(action)
        if target is None:
            raise Permanent(f"{action.kind} is not an action on a workload")
        return _serving(self.executors, target)


@dataclass(frozen=True)
class ExecutorReader:
    """`ClusterReader` that asks the target's executor."""

    executors: Mapping[Executor, ClusterReader]

    async def workload(self, target: Target) -> WorkloadState:
        """See `ClusterReader`. Raises `Permanent` for an executor that is not set up."""
        return await _serving(self.executors, target).workload(target)


def _serving(executors: Mapping[Executor, Port], target: Target) -> Port:
    wanted = target.workload.executor
    found = executors.get(wanted)
    if found is None:
        known = ", ".join(sorted(executors))
        raise Permanent(
            f"{target.service} is released by {wanted}, which is not set up here",
            f"set it up (docs/executors.md), or choose one of {known} in services.yaml",
        )
    return found
