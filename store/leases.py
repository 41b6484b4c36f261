"""Leases: who may advance a run. All lease time is the database's own (`clock_timestamp()`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID, uuid4

import psycopg

from domain.run import RunState
from store.database import Connection, Database, text, translated
from store.records import Lease

REGISTER = """
INSERT INTO workers (id, name, ttl, until)
VALUES (%(id)s, %(name)s, make_interval(secs => %(ttl)s),
        clock_timestamp() + make_interval(secs => %(ttl)s))
"""
FORGET_OLD = """
DELETE FROM workers w WHERE until < clock_timestamp() - interval '1 day'
AND NOT EXISTS (SELECT FROM runs r WHERE r.worker_id = w.id)
"""
# `old` reads the row as it was before the beat.
HEARTBEAT = """
WITH old AS MATERIALIZED (
    SELECT robbed AND until < clock_timestamp() AS robbed FROM workers WHERE id = %(id)s),
beat AS (
    UPDATE workers SET until = clock_timestamp() + ttl, robbed = false
    WHERE id = %(id)s RETURNING id)
SELECT NOT old.robbed FROM old, beat
"""
DEREGISTER_RUNS = """
UPDATE runs SET worker_id = NULL, updated_at = clock_timestamp()
WHERE worker_id = %(id)s
"""
DEREGISTER = "DELETE FROM workers WHERE id = %(id)s"
TAKE = "SELECT fermata_take(%(run)s, %(worker)s, %(now)s)"
CHECK = "SELECT fermata_check(%(run)s, %(fence)s, %(worker)s)"
HOLD = "SELECT fermata_hold(%(run)s, %(fence)s)"
RELEASE = """
SELECT fermata_release(
    %(run)s, %(fence)s, %(worker)s, %(state)s, %(final)s, %(reason)s, %(step)s,
    %(due)s::timestamptz, %(seen)s, %(nodes)s::text[], %(times)s::timestamptz[])
"""
GIVE_UP = """
UPDATE runs SET worker_id = NULL
WHERE worker_id = %(worker)s AND id = ANY (%(runs)s)
"""


@dataclass
class Leases:
    """Registers workers and hands out runs to them, one worker a run.

    A lease holds while its worker's `until` lies ahead. Whoever takes a run over raises its
    fencing token, and every write that carries the old one is refused.
    """

    db: Database
    _names: dict[UUID, tuple[str, float]] = field(default_factory=dict)
    _in_doubt: set[tuple[UUID, UUID]] = field(default_factory=set)
    """(worker, run) pairs whose taking was cut off: the server may have granted the lease."""

    async def register(self, worker_name: str, ttl_seconds: float = 3.0) -> UUID:
        """Make a worker known. Without a heartbeat for `ttl_seconds` its runs may be taken over."""
        worker_id = uuid4()
        self._names[worker_id] = (text(worker_name), ttl_seconds)
        await self._register(worker_id)
        await self.db.count(FORGET_OLD)
        return worker_id

    async def heartbeat(self, worker_id: UUID) -> bool:
        """Extend the worker's leases by its TTL.

        False when it had been away for so long that others took runs of it over, or that it had
        been forgotten; it is known again afterwards and may go on taking runs.
        """
        fine = await self.db.value(HEARTBEAT, {"id": worker_id})
        if fine is None:
            if worker_id not in self._names:
                return False
            await self._register(worker_id)
        await self._settle_doubts(worker_id)
        return bool(fine)

    async def deregister(self, worker_id: UUID) -> None:
        """Give back whatever the worker still holds, and forget it."""
        # Runs before workers, as everywhere: the other order could deadlock with a take-over.
        async with self.db.transaction() as conn:
            await conn.execute(DEREGISTER_RUNS, {"id": worker_id})
            await conn.execute(DEREGISTER, {"id": worker_id})
        self._names.pop(worker_id, None)

    async def take(self, run_id: UUID, worker_id: UUID, now: datetime) -> Lease | None:
        """Take a run that is due; None when it is not, or is somebody else's, or is final.

        Due means: queued, woken by a signal, its timer (in the world's time, hence `now`) is up,
        or left behind by a worker that is gone.
        """
        doubt = (worker_id, run_id)
        try:
            lease = await self.db.model(
                Lease, TAKE, {"run": run_id, "worker": worker_id, "now": now}
            )
        except psycopg.Error:
            self._in_doubt.add(doubt)
            raise
        if lease is not None:
            self._in_doubt.discard(doubt)
        return lease

    async def check(self, lease: Lease) -> None:
        """Raise `LeaseLost` unless the run is still ours.

        A lease that ran out without being taken over is renewed: nobody else has acted on it.
        """
        await self.db.value(
            CHECK, {"run": lease.run_id, "fence": lease.fence, "worker": lease.worker_id}
        )

    async def release(
        self,
        lease: Lease,
        *,
        state: RunState,
        reason: str,
        step_id: str | None = None,
        due_at: datetime | None = None,
        seen_seq: int = 0,
        path: Sequence[tuple[str, datetime]] = (),
    ) -> bool:
        """Give the run back, asleep until `due_at` or a signal, or final.

        True when signals with a higher number than `seen_seq` are there, so that it has to be
        looked at again at once. `path` is appended to the nodes it has passed. A final state frees
        its locks (waking the next in line) and dismisses its pending approvals. Raises
        `LeaseLost` when it is no longer ours, and nothing is changed then.
        """
        return bool(
            await self.db.insist(
                RELEASE,
                {
                    "run": lease.run_id,
                    "fence": lease.fence,
                    "worker": lease.worker_id,
                    "state": state.value,
                    "final": state.is_final,
                    "reason": text(reason),
                    "step": step_id,
                    "due": due_at,
                    "seen": seen_seq,
                    "nodes": [node for node, _ in path],
                    "times": [at for _, at in path],
                },
            )
        )

    async def _register(self, worker_id: UUID) -> None:
        name, ttl = self._names[worker_id]
        await self.db.count(REGISTER, {"id": worker_id, "name": name, "ttl": ttl})

    async def _settle_doubts(self, worker_id: UUID) -> None:
        """Give up leases that were perhaps granted in an answer that never arrived.

        If one of them was taken by this very worker since, its passage ends with `LeaseLost` and
        the run is taken up again: safe, and rarer than rare.
        """
        mine = {doubt for doubt in self._in_doubt if doubt[0] == worker_id}
        if mine:
            await self.db.count(GIVE_UP, {"worker": worker_id, "runs": [run for _, run in mine]})
            self._in_doubt -= mine


async def hold(conn: Connection, lease: Lease) -> None:
    """Inside a transaction: keep the lease from being taken over until it ends.

    Raises `LeaseLost` when it already has been.
    """
    with translated():
        await conn.execute(HOLD, {"run": lease.run_id, "fence": lease.fence})
