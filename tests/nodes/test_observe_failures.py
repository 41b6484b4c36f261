"""What a step that was refused leads to: another try, the way back, or going on all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from domain.action import Action, K8sPrune, K8sRetire, K8sTraffic
from domain.effect import Attempt, EffectState
from domain.plan import Step
from domain.service import Target, Workload
from domain.state import Finding, Progress, Proposal, State
from nodes.observe import MOST_FAILURES, Observe

NOW = datetime(2026, 3, 3, 9, 0, tzinfo=UTC)
TARGET = Target(
    service="shop", environment="prod", namespace="prod", replicas=1,
    workload=Workload(deployment="shop", container="shop"),
)  # fmt: skip
BUDGET = "PodDisruptionBudget prod/shop wants 2 ready pod(s), and 1 would be left"
KEPT = Attempt(
    state=EffectState.REFUSED, error=BUDGET, most_tries=6, retry_at=NOW + timedelta(seconds=10)
)
DOWN = KEPT.model_copy(update={"error": "no answer", "most_tries": None})
REFUSED = Attempt(state=EffectState.REFUSED, error="forbidden", remedy="grant it")


async def found(action: Action, attempt: Attempt, tries: int, mode: str = "forward") -> Finding:
    """The finding at the `tries`-th failure in a row."""
    step = Step(
        id="s", title="Do it", agent="release", stage="full", scope="shop/prod", action=action
    )
    state: dict[str, Any] = {
        "steps": (step,), "cursor": 0, "mode": mode, "proposal": Proposal(step=step),
        "attempt": attempt, "progress": Progress(since=NOW, failures=tries - 1),
    }  # fmt: skip
    nothing = cast(Any, None)
    observe = Observe(*(nothing for _ in range(8)))
    update = await observe(cast(State, state), nothing)
    assert update["finding"] is not None
    return update["finding"]


@pytest.mark.parametrize("mode", ["forward", "rollback"])
async def test_a_canary_whose_pods_a_budget_wants_keeps_them_and_the_run_goes_on(
    mode: str,
) -> None:
    retire = K8sRetire(target=TARGET)
    early = await found(retire, KEPT, 5, mode)
    assert (early.kind, early.not_before) == ("again", KEPT.retry_at)
    assert BUDGET in early.reason
    late = await found(retire, KEPT, 6, mode)
    assert late.kind == "done"
    assert late.reason == f"its pods stay: {BUDGET}"


async def test_stable_that_a_budget_does_not_let_shrink_gives_up_after_a_minute() -> None:
    traffic = K8sTraffic(target=TARGET, weight=75)
    assert (await found(traffic, KEPT, 5)).kind == "again"
    late = await found(traffic, KEPT, 6)
    assert late.kind == "breach"
    assert BUDGET in late.reason


async def test_a_cluster_that_does_not_answer_is_waited_for_on_the_way_back() -> None:
    retire = K8sRetire(target=TARGET)
    assert (await found(retire, DOWN, 100, "rollback")).kind == "again"
    assert (await found(retire, DOWN, MOST_FAILURES)).kind == "breach"


async def test_copies_that_cannot_be_deleted_undo_nothing() -> None:
    prune = K8sPrune(target=TARGET, keep=())
    assert (await found(prune, DOWN, 1)).kind == "again"
    for attempt, tries in ((REFUSED, 1), (DOWN, MOST_FAILURES)):
        left = await found(prune, attempt, tries)
        assert left.kind == "done"
        assert left.reason == f"not tidied up: {attempt.error}"
