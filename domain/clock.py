"""Time as an argument: everything that asks for the time is handed a clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Says what time it is in the world being operated; simulated worlds have their own clock."""

    def now(self) -> datetime:
        """Current time, always aware, always UTC."""
        ...

    @property
    def speed(self) -> float:
        """Seconds of this clock that pass in one real second (1.0 for the real world)."""
        ...


class SystemClock:
    """The real time."""

    speed = 1.0

    def now(self) -> datetime:
        return datetime.now(UTC)
