"""A process that has everything imported and forks a worker for each order it reads.

An order is one JSON line on stdin, see `Order`. What becomes of the workers is told on stdout, one
JSON line each: `{"ready": PID}` once its house is open, `{"ended": PID, "code": N}` (negative: the
signal). When stdin ends, the workers that are left are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import server
from graph.run import Engine, Passed
from nodes.passage import Probe
from policy.redaction.engine import compiled
from settings import Settings
from web.logs import set_up_logging
from web.redacting import read_rules

VERSION: ContextVar[str] = ContextVar("VERSION", default="")
"""What the run releases that the code is working on: a probe point alone does not say which run."""


@dataclass(frozen=True)
class Order:
    """What kind of worker is wanted.

    `env`: settings. `log`: file for its stderr. `held`: open the house, then wait for SIGUSR1.
    One of `kill_new` (SIGKILL at the first point that the file does not name yet, after naming it
    there), `at` (SIGKILL, SIGSTOP or an ERROR, `how`, at the point that the file names for the
    run's version, after taking it out), `record` (write each point down). `only`: at points of this
    version's run alone; recorded without it, each point comes after its run's version.
    """

    env: dict[str, str]
    log: str
    lease: float
    concurrency: int = 4
    held: bool = False
    kill_new: str = ""
    at: str = ""
    how: str = "SIGKILL"
    record: str = ""
    only: str = ""


@dataclass(frozen=True)
class KillAtNew:
    """SIGKILL at the first point that has not been a killing point yet."""

    file: Path
    only: str
    _seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.file.exists():
            self._seen.update(self.file.read_text(encoding="utf-8").splitlines())

    def reached(self, point: str) -> None:
        if point in self._seen or VERSION.get() != self.only:
            return
        with self.file.open("a", encoding="utf-8") as out:
            out.write(point + "\n")
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class StrikeAt:
    """A signal to this very process, or an error, at the point that the file names, once.

    Several workers share the file; each line is `VERSION POINT`.
    """

    file: Path
    how: str

    def reached(self, point: str) -> None:
        wanted = f"{VERSION.get()} {point}\n"
        with locked(self.file) as lines:
            if wanted not in lines:
                return
            lines.remove(wanted)
        if self.how == "ERROR":
            raise RuntimeError(f"nobody has foreseen this at {point}")
        os.kill(os.getpid(), signal.Signals[self.how])


@dataclass(frozen=True)
class Record:
    """Write each point down; where it is for no run alone, after the version of its run."""

    file: Path
    only: str

    def reached(self, point: str) -> None:
        version = VERSION.get()
        if self.only and version != self.only:
            return
        with self.file.open("a", encoding="utf-8") as out:
            out.write(f"{point}\n" if self.only else f"{version} {point}\n")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[list[str]]:
    """The lines of a file, for one process at a time; written back when they have changed."""
    with file.open("r+", encoding="utf-8") as both:
        fcntl.flock(both, fcntl.LOCK_EX)
        lines = both.readlines()
        before = list(lines)
        yield lines
        if lines != before:
            both.seek(0)
            both.truncate()
            both.writelines(lines)


def struck_out(file: Path, version: str) -> list[str]:
    """The points at which a version's run has not been struck, which are taken out of the file."""
    start = f"{version} "
    with locked(file) as lines:
        left = [line for line in lines if line.startswith(start)]
        lines[:] = [line for line in lines if not line.startswith(start)]
    return [line.removeprefix(start).strip() for line in left]


@dataclass
class Marked(Engine):
    """The engine, which tells the probe what run it is at."""

    async def advance(self, run_id: UUID) -> Passed | None:
        run = await self.runs.get(run_id)
        assert run is not None
        VERSION.set(run.sha or "")
        return await super().advance(run_id)


def probe_of(order: Order) -> Probe | None:
    """The probe an order asks for."""
    if order.kill_new:
        return KillAtNew(Path(order.kill_new), order.only)
    if order.at:
        return StrikeAt(Path(order.at), order.how)
    if order.record:
        return Record(Path(order.record), order.only)
    return None


async def work(order: Order) -> None:
    """One worker until SIGTERM, or until its probe ends it."""
    go, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, go.set)
    async with server.open_house(Settings(), base_url="http://fermata.test", host=False) as house:
        tell({"ready": os.getpid()})
        if order.held:
            await go.wait()
        worker = await house.worker(order.concurrency, probe_of(order), order.lease)
        plain = worker.engine
        worker.engine = Marked(
            plain.graph, plain.leases, plain.runs, plain.clock, plain.worker_id, plain.probe
        )
        worker.advance = worker.engine.advance
        loop.add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()


def tell(what: dict[str, Any]) -> None:
    """One line to whoever gives the orders; short enough to be written in one piece."""
    os.write(1, json.dumps(what).encode() + b"\n")


def fork(order: Order) -> int:
    """Start a worker; its process id."""
    pid = os.fork()
    if pid:
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(order.env)
    code = 1
    try:
        set_up_logging("info")
        asyncio.run(work(order))
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Serve orders until stdin ends."""
    # About a second of work that every worker would do again.
    compiled(read_rules(None), None)
    server.settle_memory()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    workers: set[int] = set()
    rest = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if 0 in ready:
            told = os.read(0, 65_536)
            if not told:
                break
            *lines, rest = (rest + told).split(b"\n")
            for line in lines:
                pid = fork(Order(**json.loads(line)))
                workers.add(pid)
                tell({"started": pid})
        if woken in ready:
            os.read(woken, 4096)
        workers -= set(reaped())
    for pid in workers:
        os.kill(pid, signal.SIGKILL)


def reaped() -> Iterator[int]:
    """Workers that have ended, each told."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        tell({"ended": pid, "code": os.waitstatus_to_exitcode(status)})
        yield pid


if __name__ == "__main__":
    main()
