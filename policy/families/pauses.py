"""Pauses that a service's strategy has planned: a person says that it goes on."""

from __future__ import annotations

from collections.abc import Iterator

from domain.action import Pause
from policy.finding import Case, Finding, allow, ask


def findings(case: Case) -> Iterator[Finding]:
    """Asks until somebody approves it, or says `/resume`."""
    action = case.facts.step.action
    if not isinstance(action, Pause):
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
