"""Routing is a pure function of the state; these are its tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from domain.action import K8sTraffic, Notify
from domain.decision import Decision, MatchedRule, Outcome
from domain.event import Event, Unhandled
from domain.plan import RiskClass, Step
from domain.run import RunState
from domain.service import Target, Workload
from domain.state import Finding, Proposal, Ruling, State, initial
from domain.state import Outcome as Ending
from graph import routes

NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)
WORKLOAD = Workload(deployment="shop", container="app", route="shop")
PROD = Target(service="shop", environment="prod", namespace="prod", workload=WORKLOAD, replicas=2)
STAGING = PROD.model_copy(update={"environment": "staging", "namespace": "staging"})
RELEASING = Step(
    id="shop/prod.weight",
    title="weight",
    agent="release",
    stage="s",
    scope="shop/prod",
    action=K8sTraffic(target=PROD, weight=10),
)
SPEAKING = Step(
    id="say",
    title="say",
    agent="conductor",
    stage="words",
    scope="words",
    action=Notify(channel="c", severity="info", title="t", text="t"),
)


def state(**changes: Any) -> State:
    event = Event(
        id=uuid4(),
        source="api",
        delivery_id="d",
        body_digest="b",
        received_at=NOW,
        body=Unhandled(what="x"),
    )
    return {**initial(uuid4(), event, "release"), **changes}  # type: ignore[typeddict-item]


def ruling(outcome: Outcome) -> Ruling:
    decision = Decision(
        outcome=outcome,
        risk=RiskClass.LOW,
        rules=(MatchedRule(rule="r", outcome=outcome, reason="because"),),
        policy_digest="p",
        at=NOW,
    )
    return Ruling(
        decision=decision,
        decision_id=uuid4(),
        approval_id=None,
        asked_id=None,
        scope_digest="s",
        action_digest="a",
    )


@pytest.mark.parametrize(
    ("outcome", "node"),
    [
        (Outcome.ALLOW, "execute"),
        (Outcome.NEEDS_APPROVAL, "approve"),
        (Outcome.WAIT, "wait"),
        (Outcome.DENY, "report"),
    ],
)
def test_the_gate_sends_a_run_where_its_decision_says(outcome: Outcome, node: str) -> None:
    assert routes.after_gate(state(steps=(RELEASING,), ruling=ruling(outcome))) == node


def test_a_denial_in_the_middle_of_a_change_goes_back() -> None:
    halfway = state(steps=(RELEASING,), touched=(STAGING, PROD), ruling=ruling(Outcome.DENY))
    assert routes.after_gate(halfway) == "rollback"


def test_a_denial_of_words_in_the_middle_of_a_change_goes_back() -> None:
    """An override is announced after the first step, a page is sent before the last question."""
    halfway = state(steps=(SPEAKING, RELEASING), touched=(PROD,), ruling=ruling(Outcome.DENY))
    assert routes.after_gate(halfway) == "rollback"
    before = state(steps=(SPEAKING, RELEASING), touched=(STAGING,), ruling=ruling(Outcome.DENY))
    assert routes.after_gate(before) == "report"


def test_a_denial_before_production_leaves_a_finished_staging_alone() -> None:
    before = state(steps=(RELEASING,), touched=(STAGING,), ruling=ruling(Outcome.DENY))
    assert routes.after_gate(before) == "report"


def test_a_denial_on_the_way_back_ends_in_the_report() -> None:
    back = state(steps=(RELEASING,), touched=(PROD,), mode="rollback", ruling=ruling(Outcome.DENY))
    assert routes.after_gate(back) == "report"


@pytest.mark.parametrize(
    ("kind", "steps", "node"),
    [
        ("done", (RELEASING,), "release"),
        ("done", (SPEAKING,), "conductor"),
        ("done", (), "report"),
        ("again", (RELEASING,), "release"),
        ("ask", (RELEASING,), "gate"),
        ("breach", (RELEASING,), "rollback"),
        ("failed", (RELEASING,), "report"),
    ],
)
def test_observe_goes_on_looks_again_asks_or_goes_back(
    kind: Any, steps: tuple[Step, ...], node: str
) -> None:
    seen = state(steps=steps, finding=Finding(kind=kind, reason="seen"))
    assert routes.after_observe(seen) == node


def test_a_plan_without_steps_is_reported_at_once() -> None:
    assert routes.after_conductor(state()) == "report"


def test_words_go_from_the_conductor_to_the_gate() -> None:
    assert routes.after_conductor(state(steps=(SPEAKING,))) == "gate"


def test_closing_words_are_said_although_the_outcome_is_known() -> None:
    ended = Ending(state=RunState.SUCCEEDED, reason="done")
    closing = state(steps=(SPEAKING,), outcome=ended, mode="closing")
    assert routes.after_conductor(closing) == "gate"


def test_the_report_ends_when_nothing_is_left_to_say() -> None:
    assert routes.after_report(state()) == "__end__"
    assert routes.after_report(state(proposal=Proposal(step=SPEAKING))) == "gate"
