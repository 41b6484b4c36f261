"""A roll-out's deadline: what counts as waiting, and what a pause in between changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from domain.action import K8sDeploy, K8sRetire, K8sRollback, K8sTraffic
from domain.errors import Temporary
from domain.service import Target, Workload
from domain.state import Finding, Progress, State
from domain.workload import TOO_LATE, RouteState, TrackState, WorkloadState
from nodes.readiness import Settled
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
THERE = STUCK.model_copy(update={"available": 1, "why": ""})
TRAFFIC = K8sTraffic(target=TARGET, weight=10)
REFUSED = "gateway gate: Accepted is False: NotAllowedByListeners (its namespace may not attach)"
UNACCEPTED = RouteState(canary_weight=10, accepted=False, reason=REFUSED)
AWAY = "the cluster cannot be reached (get deployments)"
LATE = STUCK.model_copy(update={"stalled": f"{TOO_LATE}: has timed out; {STUCK.why}"})


class Hands:
    """A clock that is set by hand, and a cluster that shows what it is told."""

    speed = 1.0

    def __init__(self) -> None:
        self.at, self.canary = BEGAN, STUCK
        self.route: RouteState | None = None
        self.away: Temporary | None = None
        self.takes = 0.0

    def now(self) -> datetime:
        return self.at

    async def workload(self, target: Target) -> WorkloadState:
        self.at += timedelta(seconds=self.takes)
        if self.away is not None:
            raise self.away
        return WorkloadState(stable=self.canary, canary=self.canary, route=self.route)


class Story:
    """Looks at a step, one after the other."""

    def __init__(self, mode: str = "forward") -> None:
        self.hands = Hands()
        self.settling = Settling(self.hands, cast(Any, None), cast(Any, None), self.hands)
        self.state = cast(State, {"mode": mode, "cursor": 0, "proposal": None, "baselines": ()})
        self.progress, self.cursor = Progress(since=BEGAN), 0

    async def look(self, action: Settled, after: float) -> Finding:
        """The finding `after` seconds later than the last."""
        self.hands.at += timedelta(seconds=after)
        update = await self.settling.look(self.state, cast(Any, None), action, self.progress)
        if update["progress"] is not None:
            self.progress = update["progress"]
        self.cursor = update.get("cursor", 0)
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


@pytest.mark.parametrize(("mode", "ending"), [("forward", "breach"), ("rollback", "failed")])
async def test_a_route_that_nobody_takes_over_is_a_stall_in_its_gateways_words(
    mode: str, ending: str
) -> None:
    story = Story(mode)
    story.hands.canary, story.hands.route = THERE, UNACCEPTED
    for _ in range(60):
        assert (await story.look(TRAFFIC, 1)).kind == "again"
    found = await story.look(TRAFFIC, 1)
    assert found.kind == ending
    assert found.reason.startswith("the weight did not come about within 60 s: the gateway has not")
    assert REFUSED in found.reason


async def test_a_pause_does_not_count_for_a_route_either() -> None:
    story = Story()
    story.hands.canary, story.hands.route = THERE, UNACCEPTED
    await story.look(TRAFFIC, 1)
    assert (await story.look(TRAFFIC, 3 * 3600)).kind == "again"
    for _ in range(53):
        assert (await story.look(TRAFFIC, 1)).kind == "again"
    found = await story.look(TRAFFIC, 1)
    assert found.kind == "breach"
    assert "within 60 s, pauses aside" in found.reason


@pytest.mark.parametrize("mode", ["forward", "rollback"])
async def test_pods_of_a_canary_that_do_not_go_undo_nothing_and_keep_nobody(mode: str) -> None:
    story, retire = Story(mode), K8sRetire(target=TARGET)
    for _ in range(60):
        assert (await story.look(retire, 1)).kind == "again"
    found = await story.look(retire, 1)
    assert found.kind == "done"
    assert story.cursor == 1
    assert found.reason.startswith("its pods stay: not gone within 60 s: shop-canary: 0 of 1")


async def test_a_cluster_that_is_away_fails_nothing_and_is_said_to_be_waited_for() -> None:
    story = Story()
    story.hands.away = Temporary(AWAY)
    for _ in range(1000):
        found = await story.look(DEPLOY, 1)
        assert (found.kind, found.reason) == ("again", AWAY)
    story.hands.away = None
    for _ in range(60):
        assert (await story.look(DEPLOY, 1)).kind == "again", "its pods get their time"
    story.hands.canary = THERE
    assert (await story.look(DEPLOY, 1)).kind == "done"


@pytest.mark.parametrize("takes", [0, 30])
async def test_time_without_an_answer_is_not_the_pods_fault_and_not_without_end(
    takes: float,
) -> None:
    """Every other look is turned away, and the next one is due half a minute later; or hangs."""
    story, looks = Story(), 0
    while looks < 100:
        looks += 1
        story.hands.away, story.hands.takes = Temporary(AWAY, None if takes else 30), takes
        assert (await story.look(DEPLOY, 1)).kind == "again"
        story.hands.away, story.hands.takes = None, 0
        found = await story.look(DEPLOY, 1 if takes else 30)
        if found.kind != "again":
            break
    passed = (story.hands.at - BEGAN).total_seconds()
    assert found.kind == "breach"
    assert 120 <= passed <= 160
    assert "not ready within 120 s" in found.reason
    assert "without an answer from the cluster" in found.reason
    assert "ImagePullBackOff" in found.reason
    assert not story.progress.held


async def test_the_clusters_own_clock_does_not_count_over_silence() -> None:
    story = Story()
    await story.look(DEPLOY, 1)
    story.hands.away = Temporary(AWAY, 40)
    await story.look(DEPLOY, 1)
    story.hands.away, story.hands.canary = None, LATE
    assert (await story.look(DEPLOY, 40)).kind == "again"
    story.hands.canary = THERE
    assert (await story.look(DEPLOY, 1)).kind == "done"


@pytest.mark.parametrize(
    ("weight", "available", "image", "kind"),
    [
        (25, 2, None, "done"),
        (25, 1, None, "again"),
        (10, 0, None, "again"),
        (50, 2, None, "again"),
        (25, 2, "shop:1", "again"),
    ],
)
async def test_a_bad_canary_does_not_keep_its_traffic_until_each_pod_of_stable_is_there(
    weight: int, available: int, image: str | None, kind: str
) -> None:
    story = Story("rollback")
    story.hands.canary = STUCK.model_copy(
        update={"name": "shop", "image": "shop:1", "desired": 3, "available": available}
    )
    story.hands.route = RouteState(canary_weight=weight, accepted=True)
    found = await story.look(K8sRollback(target=TARGET, image=image), 1)
    assert found.kind == kind, found.reason
