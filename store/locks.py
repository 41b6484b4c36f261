"""Locks: one change at a time per target. Who comes second stands in line, visibly."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.event import Frozen
from store.database import Database, text
from store.records import Lease

ACQUIRE = "SELECT fermata_acquire(%(run)s, %(fence)s, %(key)s)"
UNLOCK = "SELECT fermata_unlock(%(key)s, %(principal)s, %(reason)s)"
LIST = """
SELECT json_build_object(
    'key', l.key, 'run_id', l.run_id, 'title', r.title, 'since', l.since,
    'waiting', coalesce((
        SELECT json_agg(json_build_object(
            'key', q.key, 'run_id', q.run_id, 'title', w.title, 'since', q.at) ORDER BY q.seq)
        FROM lock_queue q JOIN runs w ON w.id = q.run_id
        WHERE q.key = l.key AND w.finished_at IS NULL), '[]'))
FROM locks l JOIN runs r ON r.id = l.run_id WHERE r.finished_at IS NULL ORDER BY l.key
"""


class Holder(Frozen):
    """Who holds a lock (or stands in line for it), since when (the database's time)."""

    key: str
    run_id: UUID
    title: str
    since: datetime


class LockRow(Holder):
    """A lock that is held, and who waits for it, first come first."""

    waiting: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class Locks:
    """Locks are held from the first step on a target to the end of the run."""

    db: Database

    async def acquire(self, lease: Lease, key: str) -> Holder | None:
        """Take a lock: None when this run has it now, otherwise who is before it.

        The run then stands in line and is told by a `lock_free` signal when its turn has come.
        A run that was told and goes to sleep without taking the lock gives its turn to the next.
        Raises `LeaseLost`.
        """
        found = await self.db.insist(
            ACQUIRE, {"run": lease.run_id, "fence": lease.fence, "key": key}
        )
        return None if found is None else Holder.model_validate(found)

    async def list(self) -> list[LockRow]:
        """All locks that are held."""
        return await self.db.models(LockRow, LIST)

    async def unlock(self, key: str, principal: str, reason: str) -> UUID | None:
        """Take a lock away from its run; the run's id, or None when nobody held it.

        Kept with name and reason in `lock_removals`. The next in line is told.
        """
        found: UUID | None = await self.db.insist(
            UNLOCK, {"key": key, "principal": text(principal), "reason": text(reason)}
        )
        return found
