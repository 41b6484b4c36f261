"""Worker processes under the test's command: started fast, watched, stopped, killed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from tests.chaos.zygote import Order

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0


class Worker:
    """One worker process. `code` is how it ended: negative for the signal that killed it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.ready = asyncio.Event()
        self.ended = asyncio.Event()

    def send(self, what: signal.Signals) -> None:
        """Send it a signal, unless it has ended (of which the word may still be on its way)."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, what)

    @property
    def is_stopped(self) -> bool:
        """Whether it is held by SIGSTOP."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    async def gone(self, seconds: float = 90.0) -> int:
        """Wait until it has ended; how. Raises TimeoutError."""
        await asyncio.wait_for(self.ended.wait(), seconds)
        assert self.code is not None
        return self.code


class Zygote:
    """The process that workers are forked from, so that each starts without importing anything."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._starting: deque[asyncio.Future[Worker]] = deque()
        self._workers: dict[int, Worker] = {}
        self._reader: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start it."""
        # The settings of whoever runs the tests are no business of theirs.
        env = {k: os.environ[k] for k in ("PATH", "HOME", "LANG", "TMPDIR") if k in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "ignore", "-m", "tests.chaos.zygote",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env=env,
        )  # fmt: skip
        self._reader = asyncio.create_task(self._read())

    async def close(self) -> None:
        """End it; it kills the workers that are left."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._reader is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 90)
        await self._reader

    async def start(self, order: Order) -> Worker:
        """Fork a worker; returns once its house is open, or once it has ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        started: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        self._starting.append(started)
        self._process.stdin.write(json.dumps(dataclasses.asdict(order)).encode() + b"\n")
        worker = await asyncio.wait_for(started, START_SECONDS)
        await asyncio.wait_for(worker.ready.wait(), START_SECONDS)
        return worker

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if "started" in told:
                self._starting.popleft().set_result(self._of(told["started"]))
            elif "ready" in told:
                self._of(told["ready"]).ready.set()
            else:
                worker = self._workers.pop(told["ended"])
                worker.code = told["code"]
                worker.ready.set()
                worker.ended.set()

    def _of(self, pid: int) -> Worker:
        # The worker's own word may come before the zygote's.
        return self._workers.setdefault(pid, Worker(pid))


@contextlib.asynccontextmanager
async def crew(
    zygote: Zygote, order: Order, bury: Callable[[int], Awaitable[None]], count: int
) -> AsyncIterator[Callable[[], None]]:
    """So many workers, each replaced as soon as it has been killed, after `bury` was called with
    its process id; gives what fails when one ended otherwise."""

    async def place() -> None:
        while True:
            worker = await zygote.start(order)
            at_work.add(worker)
            await worker.ended.wait()
            at_work.discard(worker)
            assert worker.code == -signal.SIGKILL, f"a worker ended with {worker.code}"
            await bury(worker.pid)

    at_work: set[Worker] = set()
    places = [asyncio.create_task(place()) for _ in range(count)]

    def check() -> None:
        for one in places:
            if one.done():
                one.result()

    try:
        yield check
    finally:
        for task in places:
            task.cancel()
        await asyncio.gather(*places, return_exceptions=True)
        for worker in at_work:
            worker.send(signal.SIGKILL)
