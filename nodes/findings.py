"""What `observe` makes of what it has seen: go on, ask, or give up. Pure."""

from __future__ import annotations

from domain.action import READ_ONLY_KINDS
from domain.state import Finding, Progress, State, Update
from domain.verdict import Verdict, VerdictKind


def gone_on(state: State, finding: Finding) -> Update:
    """The step is over: the cursor moves on to the next."""
    return Update(
        finding=finding, cursor=state["cursor"] + 1, progress=None, proposal=None, ruling=None
    )


def given_up(state: State, reason: str) -> Finding:
    """Go back when this run has shifted something on the target, otherwise fail."""
    return Finding(kind="breach" if state["mode"] == "forward" else "failed", reason=reason)


def unsure(state: State, progress: Progress, reason: str) -> Update:
    """Ask a person; one who has said yes at the gate has taken it on."""
    proposal = state["proposal"]
    if proposal is not None and proposal.concern is not None:
        return gone_on(state, Finding(kind="done", reason=f"accepted at the gate: {reason}"))
    verdict = Verdict(kind=VerdictKind.INCONCLUSIVE, reason=reason)
    return Update(progress=progress, finding=Finding(kind="ask", reason=reason, verdict=verdict))


def left_undone(state: State) -> str:
    """What of a way back is not done any more once its current step has failed; '' for nothing."""
    left = [
        f"{one.scope}: {one.title}"
        for one in state["steps"][state["cursor"] + 1 :]
        if not one.only_speaks and one.action.kind not in READ_ONLY_KINDS
    ]
    return f" Left undone: {'; '.join(left)}." if left else ""
