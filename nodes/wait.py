"""Wait for a time or for news. It does nothing but interrupt: an interrupted body runs twice."""

from __future__ import annotations

from dataclasses import dataclass

from langgraph.types import interrupt

from domain.state import State, Update


@dataclass(frozen=True)
class Wait:
    """Sleeps until the decision's `until` or until a signal; the gate then looks again."""

    async def __call__(self, state: State) -> Update:
        ruling = state["ruling"]
        assert ruling is not None
        interrupt(
            {
                "kind": "wait",
                "until": ruling.decision.until.isoformat() if ruling.decision.until else None,
                "reason": ruling.decision.reason,
            }
        )
        return Update(ruling=None)
