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
# A run that is neither asleep nor in anybody's hands, for longer than a hand-over takes.
HOLDER = """
SELECT json_build_object(
    'key', l.key, 'run_id', l.run_id, 'title', r.title, 'since', l.since,
    'alive', r.finished_at IS NULL AND (
        r.state IN ('waiting', 'needs_approval')
        OR EXISTS (SELECT FROM workers w WHERE w.id = r.worker_id AND w.until > clock_timestamp())
        OR r.updated_at > clock_timestamp() - make_interval(secs => %(grace)s)))
FROM locks l JOIN runs r ON r.id = l.run_id WHERE l.key = %(key)s
"""
GRACE_SECONDS = 120.0
"""How long a run may lie about before it counts as dead. Takeovers need seconds."""
UNLOCK_OF = """
SELECT fermata_unlock_of(%(key)s, %(run)s, %(principal)s, %(reason)s)
"""
GIVE = "SELECT fermata_give(%(run)s, %(fence)s, %(key)s)"
NEXT = """
SELECT json_build_object('key', q.key, 'run_id', q.run_id, 'title', r.title, 'since', q.at)
FROM lock_queue q JOIN runs r ON r.id = q.run_id
WHERE q.key = %(key)s AND r.finished_at IS NULL ORDER BY q.seq LIMIT 1
"""
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


class Ahead(Holder):
    """Who has a lock that a run wants."""

    joined: bool = False
    """Whether the run has only now begun to stand in line."""
    ahead: int = 0
    """How many stand in line before it."""


class Held(Holder):
    """A lock with what is to be known before it is taken away."""

    alive: bool
    """Whether the run is under way: it sleeps until something, or a worker that lives has it."""


class LockRow(Holder):
    """A lock that is held, and who waits for it, first come first."""

    waiting: tuple[Holder, ...] = ()


@dataclass(frozen=True)
class Locks:
    """Locks are held from the first step on a target to the end of the run."""

    db: Database

    async def acquire(self, lease: Lease, key: str) -> Ahead | None:
        """Take a lock: None when this run has it now, otherwise who is before it.

        The run then stands in line and is told by a `lock_free` signal when its turn has come.
        A run that was told and goes to sleep without taking the lock gives its turn to the next.
        Raises `LeaseLost`.
        """
        found = await self.db.insist(
            ACQUIRE, {"run": lease.run_id, "fence": lease.fence, "key": key}
        )
        return None if found is None else Ahead.model_validate(found)

    async def give(self, lease: Lease, key: str) -> bool:
        """Let the next in line have a lock before the run's end; False when it was not held.

        Raises `LeaseLost`.
        """
        params = {"run": lease.run_id, "fence": lease.fence, "key": key}
        return bool(await self.db.insist(GIVE, params))

    async def next_in_line(self, key: str) -> Holder | None:
        """Who waits for a lock, first come first; None when nobody does."""
        return await self.db.model(Holder, NEXT, {"key": key})

    async def list(self) -> list[LockRow]:
        """All locks that are held."""
        return await self.db.models(LockRow, LIST)

    async def holder(self, key: str) -> Held | None:
        """Who holds a lock now, and whether that run is alive; None when it is free."""
        return await self.db.model(Held, HOLDER, {"key": key, "grace": GRACE_SECONDS})

    async def unlock(
        self, key: str, principal: str, reason: str, holder: UUID | None = None
    ) -> UUID | None:
        """Take a lock away from its run; the run's id, or None when nobody held it.

        With `holder`, from that run only. Kept with name and reason in `lock_removals`. The next
        in line is told.
        """
        params = {"key": key, "principal": text(principal), "reason": text(reason)}
        if holder is None:
            found: UUID | None = await self.db.insist(UNLOCK, params)
        else:
            found = await self.db.insist(UNLOCK_OF, {**params, "run": holder})
        return found
