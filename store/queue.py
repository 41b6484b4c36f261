"""Hints: "advance run X", through saq on PostgreSQL or Redis. Losing them all loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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


class Hints:
    """Sends and receives hints. Whatever is wrong with the queue is logged and never raised."""

    def __init__(self, queue: Queue, kind: str) -> None:
        self._queue = queue
        self._connected = False
        self._pending: dict[UUID, asyncio.Future[bool]] = {}
        self._sending = False
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
        """Disconnect."""
        pool = getattr(self._queue, "pool", None)
        try:
            await self._queue.disconnect()
        except BROKEN as error:
            log.info("queue was gone before it was closed", error=str(error))
        if isinstance(pool, AsyncConnectionPool):
            await pool.close()
        self._connected = False

    async def enqueue(self, run_id: UUID) -> bool:
        """Hint that a run wants advancing; hints that come while one is being sent go together.

        False when the queue could not take it: the sweeper finds the run in PostgreSQL.
        """
        sent = self._pending.get(run_id)
        if sent is None:
            sent = self._pending[run_id] = asyncio.get_running_loop().create_future()
            if not self._sending:
                self._sending = True
                self._sender = asyncio.create_task(self._send_pending(), name="fermata-hints")
        return await asyncio.shield(sent)

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

    async def _send_pending(self) -> None:
        together: dict[UUID, asyncio.Future[bool]] = {}
        try:
            while self._pending:
                for run_id in list(self._pending)[:MOST_TOGETHER]:
                    together[run_id] = self._pending.pop(run_id)
                done = await self._send(list(together))
                for sent in together.values():
                    sent.set_result(done)
                together.clear()
        finally:
            # Nothing is awaited since the last look at what is pending.
            self._sending = False
            for sent in together.values():
                sent.cancel()

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
