"""A busy worker passes nobody over."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import UUID, uuid4

from domain.clock import SystemClock
from graph.run import Passed
from graph.worker import Worker


async def test_with_all_slots_taken_the_longest_due_comes_before_timers() -> None:
    release = asyncio.Event()
    begun: list[UUID] = []

    async def advance(run_id: UUID) -> Passed | None:
        begun.append(run_id)
        await release.wait()
        return None

    engine: Any = Mock(runs=Mock(due=AsyncMock(return_value=[])))
    engine.leases = AsyncMock()
    engine.orphans = {}
    hints: Any = Mock(run_worker=AsyncMock())
    worker = Worker(engine, hints, SystemClock(), advance, concurrency=1)
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    crowd = [uuid4() for _ in range(4)]
    for one in crowd:
        worker.start(one)
    late, oldest = uuid4(), uuid4()
    worker._due(late)  # its timer is up, and there is no room for it
    engine.runs.due = AsyncMock(side_effect=[[oldest], *([[]] * 100)])
    release.set()
    async with asyncio.timeout(10):
        while oldest not in begun:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert begun == [*crowd, oldest]
    worker.stop()
    with contextlib.suppress(asyncio.CancelledError):
        await task
