"""A roll-out's deadline: what counts as waiting, and what a pause in between changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from domain.action import K8sDeploy, K8sRollback
from domain.service import Target, Workload
from domain.state import Finding, Progress, State
from domain.workload import TOO_LATE, TrackState, WorkloadState
from nodes.settling import Settling

BEGAN = datetime(2026, 3, 3, 9, 0, tzinfo=UTC)
TARGET = Target(
    service="shop", environment="prod", namespace="prod", replicas=1,
    workload=Workload(deployment="shop", container="shop", progress_deadline_seconds=60),
)  # fmt: skip
DEPLOY = K8sDeploy(target=TARGET, track="canary", image="shop:2", weight=10)
STUCK = TrackState(
    name="shop-canary", image="shop:2", desired=1, updated=1, available=0, total=1,
    observed=True, why="pod shop-canary-x: ImagePullBackOff",
)  # fmt: skip
LATE = STUCK.model_copy(update={"stalled": f"{TOO_LATE}: has timed out; {STUCK.why}"})


class Hands:
    """A clock that is set by hand, and a cluster that shows what it is told."""

    speed = 1.0

    def __init__(self) -> None:
        self.at, self.canary = BEGAN, STUCK

    def now(self) -> datetime:
        return self.at

    async def workload(self, target: Target) -> WorkloadState:
        return WorkloadState(stable=self.canary, canary=self.canary, route=None)


class Story:
    """Looks at a step, one after the other."""

    def __init__(self, mode: str = "forward") -> None:
        self.hands = Hands()
        self.settling = Settling(self.hands, cast(Any, None), cast(Any, None), self.hands)
        self.state = cast(State, {"mode": mode, "cursor": 0, "proposal": None})
        self.progress = Progress(since=BEGAN)

    async def look(self, action: K8sDeploy | K8sRollback, after: float) -> Finding:
        """The finding `after` seconds later than the last."""
        self.hands.at += timedelta(seconds=after)
        update = await self.settling.look(self.state, cast(Any, None), action, self.progress)
        if update["progress"] is not None:
            self.progress = update["progress"]
        found = update["finding"]
        assert found is not None
        return found


@pytest.mark.parametrize(("mode", "ending"), [("forward", "breach"), ("rollback", "failed")])
async def test_pods_that_are_not_ready_by_the_deadline_are_a_stall_with_their_reason(
    mode: str, ending: str
) -> None:
    story = Story(mode)
    action = DEPLOY if mode == "forward" else K8sRollback(target=TARGET, image="shop:2")
    for _ in range(60):
        found = await story.look(action, 1)
        assert found.kind == "again"
        assert "ImagePullBackOff" in found.reason
    found = await story.look(action, 1)
    assert found.kind == ending
    assert found.reason.startswith("not ready within 60 s: shop-canary: 0 of 1 available")
    assert "ImagePullBackOff" in found.reason


async def test_a_pause_does_not_count_and_overrules_the_clusters_own_clock() -> None:
    story = Story()
    await story.look(DEPLOY, 1)
    assert (await story.look(DEPLOY, 3 * 3600)).kind == "again"
    # The cluster has counted three hours in which nobody was to go on.
    story.hands.canary = LATE
    for _ in range(53):
        assert (await story.look(DEPLOY, 1)).kind == "again"
    found = await story.look(DEPLOY, 1)
    assert found.kind == "breach"
    assert "ImagePullBackOff" in found.reason


async def test_without_a_pause_the_clusters_own_deadline_counts_as_before() -> None:
    story = Story()
    await story.look(DEPLOY, 1)
    story.hands.canary = LATE
    found = await story.look(DEPLOY, 1)
    assert found.kind == "breach"
    assert TOO_LATE in found.reason


async def test_pods_that_come_up_after_a_pause_are_ready() -> None:
    story = Story()
    await story.look(DEPLOY, 1)
    await story.look(DEPLOY, 3600)
    story.hands.canary = STUCK.model_copy(update={"available": 1, "why": ""})
    assert (await story.look(DEPLOY, 1)).kind == "done"
