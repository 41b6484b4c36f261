"""(d) A hundred thousand waiting runs: what one of them costs when it is resumed, and in memory.

One real run waits for an approval; its copies (`bench/clones.py`) do, too. A worker process is
started, and a sample of them is told something, evenly spread. Half of them are put on hold:
resumed from the checkpoint, ruled on, put to sleep again. Half are rejected: resumed, ruled on,
notified about, reported, ended. The clock is the database's: from the signal's row to the row that
puts the run down.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import psutil  # type: ignore[import-untyped]
from psycopg.rows import TupleRow

from bench.clones import clone
from bench.figures import Figure, Section, Target, percentile
from bench.ground import READY, BenchError, Ground, Program
from bench.releasing import ask, until
from domain.approval import Vote
from domain.run import RunState
from policy.votes import judge_vote
from server import House
from store.signals import Signals
from surface import PromptVotes

FEW = 1_000
MANY = 100_000
SAMPLE = 300
WARM_UP = 30
RATE = 5.0
"""Signals a second. One costs some 45 ms of CPU, of worker and PostgreSQL together: at 15 a second,
on cores that were shared with others, it was the queue in front of them that was measured."""
CONCURRENCY = "20"
LONGEST_SECONDS = 60.0
POLL_SECONDS = 0.1

ASKED = """
SELECT a.id, a.run_id, a.digest FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.state = 'pending' AND r.state = 'needs_approval' AND a.run_id <> %s
"""
LATENCIES = """
SELECT s.kind, r.state, extract(epoch FROM r.updated_at - s.at)::float8
FROM runs r JOIN signals s ON s.run_id = r.id AND s.seq = 1
WHERE r.id = ANY (%s) AND r.seen_seq > 0 AND r.worker_id IS NULL
"""
"""`seen_seq` is written by whoever puts the run down; nobody else updates it afterwards."""
ENDINGS = {"hold": "waiting", "vote": "denied"}


@dataclass(frozen=True)
class Taken:
    """What one sample showed. Latencies in seconds, memory in bytes."""

    held: list[float]
    ended: list[float]
    memory: int

    def __str__(self) -> str:
        return f"held {_ms(self.held)}, ended {_ms(self.ended)}, {self.memory / 2**20:.0f} MB"


async def measure(ground: Ground, tell: Callable[[str], None]) -> Section:
    """Run the benchmark."""
    began = time.perf_counter()
    url, data = await ground.database("waiting"), ground.data("waiting")
    async with ground.house(url, data) as house:
        # Policy wants a person to approve what goes to production.
        run_id = await ask(house, "prod")
        worker = await _worker(ground, url, data)
        await until(house, run_id, lambda run: run.state is RunState.NEEDS_APPROVAL, "ask")
        await worker.stop()
        await clone(url, run_id, 1, FEW)
        few = await _sample(ground, house, run_id, url, data)
        tell(f"{FEW:,} waiting: {few}")
        cloning = time.perf_counter()
        await clone(url, run_id, FEW + 1, MANY)
        tell(f"copied in {time.perf_counter() - cloning:.0f} s")
        many = await _sample(ground, house, run_id, url, data)
        tell(f"{MANY:,} waiting: {many}")
    return Section(
        f"(d) {MANY:,} waiting runs, {RATE:.0f} signals a second",
        (
            Figure(
                "p95 from the signal to the run being put down again",
                percentile(many.held, 0.95) * 1000,
                "ms",
                Target("at most", 100.0),
                f"{_ms(many.held)}; with {FEW:,}: {_ms(few.held)}",
            ),
            Figure(
                "p95 from a rejecting vote to the run's end",
                percentile(many.ended, 0.95) * 1000,
                "ms",
                detail=f"{_ms(many.ended)}; with {FEW:,}: {_ms(few.ended)}",
            ),
            Figure(
                f"memory of the worker, against {FEW:,}",
                many.memory / few.memory,
                "x",
                Target("at most", 1.1),
                f"{many.memory / 2**20:.0f} MB against {few.memory / 2**20:.0f} MB",
            ),
        ),
        time.perf_counter() - began,
    )


def _ms(latencies: list[float]) -> str:
    half, most = (percentile(latencies, share) * 1000 for share in (0.5, 0.95))
    return f"p50 {half:.0f} ms, p95 {most:.0f} ms"


async def _worker(ground: Ground, url: str, data: Path) -> Program:
    worker = await ground.program(
        f"waiting-worker-{uuid4().hex[:6]}",
        *("cli", "worker", "--workers", CONCURRENCY),
        settings={"DATABASE_URL": url, "FERMATA_DATA": str(data), "FERMATA_LOG": "info"},
    )
    await worker.until_said(READY)
    return worker


async def _sample(ground: Ground, house: House, original: UUID, url: str, data: Path) -> Taken:
    """Wake some runs for a worker of their own; each sample does the same amount of work."""
    worker = await _worker(ground, url, data)
    asked = await house.books.database.rows(ASKED, (original,))
    chosen = random.Random(len(asked)).sample(asked, WARM_UP + SAMPLE)
    await _wake(house, chosen[:WARM_UP])
    took = await _wake(house, chosen[WARM_UP:])
    memory = psutil.Process(worker.pid).memory_info().rss
    await worker.stop()
    return Taken(took["hold"], took["vote"], memory)


async def _wake(house: House, chosen: Sequence[TupleRow]) -> dict[str, list[float]]:
    """Hold and reject in turn at the given rate; seconds until each was put down, by kind."""
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, (approval_id, run_id, digest) in enumerate(chosen):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            told = _reject(house, approval_id, digest) if number % 2 else _hold(house, run_id)
            group.create_task(told)
    return await _put_down(house, [run_id for _, run_id, _ in chosen])


async def _hold(house: House, run_id: UUID) -> None:
    """What `/hold` comes to once it is understood."""
    signals = Signals(house.books.database)
    await signals.send(run_id, "hold", {"author": "grace", "authorised": True})
    await house.hints.enqueue(run_id)


async def _reject(house: House, approval_id: UUID, digest: str) -> None:
    """A vote as the API casts it."""
    vote = Vote(
        principal="grace",
        roles=("release-manager",),
        decision="reject",
        comment="not today",
        via="api",
        at=house.clock.now(),
    )
    votes = PromptVotes(house.books.approvals, house.hints)
    _, refusal = await votes.vote(
        approval_id,
        vote,
        digest,
        lambda asked, said, named: judge_vote(asked, said, named, said.at),
    )
    if refusal is not None:
        raise BenchError(f"a vote was refused: {refusal}")


async def _put_down(house: House, run_ids: list[UUID]) -> dict[str, list[float]]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while len(rows := await house.books.database.rows(LATENCIES, (run_ids,))) < len(run_ids):
        if time.monotonic() > deadline:
            raise BenchError(f"only {len(rows)} of {len(run_ids)} runs were put down again")
        await asyncio.sleep(POLL_SECONDS)
    found: dict[str, list[float]] = {kind: [] for kind in ENDINGS}
    for kind, state, took in rows:
        if ENDINGS[kind] != state:
            raise BenchError(f"a run that was told {kind} is {state}, not {ENDINGS[kind]}")
        found[kind].append(float(took))
    return found
