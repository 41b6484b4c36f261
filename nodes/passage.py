"""What travels with a run through the nodes without being part of its state: the lease."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from langgraph.runtime import Runtime

from store.records import Lease


class Probe(Protocol):
    """Is told when a point is reached at which a crash would be most unwelcome.

    The real one does nothing; the crash tests put one in that kills the process.
    """

    def reached(self, point: str) -> None:
        """`point` names the place: `node:gate:after@forward.3`, `effect:STEP:claimed`."""
        ...


class NoProbe:
    """Lets everything pass."""

    def reached(self, point: str) -> None:
        return None


@dataclass(frozen=True)
class Passage:
    """The lease under which this passage is made, and the nodes it has passed so far."""

    lease: Lease
    probe: Probe = field(default_factory=NoProbe)
    path: list[tuple[str, datetime]] = field(default_factory=list)


PassageRuntime = Runtime[Passage]
"""What LangGraph hands to each node beside the state."""
