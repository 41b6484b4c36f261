"""A way back that fails half-way: the run says why, and what of it nobody will do any more."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from domain.action import target_of
from domain.clock import SystemClock
from domain.decision import Outcome as Ruled
from domain.event import Event, Unhandled
from domain.plan import Plan
from domain.run import RunState
from domain.service import Target
from domain.state import Finding, Outcome, State, initial
from nodes.planning import release_steps, way_back
from nodes.report import Report
from nodes.rollback import Rollback
from tests.graph.test_routes import NOW, ruling
from tests.nodes.test_planning import CHANGE, PROD, SHOP

NOTHING = cast(Any, None)
STALLED = "the weight did not come about within 600 s: the gateway has not taken the route over"
BACK = way_back(SHOP, PROD, "shop:1", had_canary=True, verify=True)
RETIRE = "shop/prod: Retire the canary"


def at(cursor: int, **changes: Any) -> State:
    event = Event(
        id=uuid4(), source="api", delivery_id="d", body_digest="b", received_at=NOW,
        body=Unhandled(what="x"),
    )  # fmt: skip
    state = initial(uuid4(), event, "release")
    state |= {"steps": BACK, "cursor": cursor, "touched": (Target.of(SHOP, PROD),)}
    return cast(State, {**state, **changes})


@pytest.mark.parametrize(
    ("cursor", "left"),
    [
        (0, f" Left undone: shop/prod: Take all traffic from the canary; {RETIRE}."),
        (1, f" Left undone: {RETIRE}."),
        (2, ""),
    ],
)
async def test_what_is_left_of_the_way_back_of_a_release_is_said(cursor: int, left: str) -> None:
    report = Report(NOTHING, NOTHING, NOTHING, NOTHING)
    breach = Outcome(state=RunState.ROLLED_BACK, reason="canary 5.0% errors.")
    stalled = Finding(kind="failed", reason=STALLED)
    update = await report(at(cursor, mode="rollback", outcome=breach, finding=stalled))
    outcome = update["outcome"]
    assert outcome is not None
    assert outcome.state is RunState.FAILED
    assert outcome.reason == f"canary 5.0% errors. {STALLED}{left}"


async def test_what_is_left_of_a_rollback_that_was_asked_for_is_said() -> None:
    rollback = Rollback(NOTHING, NOTHING, NOTHING)
    stalled = Finding(kind="breach", reason=STALLED)
    update = await rollback(at(1, goal="rollback", finding=stalled), NOTHING)
    outcome = update["outcome"]
    assert outcome is not None
    assert outcome.state is RunState.FAILED
    assert outcome.reason == f"The way back failed as well: {STALLED} Left undone: {RETIRE}."


async def test_what_is_no_longer_in_services_yaml_goes_back_all_the_same() -> None:
    """The run knows what it has touched; nobody has to be able to look it up any more."""
    plan = Plan(change=CHANGE, goal="release", steps=release_steps(SHOP, PROD, "shop:2", "shop:1"))
    said = AsyncMock()
    rollback = Rollback(cast(Any, SimpleNamespace(record=said)), NOTHING, SystemClock())
    breach = Finding(kind="breach", reason="canary 5.0% errors")
    halfway = at(3, plan=plan, steps=plan.steps, finding=breach)
    update = await rollback(
        halfway, cast(Any, SimpleNamespace(context=SimpleNamespace(lease=None)))
    )
    kinds = [step.action.kind for step in update["steps"]]
    assert kinds == ["k8s_rollback", "k8s_traffic", "k8s_retire"]
    assert {target_of(step.action) for step in update["steps"]} == {Target.of(SHOP, PROD)}
    assert said.call_args.kwargs["image"] == "shop:2"


@pytest.mark.parametrize(
    ("rule", "word"),
    [
        ("run.cancelled", "withdrawn"),
        ("run.superseded", "withdrawn"),
        ("approval.rejected", "bad"),
        ("alert.firing", "bad"),
    ],
)
async def test_a_version_that_was_called_off_has_not_failed(rule: str, word: str) -> None:
    """Or `/cancel` and `/retry` would put it into quarantine."""
    plan = Plan(change=CHANGE, goal="release", steps=release_steps(SHOP, PROD, "shop:2", "shop:1"))
    said, denied = AsyncMock(), ruling(Ruled.DENY)
    (matched,) = denied.decision.rules
    rules = (matched.model_copy(update={"rule": rule}),)
    denied = denied.model_copy(
        update={"decision": denied.decision.model_copy(update={"rules": rules})}
    )
    rollback = Rollback(cast(Any, SimpleNamespace(record=said)), NOTHING, SystemClock())
    halfway = at(3, plan=plan, steps=plan.steps, ruling=denied)
    await rollback(halfway, cast(Any, SimpleNamespace(context=SimpleNamespace(lease=None))))
    assert said.call_args.kwargs["status"] == word
