"""Hints: delivered when they can be, and never in anybody's way when they cannot."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from store import embedded, migrate
from store.database import Database
from store.queue import (
    FEW_TOGETHER,
    LONGEST_PAUSE_SECONDS,
    MOST_TOGETHER,
    PAUSE_SECONDS,
    Hints,
    _pause_after,
)


@pytest.fixture(scope="session")
def redis_url(program: Callable[[str], str]) -> Iterator[str]:
    """A redis-server of the tests' own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [program("redis-server"), "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    yield f"redis://127.0.0.1:{port}"
    server.kill()
    server.wait()


@pytest_asyncio.fixture(params=["postgresql", "redis"], loop_scope="session")
async def hints(
    request: pytest.FixtureRequest, new_database: Callable[[], str]
) -> AsyncIterator[Hints]:
    """Hints over each kind of queue."""
    if request.param == "redis":
        url = request.getfixturevalue("redis_url")
    else:
        url = new_database()
        db = await Database.open(url, min_size=1, max_size=2)
        await migrate.apply(db)
        await db.close()
    opened = await Hints.open(url)
    async with asyncio.timeout(30):
        while not await opened.healthy():
            await opened.enqueue(uuid4())
    yield opened
    await opened.close()


class Heard:
    """Collects hints."""

    def __init__(self) -> None:
        self.runs: list[UUID] = []
        self.news = asyncio.Condition()

    async def __call__(self, run_id: UUID) -> None:
        async with self.news:
            self.runs.append(run_id)
            self.news.notify_all()

    async def wait_for(self, run_id: UUID) -> None:
        async with asyncio.timeout(30), self.news:
            await self.news.wait_for(lambda: run_id in self.runs)


async def test_hints_arrive_and_the_same_one_waits_only_once(hints: Hints) -> None:
    runs = [uuid4() for _ in range(20)]
    for run in (*runs, *runs):
        assert await hints.enqueue(run)
    heard = Heard()
    worker = asyncio.create_task(hints.run_worker(heard, concurrency=5))
    for run in runs:
        await heard.wait_for(run)
    late = uuid4()
    await hints.enqueue(late)
    await heard.wait_for(late)
    assert sorted(run for run in heard.runs if run in runs) == sorted(runs)
    heard.runs.clear()
    # saq's own sweep may take one that is just being dequeued for stuck, and then refuses its key
    # for five seconds; in the house the next hint or the sweeper makes up for it
    async with asyncio.timeout(30):
        while runs[0] not in heard.runs:
            await hints.enqueue(runs[0])
            await asyncio.sleep(0.1)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


async def test_a_handler_that_fails_does_not_stop_the_others(hints: Hints) -> None:
    bad, good, heard = uuid4(), uuid4(), Heard()

    async def handle(run_id: UUID) -> None:
        if run_id == bad:
            raise RuntimeError("no")
        await heard(run_id)

    worker = asyncio.create_task(hints.run_worker(handle, concurrency=1))
    await hints.enqueue(bad)
    async with asyncio.timeout(30):
        while good not in heard.runs:
            await hints.enqueue(good)
            await asyncio.sleep(0.1)
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "postgresql://nobody@127.0.0.1:1/none"])
async def test_a_queue_that_is_not_there_is_nobody_s_problem(url: str) -> None:
    hints = await Hints.open(url)
    assert not await hints.enqueue(uuid4())
    assert not await hints.healthy()
    worker = asyncio.create_task(hints.run_worker(Heard(), concurrency=2))
    done, _ = await asyncio.wait({worker}, timeout=1.5)
    assert not done
    worker.cancel()
    with pytest.raises(asyncio.CancelledError):
        await worker
    await hints.close()


async def test_hints_come_again_after_the_server_was_killed(data: Path) -> None:
    server = embedded.start(data)
    db = await Database.open(server.url, min_size=1, max_size=2)
    await migrate.apply(db)
    hints = await Hints.open(server.url)
    heard = Heard()
    worker = asyncio.create_task(hints.run_worker(heard, concurrency=2))
    before = uuid4()
    await hints.enqueue(before)
    await heard.wait_for(before)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    watching = asyncio.create_task(server.watch())
    after = uuid4()
    async with asyncio.timeout(60):
        while after not in heard.runs:
            await hints.enqueue(after)
            await asyncio.sleep(0.2)
    watching.cancel()
    worker.cancel()
    await asyncio.wait({worker, watching})
    await hints.close()
    await db.close()
    server.stop()


async def test_it_stops_when_it_is_told_to(hints: Hints) -> None:
    """Also in the middle of things, every time: a worker that hangs here never shuts down."""
    for _ in range(8):
        heard = Heard()
        worker = asyncio.create_task(hints.run_worker(heard, concurrency=4))
        one = uuid4()
        async with asyncio.timeout(30):
            while one not in heard.runs:
                await hints.enqueue(one)
                await asyncio.sleep(0.05)
            worker.cancel()
            await asyncio.wait({worker})
        assert worker.cancelled()


async def test_many_hints_at_once_travel_together(hints: Hints) -> None:
    runs = [uuid4() for _ in range(300)]
    assert all(await asyncio.gather(*(hints.enqueue(run) for run in runs * 2)))
    assert await hints.waiting() < 20
    heard = Heard()
    worker = asyncio.create_task(hints.run_worker(heard, concurrency=4))
    for run in runs:
        await heard.wait_for(run)
    worker.cancel()
    await asyncio.wait({worker})
    assert sorted(heard.runs) == sorted(runs)


def test_the_more_a_job_held_the_longer_the_next_one_gathers() -> None:
    assert _pause_after(1) == _pause_after(FEW_TOGETHER) == PAUSE_SECONDS
    assert _pause_after(2 * FEW_TOGETHER) == 2 * PAUSE_SECONDS
    assert _pause_after(MOST_TOGETHER) == LONGEST_PAUSE_SECONDS
