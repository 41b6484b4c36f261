"""A worker: keeps its lease alive, sweeps for what is due, and advances runs until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import psycopg
import structlog

from domain.clock import Clock
from graph.run import Engine, Passed
from store.queue import Hints

log = structlog.get_logger("fermata.worker")

LEASE_SECONDS = 3.0
"""Without a heartbeat for so long a worker's runs are free for others."""
BEATS_A_LEASE = 3
SWEEP_SECONDS = 0.5
SWEEP_BATCH = 200
SHORT_TIMER_SECONDS = 30.0
"""Timers shorter than this are also kept in the process; longer ones are the sweeper's alone."""
HINT_READERS = 2
"""Taking a hint only starts a task, so two readers keep up with any number of runs."""
MOST_SHORT_TIMERS = 5_000
LONGEST_DRAIN_SECONDS = 25.0


Advance = Callable[[UUID], Awaitable[Passed | None]]


@dataclass
class Worker:
    """Runs `Engine.advance` for whatever the queue hints at or the sweeper finds due.

    The queue is only a hint: everything it holds can be lost, and the sweeper still finds each
    run in PostgreSQL.
    """

    engine: Engine
    hints: Hints
    clock: Clock
    advance: Advance
    """`Engine.advance`, or a wrapper that measures it."""
    concurrency: int = 20
    lease_seconds: float = LEASE_SECONDS
    """The TTL this worker was registered with; it beats three times as often."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: set[UUID] = field(default_factory=set)
    _timers: dict[UUID, asyncio.TimerHandle] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def run(self) -> None:
        """Work until `stop`; then drain: passages stop at their next superstep, leases go back."""
        self._slots = asyncio.Semaphore(self.concurrency)
        beat = asyncio.create_task(self._beat(), name="fermata-beat")
        sweep = asyncio.create_task(self._sweep(), name="fermata-sweep")
        queue = asyncio.create_task(
            self.hints.run_worker(self._hinted, concurrency=HINT_READERS), name="fermata-queue"
        )
        try:
            await self._stopping.wait()
        finally:
            for timer in self._timers.values():
                timer.cancel()
            sweep.cancel()
            queue.cancel()
            await self._drain()
            beat.cancel()
            for task in (beat, sweep, queue):
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            with contextlib.suppress(psycopg.Error):
                await self.engine.leases.deregister(self.engine.worker_id)

    def stop(self) -> None:
        """Begin a graceful stop."""
        self._stopping.set()

    async def _drain(self) -> None:
        self.engine.drain()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LONGEST_DRAIN_SECONDS)
            for task in late:
                task.cancel()
            if late:
                log.warning(
                    "passages did not stop in time; their leases will run out", count=len(late)
                )

    async def _hinted(self, run_id: UUID) -> None:
        if self._room > 0:
            self.start(run_id)

    @property
    def _room(self) -> int:
        """How many more runs may be begun. Without room, hints and timers are dropped on purpose:
        the sweeper finds the runs again, the longest due first, and so none is passed over for
        as long as others keep this worker busy."""
        return self.concurrency * 4 - len(self._busy)

    def start(self, run_id: UUID) -> None:
        """Advance a run in the background unless this worker is at it already."""
        if run_id in self._busy or self._stopping.is_set():
            return
        self._busy.add(run_id)
        task = asyncio.create_task(self._advance(run_id), name=f"advance-{run_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _advance(self, run_id: UUID) -> None:
        try:
            async with self._slots:
                timer = self._timers.pop(run_id, None)
                if timer is not None:
                    timer.cancel()
                passed = await self.advance(run_id)
        except psycopg.Error as error:
            log.warning("database did not answer; the sweeper comes back to it", error=str(error))
            return
        finally:
            self._busy.discard(run_id)
        if passed is not None:
            self._follow_up(passed)

    def _follow_up(self, passed: Passed) -> None:
        """Look again at once when news came meanwhile, or when a short timer is due."""
        if passed.state.is_final or self._stopping.is_set():
            return
        loop = asyncio.get_running_loop()
        if passed.again:
            loop.call_soon(self.start, passed.run_id)
        elif passed.due_at is not None and len(self._timers) < MOST_SHORT_TIMERS:
            seconds = (passed.due_at - self.clock.now()).total_seconds() / self.clock.speed
            if seconds <= SHORT_TIMER_SECONDS:
                self._timers[passed.run_id] = loop.call_later(
                    max(0.0, seconds) + 0.005, self._due, passed.run_id
                )

    def _due(self, run_id: UUID) -> None:
        self._timers.pop(run_id, None)
        if self._room > 0:
            self.start(run_id)

    async def _beat(self) -> None:
        """Say that this worker lives. When it cannot, others take its runs after the TTL."""
        me = asyncio.current_task()
        # Before Python 3.12 a connection pool may swallow the cancellation (asyncio.wait_for).
        while me is None or not me.cancelling():
            try:
                await self.engine.leases.heartbeat(self.engine.worker_id)
                if self.engine.orphans:
                    await self.engine.give_back_orphans()
            except psycopg.Error as error:
                log.warning("no heartbeat: database did not answer", error=str(error))
            await asyncio.sleep(self.lease_seconds / BEATS_A_LEASE)

    async def _sweep(self) -> None:
        """Find in PostgreSQL what is due, whatever became of the hints."""
        while not self._stopping.is_set():
            try:
                if self._room > 0:
                    for run_id in await self.engine.runs.due(
                        self.clock.now(), min(self._room, SWEEP_BATCH)
                    ):
                        self.start(run_id)
            except psycopg.Error as error:
                log.warning("sweep failed: database did not answer", error=str(error))
            await asyncio.sleep(SWEEP_SECONDS)
