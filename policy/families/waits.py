"""What a step has to wait for before anything else is asked: its own time and the target's lock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta

from policy.finding import Case, Finding, wait

LOCK_LOOK_AGAIN = timedelta(seconds=30)
"""The holder's end wakes the run; this is for the case that the wake-up got lost."""


def findings(case: Case) -> Iterable[Finding]:
    """Not before its time; not while another run holds the target."""
    facts = case.facts
    return _said(case) if facts.not_before is not None or facts.lock_holder is not None else ()


def _said(case: Case) -> Iterator[Finding]:
    facts = case.facts
    if facts.not_before is not None and facts.not_before > case.now:
        seconds = (facts.not_before - case.now).total_seconds()
        yield wait(
            "step.not_before",
            facts.not_before_reason or f"The next look is due in {seconds:.0f} s.",
            f"It goes on by itself at {facts.not_before:%H:%M:%S} UTC.",
            facts.not_before,
        )
    if facts.lock_holder is not None:
        yield wait(
            "lock.held",
            f"{case.place} is locked by {facts.lock_holder}.",
            "It goes on when the lock is free; `/unlock` by an admin frees it.",
            case.now + LOCK_LOOK_AGAIN,
        )
