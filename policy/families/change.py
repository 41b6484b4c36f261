"""What people and newer events have said about the change: cancel, supersede, hold, new head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.action import MetricsCheck
from policy.finding import Case, Finding, allow, ask, deny, wait


def findings(case: Case) -> Iterable[Finding]:
    """Cancelled, superseded, held, head moved or unknown."""
    facts = case.facts
    if (
        facts.head_moved is False
        and facts.cancelled_by is None
        and facts.superseded_by is None
        and facts.held_by is None
    ):
        return ()
    return _said(case)


def _said(case: Case) -> Iterator[Finding]:
    facts = case.facts
    if facts.cancelled_by is not None:
        yield deny(
            "run.cancelled",
            f"{facts.cancelled_by.login} cancelled this run.",
            "`/retry` starts it again.",
        )
    if facts.superseded_by is not None:
        yield _superseded(case, facts.superseded_by)
    if facts.held_by is not None:
        yield wait("run.held", f"{facts.held_by.login} holds this run.", "`/resume` lets it go on.")
    if facts.head_moved is True and not _is_watch(case):
        yield deny(
            "change.head_moved",
            f"The pull request's head is no longer the {_sha(case)} that was planned.",
            "The newer head gets a run of its own; look there.",
        )
    elif facts.head_moved is None and not (facts.step.only_speaks or case.only_looks):
        yield ask(
            "change.head_unknown",
            f"It could not be read whether {_sha(case)} still is the pull request's head.",
            "Check the pull request, then approve; or make the forge reachable.",
        )


def _is_watch(case: Case) -> bool:
    """Whether the release is complete and only watched: what is newer does not undo it."""
    action = case.facts.step.action
    return isinstance(action, MetricsCheck) and action.phase == "burn"


def _superseded(case: Case, newer: str) -> Finding:
    if _is_watch(case):
        return allow(
            "run.superseded",
            f"Run {newer} supersedes this one, which is rolled out: its watch ends.",
        )
    begun = case.facts.in_flight or case.facts.group_begun
    if begun and case.rules.superseded_in_flight == "finish":
        return allow(
            "run.superseded",
            f"Run {newer} supersedes this one, but {case.place} has begun and finishes "
            "(releases.superseded_in_flight: finish).",
        )
    return deny(
        "run.superseded",
        f"Run {newer} of a newer change supersedes this one.",
        "The newer run carries this change with it.",
    )


def _sha(case: Case) -> str:
    sha = case.facts.change.sha
    return sha[:7] if sha else "commit"
