"""What CI says about the commit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from policy.facts import CheckFact
from policy.finding import Case, Finding, ask, deny, wait

LOOK_AGAIN = timedelta(seconds=60)
"""A CI event wakes the run; this is for the case that it got lost."""
_GOOD = frozenset({"success", "neutral"})
_SKIPPED = "skipped"
_PENDING = frozenset({None, "pending"})
_NOT_FAILED = _GOOD | _PENDING | {_SKIPPED}


def findings(case: Case) -> Iterable[Finding]:
    """Required checks that failed, were skipped or are not there; else any that failed.

    Once a target is being changed only a failed required check counts: it takes the change back.
    """
    rules, facts = case.rules.checks, case.facts
    if case.listed not in rules.environments:
        return ()
    others: tuple[Finding, ...] = ()
    if not rules.required and not facts.in_flight:
        others = _failed([one for one in facts.checks if one.name not in rules.also])
    if not rules.required and not rules.also:
        return others
    return (*others, *_required(case, tuple(dict.fromkeys((*rules.required, *rules.also)))))


def _required(case: Case, names: tuple[str, ...]) -> Iterator[Finding]:
    # of several with one name (a status and a check run, say) the worst counts
    by_name = {one.name: one for one in sorted(case.facts.checks, key=_badness)}
    required = [by_name.get(name) or CheckFact(name=name, conclusion=None) for name in names]
    yield from _failed(required)
    if case.facts.in_flight:
        return
    yield from _skipped([one.name for one in required if one.conclusion == _SKIPPED])
    missing = [name for name in names if name not in by_name]
    yield from _pending(case, [one.name for one in required if one.conclusion in _PENDING], missing)


def _has_failed(check: CheckFact) -> bool:
    """Everything that is neither good, skipped nor still coming; also words nobody knows."""
    return check.conclusion not in _NOT_FAILED


def _badness(check: CheckFact) -> int:
    if _has_failed(check):
        return 3
    return 2 if check.conclusion in _PENDING else int(check.conclusion == _SKIPPED)


def _failed(checks: Sequence[CheckFact]) -> tuple[Finding, ...]:
    words = [f"{one.name} ({one.conclusion})" for one in checks if _has_failed(one)]
    if not words:
        return ()
    failed = deny(
        "checks.failed",
        f"CI did not pass on this commit: {', '.join(words)}.",
        "Mend it or run it again, then `/retry`.",
    )
    return (failed,)


def _skipped(names: list[str]) -> Iterator[Finding]:
    if names:
        yield ask(
            "checks.skipped",
            f"Required checks were skipped on this commit: {', '.join(names)}.",
            "Run them, or approve without them.",
        )


def _pending(case: Case, names: list[str], missing: list[str]) -> Iterator[Finding]:
    if names:
        silent = f" ({', '.join(missing)} not heard of yet)" if missing else ""
        yield wait(
            "checks.pending",
            f"Required checks are not done on this commit: {', '.join(names)}{silent}.",
            "It goes on when they have succeeded.",
            case.now + LOOK_AGAIN,
            patient=False,
        )
