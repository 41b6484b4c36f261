"""What others have brought in since a change was planned is what it is held to."""

from __future__ import annotations

from typing import Any, cast
from uuid import uuid4

import pytest

from domain.action import K8sDeploy, MetricsCheck
from domain.clock import SystemClock
from domain.effect import Applied, Attempt, EffectState
from domain.errors import Permanent, Temporary
from domain.plan import Plan
from domain.service import Target
from domain.state import Baseline, Progress, Proposal, State, Update
from domain.verdict import Verdict, VerdictKind
from domain.workload import RouteState, TrackState, WorkloadState
from nodes.baselines import under_way
from nodes.observe import Observe
from nodes.planning import release_steps
from nodes.release import Release
from nodes.settling import Settling
from nodes.watch import Look
from tests.graph.test_routes import NOW
from tests.nodes.test_planning import CHANGE, PROD, SHOP

NOTHING = cast(Any, None)
KEY = Target.of(SHOP, PROD).key
OTHER = Baseline(key="shop/staging", image="shop:0")
STEPS = release_steps(SHOP, PROD, "shop:3", "shop:1")
PRE = next(one for one in STEPS if one.id.endswith(".pre"))
PODS = next(one for one in STEPS if isinstance(one.action, K8sDeploy))
CHECK = next(
    one for one in STEPS if isinstance(one.action, MetricsCheck) and one.action.phase == "canary"
)


def track(name: str, image: str) -> TrackState:
    return TrackState(
        name=name, image=image, desired=1, updated=1, available=1, total=1, observed=True
    )


class Now:
    """A cluster in which `shop:2` has come to run; a watch and releases that note what they get."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.looked = error, ""
        self.recorded: list[tuple[str, str]] = []

    async def workload(self, target: Target) -> WorkloadState:
        if self.error is not None:
            raise self.error
        return WorkloadState(
            stable=track("shop", "shop:2"), canary=track("shop-canary", "shop:3"), route=None
        )

    async def look(self, check: MetricsCheck, progress: Progress, now: Any) -> Look:
        self.looked = check.version
        verdict = Verdict(kind=VerdictKind.PASS, reason="fine")
        return Look(windows=(), verdict=verdict, next_at=None, since=now)

    async def record(self, *_: Any, **said: Any) -> None:
        if "image" in said:
            self.recorded.append((said["image"], said["status"]))

    @property
    def cluster(self) -> Now:
        return self


def at(step: Any) -> State:
    state: dict[str, Any] = {
        "run_id": str(uuid4()), "plan": Plan(change=CHANGE, goal="release", steps=STEPS),
        "steps": STEPS, "cursor": STEPS.index(step), "mode": "forward", "goal": "release",
        "proposal": Proposal(step=step), "progress": None, "seen_seq": 0, "finding": None,
        "attempt": Attempt(state=EffectState.APPLIED, applied=Applied(summary="done")),
        "baselines": [Baseline(key=KEY, image="shop:1"), OTHER],
    }  # fmt: skip
    return cast(State, state)


async def observed(now: Now) -> Update:
    some = cast(Any, now)
    observe = Observe(NOTHING, some, some, NOTHING, NOTHING, some, some, SystemClock())
    runtime: Any = type("Runtime", (), {"context": type("Passage", (), {"lease": None})})
    return await observe(at(PRE), runtime)


async def test_what_runs_now_is_looked_at_and_proven_before_a_change() -> None:
    now = Now()
    update = await observed(now)
    assert update["finding"] is not None
    assert update["finding"].kind == "done"
    assert now.looked == "2"
    assert now.recorded == [("shop:2", "good")]
    assert update["baselines"] == (Baseline(key=KEY, image="shop:2"), OTHER)


async def test_a_cluster_that_is_away_is_waited_for_before_anything_is_proven() -> None:
    now = Now(Temporary("no answer", 7))
    update = await observed(now)
    assert update["finding"] is not None
    assert (update["finding"].kind, update["finding"].reason) == ("again", "no answer")
    assert not now.recorded


async def test_a_cluster_that_may_not_be_read_leaves_what_was_planned() -> None:
    now = Now(Permanent("forbidden"))
    update = await observed(now)
    assert "baselines" not in update
    assert now.looked == "1"


async def test_once_its_canary_stands_a_change_knows_what_it_stands_beside() -> None:
    settling = Settling(cast(Any, Now()), NOTHING, NOTHING, SystemClock())
    action = PODS.action
    assert isinstance(action, K8sDeploy)
    action = action.model_copy(update={"image": "shop:3"})
    update = await settling.look(at(PODS), NOTHING, action, Progress(since=NOW))
    assert update["cursor"] == STEPS.index(PODS) + 1
    assert update["baselines"] == (Baseline(key=KEY, image="shop:2"), OTHER)


@pytest.mark.parametrize(
    ("running", "compared"), [("shop:2", "2"), ("shop:1", "1"), ("shop:3", None), (None, "1")]
)
async def test_a_canary_is_compared_with_what_runs_beside_it(
    running: str | None, compared: str | None
) -> None:
    state = at(CHECK)
    state["baselines"] = (Baseline(key=KEY, image=running),)
    update = await Release(SystemClock(), NOTHING)(state)
    proposal = update["proposal"]
    assert proposal is not None
    assert isinstance(proposal.step.action, MetricsCheck)
    assert proposal.step.action.baseline == compared
    assert proposal.step.id == CHECK.id


@pytest.mark.parametrize(
    ("pods", "weight", "accepted", "held", "is_under_way"),
    [
        (1, 10, True, False, True),
        (1, 0, True, True, True),
        (1, 0, False, False, True),
        (0, 0, False, True, False),
        # Kept by a budget, say: it must not stand before stable for good.
        (1, 0, True, False, False),
    ],
)
def test_pods_that_nothing_could_retire_are_no_canary_under_way(
    pods: int, weight: int, accepted: bool, held: bool, is_under_way: bool
) -> None:
    canary = track("shop-canary", "shop:3").model_copy(update={"desired": pods})
    route = RouteState(canary_weight=weight, accepted=accepted)
    seen = WorkloadState(stable=track("shop", "shop:2"), canary=canary, route=route)
    assert (under_way(seen, held=held) is not None) is is_under_way
