"""Hints: "advance run X", through saq on PostgreSQL or Redis. Losing them all loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import psycopg
import redis.exceptions
import structlog
from psycopg_pool import AsyncConnectionPool
from saq import Queue, Worker
from saq.queue.postgres import PostgresQueue

from store.database import check_url, still_there

log = structlog.get_logger("fermata.queue")

Handler = Callable[[UUID], Awaitable[None]]

NAME = "fermata"
TASK = "advance"
BROKEN = (psycopg.Error, redis.exceptions.RedisError, OSError, TimeoutError)
"""What a queue that is not there answers with."""
RESTART_SECONDS = 1.0
ENQUEUE_SECONDS = 2.0
"""A hint is not worth waiting longer for."""
END_SECONDS, END_TRIES = 1.0, 3
MOST_TOGETHER = 200
"""Runs in one job: a job costs saq some ten round trips on PostgreSQL, whatever is in it."""
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.05
"""Between two jobs of one process, so that what comes thick and fast travels together: the longer,
the more the last job held."""
FEW_TOGETHER = 10
"""Runs in a job after which the pause is the shortest."""


@dataclass
class _Batch:
    """Hints that travel together, and whether they were sent."""

    sent: asyncio.Future[bool]
    run_ids: list[UUID] = field(default_factory=list)


class Hints:
    """Sends and receives hints. Whatever is wrong with the queue is logged and never raised."""

    def __init__(self, queue: Queue, kind: str) -> None:
        self._queue = queue
        self._connected = False
        self._pending: dict[UUID, _Batch] = {}
        """Hints that are not on their way yet, in the order in which they came."""
        self._open: _Batch | None = None
        """The batch that the next hint joins."""
        self._sender: asyncio.Task[None] | None = None
        self.kind = kind

    @classmethod
    async def open(cls, url: str, *, max_size: int = 4) -> Hints:
        """Connect to `redis://…`, `rediss://…` or PostgreSQL; an absent queue is only logged."""
        if url.startswith(("redis://", "rediss://")):
            hints = cls(Queue.from_url(url, name=NAME), "redis")
        else:
            check_url(url)
            hints = cls(_postgres(url, max_size), "postgresql")
        await hints._connect()
        return hints

    async def close(self) -> None:
        """Send what was noted, and disconnect."""
        if self._sender is not None:
            await asyncio.wait({self._sender})
        pool = getattr(self._queue, "pool", None)
        try:
            await self._queue.disconnect()
        except BROKEN as error:
            log.info("queue was gone before it was closed", error=str(error))
        if isinstance(pool, AsyncConnectionPool):
            await pool.close()
        self._connected = False

    def note(self, run_id: UUID) -> None:
        """Hint that a run wants advancing, and wait for nothing.

        Hints that come while one is being sent, or shortly after, go together.
        """
        self._join(run_id)

    async def enqueue(self, run_id: UUID) -> bool:
        """The same, and wait until it is sent.

        False when the queue could not take it: the sweeper finds the run in PostgreSQL.
        """
        return await asyncio.shield(self._join(run_id).sent)

    async def run_worker(self, handler: Handler, concurrency: int = 20) -> None:
        """Hand every hint to `handler` until cancelled; a queue that broke is joined again."""

        async def advance(_: Any, *, run_ids: list[str]) -> None:
            for run_id in run_ids:
                await handler(UUID(run_id))

        while True:
            if await self._connect():
                worker = _Worker(
                    self._queue,
                    functions=[(TASK, advance)],
                    concurrency=concurrency,
                    dequeue_timeout=5.0,
                    timers={"schedule": 5, "sweep": 60, "abort": 30, "worker_info": 30},
                )
                started = asyncio.create_task(worker.start(), name="fermata-saq")
                try:
                    await asyncio.shield(started)
                except BROKEN as error:
                    log.warning("queue broke off; the sweeper goes on", error=str(error))
                finally:
                    await _ended(started)
            # Connecting may lose a cancellation that comes in the middle of a database call.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
            await asyncio.sleep(RESTART_SECONDS)

    async def healthy(self) -> bool:
        """Whether the queue answers."""
        try:
            async with asyncio.timeout(ENQUEUE_SECONDS):
                await self._queue.count("queued")
        except BROKEN:
            return False
        return True

    async def waiting(self) -> int:
        """How many hints wait; raises what the queue raises."""
        return int(await self._queue.count("queued"))

    def _join(self, run_id: UUID) -> _Batch:
        batch = self._pending.get(run_id)
        if batch is not None:
            return batch
        batch = self._open
        if batch is None or len(batch.run_ids) >= MOST_TOGETHER:
            batch = self._open = _Batch(asyncio.get_running_loop().create_future())
        batch.run_ids.append(run_id)
        self._pending[run_id] = batch
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_pending(), name="fermata-hints")
        return batch

    async def _send_pending(self) -> None:
        while self._pending:
            batch = next(iter(self._pending.values()))
            for run_id in batch.run_ids:
                del self._pending[run_id]
            if batch is self._open:
                self._open = None
            try:
                batch.sent.set_result(await self._send(batch.run_ids))
            finally:
                batch.sent.cancel()
            await asyncio.sleep(_pause_after(len(batch.run_ids)))

    async def _send(self, run_ids: list[UUID]) -> bool:
        try:
            async with asyncio.timeout(ENQUEUE_SECONDS):
                if not self._connected:
                    await self._queue.connect()
                    self._connected = True
                # One run's hint waits at most once; ttl -1: nothing is kept once it was taken.
                await self._queue.enqueue(
                    TASK,
                    key=f"run:{run_ids[0]}" if len(run_ids) == 1 else f"runs:{uuid4()}",
                    run_ids=[str(one) for one in run_ids],
                    ttl=-1,
                    retries=1,
                    timeout=30,
                )
        except BROKEN as error:
            log.warning("hint not sent; the sweeper will find the run", error=str(error))
            return False
        return True

    async def _connect(self) -> bool:
        try:
            await self._queue.connect()
        except BROKEN as error:
            log.warning("queue is not there; the sweeper goes on", error=str(error))
            return False
        self._connected = True
        return True


def _pause_after(count: int) -> float:
    """Seconds until the next job, when the last one held that many runs."""
    return min(PAUSE_SECONDS * max(1.0, count / FEW_TOGETHER), LONGEST_PAUSE_SECONDS)


class _Queue(PostgresQueue):
    """saq's queue; its tables are the migrations' business, and the service may create none."""

    async def init_db(self) -> None:
        async with self.pool.connection() as conn:
            found = await (await conn.execute("SELECT to_regclass('saq_versions')")).fetchone()
        if found is None or found[0] is None:
            await super().init_db()


class _Worker(Worker[Any]):
    """saq's worker; signals belong to the process that it runs in."""

    SIGNALS: list[Any] = []


async def _ended(task: asyncio.Task[None]) -> None:
    """End saq's worker. It swallows the first cancellation and waits for its upkeep, which may have
    lost its own in a database call and sleep on for a minute; the next one ends that waiting."""
    for _ in range(END_TRIES):
        if task.done():
            break
        task.cancel()
        await asyncio.wait({task}, timeout=END_SECONDS)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        log.info("queue was gone before its worker had ended", error=str(error))


def _postgres(url: str, max_size: int) -> Queue:
    # Hints may be lost, so they need not wait for the disk: commits of this pool are not flushed.
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        url,
        kwargs={"autocommit": True, "application_name": "fermata-queue", "connect_timeout": 5},
        configure=_unflushed,
        min_size=1,
        max_size=max_size,
        open=False,
        timeout=ENQUEUE_SECONDS,
        check=still_there,
    )
    return _Queue(pool=pool, name=NAME, min_size=1, max_size=max_size, manage_pool_lifecycle=True)


async def _unflushed(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("SELECT set_config('synchronous_commit', 'off', false)")
