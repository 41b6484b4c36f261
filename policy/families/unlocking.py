"""Freeing a lock: anybody who may command, where its holder is dead; with authority, otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from domain.action import LockRelease
from policy.finding import Case, Finding, allow, deny

AUTHORITY = ("release-manager", "sre-lead", "admin")
"""Any of these may take a lock from a run that is under way; the run is cancelled then."""


def findings(case: Case) -> Iterator[Finding]:
    """Who may take the lock away, from what holder. `commands` has judged the role as such."""
    action, commander = case.facts.step.action, case.facts.commander
    if not isinstance(action, LockRelease):
        return
    if commander is None:
        yield deny("unlock.unasked", "Nobody asked for the lock to be freed.", "`/unlock`.")
    elif case.facts.lock_alive is None:
        yield deny(
            "unlock.changed",
            f"Run {str(action.holder)[:8]} does not hold {action.key} any more.",
            "Look at the locks again; `/unlock` is about the run that holds one now.",
        )
    elif not case.facts.lock_alive:
        yield allow(
            "unlock.dead",
            f"Nobody advances run {str(action.holder)[:8]}, which holds {action.key}.",
        )
    elif set(commander.roles or ()) & set(AUTHORITY):
        yield allow(
            "unlock.cancel",
            f"{commander.login} may cancel run {str(action.holder)[:8]}, which holds {action.key}.",
        )
    else:
        yield deny(
            "unlock.alive",
            f"Run {str(action.holder)[:8]} holds {action.key} and is under way.",
            f"`/cancel` it, wait, or have one of {', '.join(AUTHORITY)} `/unlock` it.",
        )
