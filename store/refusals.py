"""Refusals: commands that changed nothing, each with who gave it and why it did not count."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domain.refusal import Refusal
from store.database import Database, text

# A node that runs twice after a crash says the same thing once.
ADD = """
INSERT INTO refusals (kind, command, principal, reason, via, at, event_id, run_id, signal_seq,
                      repo, number, comment_id)
VALUES (%(kind)s, %(command)s, %(principal)s, %(reason)s, %(via)s, %(at)s, %(event)s, %(run)s,
        %(seq)s, %(repo)s, %(number)s, %(comment)s)
ON CONFLICT (run_id, signal_seq) DO NOTHING
"""
LIST = "SELECT fermata_doc(x) FROM refusals x ORDER BY x.id DESC LIMIT %(limit)s"
OF_RUN = "SELECT fermata_doc(x) FROM refusals x WHERE x.run_id = %(run)s ORDER BY x.id"
OF_EVENT = "SELECT fermata_doc(x) FROM refusals x WHERE x.event_id = %(event)s ORDER BY x.id"


@dataclass(frozen=True)
class Refusals:
    """The record of what was refused before it became a vote. Rows are only ever added."""

    db: Database

    async def add(self, refusal: Refusal) -> None:
        """Keep one; the same signal of a run is refused once."""
        await self.db.count(
            ADD,
            {
                "kind": refusal.kind,
                "command": text(refusal.command),
                "principal": text(refusal.principal),
                "reason": text(refusal.reason),
                "via": refusal.via,
                "at": refusal.at,
                "event": refusal.event_id,
                "run": refusal.run_id,
                "seq": refusal.signal_seq,
                "repo": refusal.repo,
                "number": refusal.number,
                "comment": refusal.comment_id,
            },
        )

    async def latest(self, limit: int = 100) -> list[Refusal]:
        """The latest, newest first."""
        return await self.db.models(Refusal, LIST, {"limit": limit})

    async def of_run(self, run_id: UUID) -> list[Refusal]:
        """Those of a run, in order."""
        return await self.db.models(Refusal, OF_RUN, {"run": run_id})

    async def of_event(self, event_id: UUID) -> list[Refusal]:
        """Those that one delivery led to, in order."""
        return await self.db.models(Refusal, OF_EVENT, {"event": event_id})
