"""Whether the step fits what it claims to be: its environment, its target and the run's goal."""

from __future__ import annotations

from domain.action import target_of
from domain.service import Target
from policy.finding import Case, Finding, deny

SPEAKING_GOALS = frozenset({"preview", "notify", "answer", "unlock", "nothing"})


def findings(case: Case) -> list[Finding]:
    """Environment not listed, facts about another target, a change in a run that only speaks."""
    facts = case.facts
    found: list[Finding] = []
    target = target_of(facts.step.action)
    if case.listed is None:
        found.append(_unknown(case))
    if target is not None and (
        target.environment != facts.environment or target.service != facts.service
    ):
        found.append(_mismatch(case, target))
    if facts.goal in SPEAKING_GOALS:
        found.append(_only_speaks(case))
    return found


def _unknown(case: Case) -> Finding:
    return deny(
        "environment.unknown",
        f"The policy lists no environment {case.facts.environment!r}.",
        f"Add it under `environments`, which has {', '.join(case.rules.risk.environments)}.",
    )


def _mismatch(case: Case, target: Target) -> Finding:
    return deny(
        "environment.mismatch",
        f"The step works on {target.key}, but was brought for {case.place}.",
        "This is a defect in the plan; `/retry` makes a new one.",
    )


def _only_speaks(case: Case) -> Finding:
    return deny(
        "goal.only_speaks",
        f"A run with the goal {case.facts.goal!r} may only speak, not "
        f"{case.facts.step.action.kind}.",
        "`/deploy` or a merge starts a release.",
    )
