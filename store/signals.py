"""Signals: what a run is told while it sleeps or works. A row each, and a flag that wakes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from store.database import Connection, Database, jsonb
from store.records import SignalRow

SEND = "SELECT fermata_signal(%(run)s, %(kind)s, %(payload)s, %(event)s)"
OF_RUN = "SELECT fermata_doc(s) FROM signals s WHERE run_id = %(run)s ORDER BY seq"


@dataclass
class Signals:
    """Sends signals. Giving the queue its hint is up to the caller or to `hint`."""

    db: Database
    hint: Callable[[UUID], Awaitable[None]] | None = None
    """Called with the run after each commit, where somebody wants to know (`Hints.enqueue`)."""

    async def send(
        self, run_id: UUID, kind: str, payload: dict[str, Any], event_id: UUID | None = None
    ) -> int:
        """Tell a run something and wake it; the signal's number within the run.

        Raises `LookupError` when there is no such run.
        """
        seq = await self.db.insist(
            SEND, {"run": run_id, "kind": kind, "payload": jsonb(payload), "event": event_id}
        )
        if seq is None:
            raise LookupError(f"there is no run {run_id}")
        if self.hint is not None:
            await self.hint(run_id)
        return int(seq)

    async def of_run(self, run_id: UUID) -> list[SignalRow]:
        """All signals of a run, oldest first."""
        return await self.db.models(SignalRow, OF_RUN, {"run": run_id})


async def send(conn: Connection, run_id: UUID, kind: str, payload: dict[str, Any]) -> None:
    """Send a signal inside the caller's transaction."""
    await conn.execute(
        SEND, {"run": run_id, "kind": kind, "payload": jsonb(payload), "event": None}
    )
