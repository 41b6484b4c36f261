"""Several processes that serve the web on one socket, and the process that looks after them.

That one does everything else: it is where runs are advanced, where the embedded database and the
simulated world live, and where a changed policy is announced. It serves no request itself, so that
a process that dies while it answers takes nothing else with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from ctypes import c_int
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import structlog

log = structlog.get_logger("fermata.web")

START_SECONDS = 120.0
"""How long a process may take until it serves."""
STOP_SECONDS = 15.0
"""How long it may take to finish its answers; then it is killed."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a process that died is started again: doubled each time."""
STEADY_SECONDS = 60.0
"""Whoever has lived that long is started again after the first pause."""

SERVING = b"serving"


class NoCrew(RuntimeError):
    """A process of the web did not come up."""


@dataclass(frozen=True)
class Berth:
    """What a process of the crew is given beside its work."""

    number: int
    """From 1."""
    of: int
    up: c_int
    """How many serve now. Written by whoever looks after the crew alone, and so without a lock: a
    process that is killed with a lock in its hands would hold up everything for good."""
    _line: Connection

    def is_serving(self) -> None:
        """Say so to whoever looks after the crew."""
        self._line.send_bytes(SERVING)

    def warnings(self) -> tuple[str, ...]:
        """What people should know about the crew."""
        up = self.up.value
        if up >= self.of:
            return ()
        return (f"{up} of {self.of} processes serve; the others are being started",)


Work = Callable[..., None]
"""Serves until it is told to stop; the last argument is its `Berth`. Has to be importable."""


@dataclass
class Crew:
    """`size` processes that do the same work on the same arguments."""

    work: Work
    arguments: tuple[Any, ...]
    size: int
    _processes: dict[int, SpawnProcess] = field(default_factory=dict)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """All of them, for the length of the block. Raises `NoCrew` when one cannot start."""
        self._context = multiprocessing.get_context("spawn")
        self._up = self._context.RawValue(c_int, 0)
        begun = [asyncio.get_running_loop().create_future() for _ in range(self.size)]
        keepers = [
            asyncio.create_task(self._keep(number, began), name=f"web-{number}")
            for number, began in enumerate(begun, 1)
        ]
        try:
            await asyncio.gather(*begun)
            yield
        finally:
            self._stopping.set()
            for process in self._processes.values():
                process.terminate()
            _, late = await asyncio.wait(keepers, timeout=STOP_SECONDS)
            for process in self._processes.values():
                process.kill()
            if late:
                log.warning("web processes did not end and were killed", count=len(late))
                await asyncio.wait(late)

    async def _keep(self, number: int, began: asyncio.Future[None]) -> None:
        """One process, started again whenever it dies."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            since = time.monotonic()
            try:
                served = await self._one(number, began)
            except OSError as error:
                log.error("a process of the web cannot be started", process=number, why=str(error))
                served = None
            if self._stopping.is_set():
                return
            if not began.done():
                began.set_exception(
                    NoCrew(f"process {number} of the web did not come up; its log is above")
                )
                return
            if time.monotonic() - since > STEADY_SECONDS:
                pause = FIRST_PAUSE
            log.error(
                "a process of the web died and is started again",
                process=number,
                exit=served,
                in_seconds=pause,
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _one(self, number: int, began: asyncio.Future[None]) -> int | None:
        """From its start to its end; its exit code (minus a signal's number)."""
        ours, theirs = self._context.Pipe(duplex=False)
        with ours:
            with theirs:  # closed on this side, so that the process's end is the end of the line
                berth = Berth(number, self.size, self._up, theirs)
                process = self._context.Process(
                    target=self.work, args=(*self.arguments, berth), name=f"fermata-web-{number}"
                )
                process.start()
            self._processes[number] = process
            try:
                if await _said(ours, START_SECONDS):
                    self._up.value += 1
                    if not began.done():
                        began.set_result(None)
                    try:
                        await _said(ours, None)
                    finally:
                        self._up.value -= 1
                else:
                    process.kill()
            finally:
                await asyncio.shield(asyncio.to_thread(process.join))
                del self._processes[number]
        return process.exitcode


async def _said(line: Connection, seconds: float | None) -> bool:
    """Wait for a word on the line; False when the other end is gone, or it takes too long."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(line.fileno(), readable.set)
    try:
        async with asyncio.timeout(seconds):
            await readable.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(line.fileno())
    try:
        return line.recv_bytes() == SERVING
    except EOFError:
        return False


def stops_with_parent(stop: Callable[[], None]) -> None:
    """In a process of the crew: call `stop` on SIGTERM, and when the parent is gone.

    Ctrl-C reaches all processes of a terminal: what it means is the parent's to say.
    """
    loop = asyncio.get_running_loop()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGTERM, stop)
    parent = multiprocessing.parent_process()
    assert parent is not None, "only for processes of a crew"
    sentinel = int(parent.sentinel)

    def orphaned() -> None:
        loop.remove_reader(sentinel)
        stop()

    loop.add_reader(sentinel, orphaned)


@contextlib.contextmanager
def counted_together() -> Iterator[None]:
    """Have processes count into one folder, so that each can tell `/metrics` of all.

    To be entered before `prometheus_client` is imported: it decides then how it counts.
    """
    with tempfile.TemporaryDirectory(prefix="fermata-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
