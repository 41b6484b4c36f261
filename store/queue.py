"""Hints: "advance run X", through saq on PostgreSQL or Redis. Losing them all loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg
import redis.exceptions
import structlog
from psycopg_pool import AsyncConnectionPool
from saq import Queue, Worker
from saq.queue.postgres import PostgresQueue

from store.database import check_url

log = structlog.get_logger("fermata.queue")

Handler = Callable[[UUID], Awaitable[None]]

NAME = "fermata"
TASK = "advance"
BROKEN = (psycopg.Error, redis.exceptions.RedisError, OSError, TimeoutError)
"""What a queue that is not there answers with."""
RESTART_SECONDS = 1.0
ENQUEUE_SECONDS = 2.0
"""A hint is not worth waiting longer for."""


class Hints:
    """Sends and receives hints. Whatever is wrong with the queue is logged and never raised."""

    def __init__(self, queue: Queue, kind: str) -> None:
        self._queue = queue
        self._connected = False
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
        """Hint that a run wants advancing; at most one such hint waits at a time.

        False when the queue could not take it: the sweeper finds the run in PostgreSQL.
        """
        try:
            async with asyncio.timeout(ENQUEUE_SECONDS):
                if not self._connected:
                    await self._queue.connect()
                    self._connected = True
                # ttl -1: nothing of a hint is kept once it was taken
                await self._queue.enqueue(
                    TASK, key=f"run:{run_id}", run_id=str(run_id), ttl=-1, retries=1, timeout=30
                )
        except BROKEN as error:
            log.warning("hint not sent; the sweeper will find the run", error=str(error))
            return False
        return True

    async def run_worker(self, handler: Handler, concurrency: int = 20) -> None:
        """Hand every hint to `handler` until cancelled; a queue that broke is joined again."""

        async def advance(_: Any, *, run_id: str) -> None:
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
                try:
                    await worker.start()
                except BROKEN as error:
                    log.warning("queue broke off; the sweeper goes on", error=str(error))
                # saq takes a cancellation for a wish to stop, and swallows it.
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

    async def _connect(self) -> bool:
        try:
            await self._queue.connect()
        except BROKEN as error:
            log.warning("queue is not there; the sweeper goes on", error=str(error))
            return False
        self._connected = True
        return True


class _Worker(Worker[Any]):
    """saq's worker; signals belong to the process that it runs in."""

    SIGNALS: list[Any] = []


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
        check=AsyncConnectionPool.check_connection,
    )
    return PostgresQueue(
        pool=pool, name=NAME, min_size=1, max_size=max_size, manage_pool_lifecycle=True
    )


async def _unflushed(conn: psycopg.AsyncConnection[Any]) -> None:
    await conn.execute("SELECT set_config('synchronous_commit', 'off', false)")
