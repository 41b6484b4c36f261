"""Whether the step fits what it claims to be: its environment, its target and the run's goal."""

from __future__ import annotations

from collections.abc import Iterator

from domain.action import target_of
from policy.finding import Case, Finding, deny

SPEAKING_GOALS = frozenset({"preview", "notify", "answer", "unlock", "nothing"})


def findings(case: Case) -> Iterator[Finding]:
    """Environment not listed, facts about another target, a change in a run that only speaks."""
    facts = case.facts
    target = target_of(facts.step.action)
    if case.listed is None:
        yield deny(
            "environment.unknown",
            f"The policy lists no environment {facts.environment!r}.",
            f"Add it under `environments`, which has {', '.join(case.rules.risk.environments)}.",
        )
    if target is not None and (target.environment, target.service) != (
        facts.environment,
        facts.service,
    ):
        yield deny(
            "environment.mismatch",
            f"The step works on {target.key}, but was brought for {case.place}.",
            "This is a defect in the plan; `/retry` makes a new one.",
        )
    if facts.goal in SPEAKING_GOALS:
        yield deny(
            "goal.only_speaks",
            f"A run with the goal {facts.goal!r} may only speak, not {facts.step.action.kind}.",
            "`/deploy` or a merge starts a release.",
        )
