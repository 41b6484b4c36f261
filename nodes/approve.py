"""Wait for people. This node does nothing but interrupt: an interrupted body runs twice."""

from __future__ import annotations

from dataclasses import dataclass

from langgraph.types import interrupt

from domain.state import State, Update


@dataclass(frozen=True)
class Approve:
    """Sleeps until a vote, a signal or the expiry of the request; the gate then looks again."""

    async def __call__(self, state: State) -> Update:
        ruling = state["ruling"]
        assert ruling is not None
        interrupt(
            {
                "kind": "approval",
                "approval_id": str(ruling.asked_id),
                "digest": ruling.scope_digest,
                "until": ruling.decision.until.isoformat() if ruling.decision.until else None,
                "reason": ruling.decision.reason,
            }
        )
        return Update(ruling=None)
