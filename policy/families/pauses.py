"""Pauses that a service's strategy has planned: a person says that it goes on."""

from __future__ import annotations

from collections.abc import Iterator

from domain.action import Pause
from policy.finding import Case, Finding, allow, ask


def findings(case: Case) -> Iterator[Finding]:
    """Asks until somebody approves it, says `/resume`, or a newer change takes the place over."""
    action = case.facts.step.action
    if not isinstance(action, Pause):
        return
    if case.facts.yields_to:
        yield allow("pause.yields", f"{case.facts.yields_to} takes over {case.place}.")
        return
    who = case.facts.resumed_by
    if who is not None:
        yield allow("pause.resumed", f"{who.login} said that it goes on.")
        return
    yield ask(
        "pause.planned",
        f"The strategy of {case.place} pauses here: {action.question}",
        "`/approve` or `/resume` goes on, `/reject` takes it back.",
    )
