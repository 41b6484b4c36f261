"""Foresight: what the gate would say to the steps of a plan if they came up at a time. It only
looks; the decision that counts is made when a step does come up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.action import READ_ONLY_KINDS, K8sTraffic, target_of
from domain.decision import Decision
from domain.plan import Plan, Step
from nodes.inquiry import Found
from policy.evaluate import evaluate
from policy.facts import Facts


@dataclass(frozen=True)
class Foreseen:
    """A step, what is known about it, and what the gate would say."""

    step: Step
    facts: Facts
    decision: Decision


def first_changes(plan: Plan) -> Iterator[Step]:
    """The first step of each target that changes something."""
    seen: set[str] = set()
    for step in plan.steps:
        target = target_of(step.action)
        if target is None or target.key in seen or step.action.kind in READ_ONLY_KINDS:
            continue
        seen.add(target.key)
        yield step


def facts_of(plan: Plan, step: Step, more: dict[str, Any]) -> Facts:
    """The facts about a step that nothing has happened to yet, with `more` by their names."""
    target = target_of(step.action)
    weight = first_weight(plan, step.scope)
    return Facts(
        step=step,
        change=plan.change,
        goal=plan.goal,
        environment=target.environment if target else None,
        service=target.service if target else None,
        first_weight=weight,
        canary_planned=weight is not None,
        scope_digest=plan.scope_digest(step.scope),
        **more,
    )


def first_weight(plan: Plan, scope: str) -> int | None:
    """Weight of the first canary step of a scope; None when it has none."""
    return next(
        (
            one.action.weight
            for one in plan.steps
            if one.scope == scope and isinstance(one.action, K8sTraffic) and one.action.weight
        ),
        None,
    )


async def foresee(
    plan: Plan, asked: Callable[[Step], Awaitable[Found]], now: datetime
) -> tuple[Foreseen, ...]:
    """What the gate would say to the first change of each target; `asked` looks outside."""
    foreseen = []
    for step in first_changes(plan):
        found = await asked(step)
        facts = facts_of(plan, step, found.facts)
        foreseen.append(Foreseen(step, facts, evaluate(found.rules, facts, now)))
    return tuple(foreseen)
