"""(d) A hundred thousand waiting runs: what one of them costs when it is resumed, and in memory.

One real run waits for an approval; its copies (`bench/clones.py`) do, too. A worker process is
started, a sample of them is voted on, evenly spread, and each goes all the way to its end: resumed
from its checkpoint, ruled on, reported. The clock is the database's: from the vote's row to the row
that puts the run down.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import psutil

from bench.clones import clone
from bench.figures import Figure, Section, Target, percentile
from bench.ground import READY, BenchError, Ground, Program
from domain.approval import Vote
from domain.event import Actor, Command, Commanded, CommandName, Event
from domain.run import RunState
from policy.votes import judge_vote
from server import House
from surface import PromptVotes
from web.correlate import correlate

FEW = 1_000
MANY = 100_000
SAMPLE = 300
WARM_UP = 30
RATE = 20.0
"""Votes a second."""
CONCURRENCY = "20"
LONGEST_SECONDS = 60.0
POLL_SECONDS = 0.1

ASKED = """
SELECT a.id, a.run_id, a.digest FROM approvals a JOIN runs r ON r.id = a.run_id
WHERE a.state = 'pending' AND r.state = 'needs_approval' AND a.run_id <> %s
"""
LATENCIES = """
SELECT r.state, extract(epoch FROM r.finished_at - s.at)::float8
FROM runs r JOIN signals s ON s.run_id = r.id AND s.kind = 'vote' WHERE r.id = ANY (%s)
"""


@dataclass(frozen=True)
class Taken:
    """What one sample showed. Latencies in seconds, memory in bytes."""

    latencies: list[float]
    memory: int


async def measure(ground: Ground, tell: Callable[[str], None]) -> Section:
    """Run the benchmark."""
    began = time.perf_counter()
    url, data = await ground.database("waiting"), ground.data("waiting")
    async with ground.house(url, data) as house:
        run_id = await _ask(house)
        worker = await _worker(ground, url, data)
        await _until_asked(house, run_id)
        await worker.stop()
        await clone(url, run_id, 1, FEW)
        few = await _sample(ground, house, run_id, url, data)
        tell(_said(FEW, few))
        cloning = time.perf_counter()
        await clone(url, run_id, FEW + 1, MANY)
        tell(f"copied in {time.perf_counter() - cloning:.0f} s")
        many = await _sample(ground, house, run_id, url, data)
        tell(_said(MANY, many))
    return Section(
        f"(d) {MANY:,} waiting runs, {RATE:.0f} votes a second",
        (
            Figure(
                "p95 from the vote to the run's end",
                percentile(many.latencies, 0.95) * 1000,
                "ms",
                Target("at most", 100.0),
                f"p50 {percentile(many.latencies, 0.5) * 1000:.0f} ms; with {FEW:,}: p50 "
                f"{percentile(few.latencies, 0.5) * 1000:.0f} ms, p95 "
                f"{percentile(few.latencies, 0.95) * 1000:.0f} ms; {SAMPLE} runs each",
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


def _said(runs: int, taken: Taken) -> str:
    return (
        f"{runs:,} waiting: p50 {percentile(taken.latencies, 0.5) * 1000:.0f} ms, "
        f"p95 {percentile(taken.latencies, 0.95) * 1000:.0f} ms, {taken.memory / 2**20:.0f} MB"
    )


async def _ask(house: House) -> UUID:
    """Ask for a release to production, which policy wants a person to approve."""
    key = uuid4().hex
    event = Event(
        id=uuid4(),
        source="api",
        delivery_id=key,
        body_digest=key * 2,
        received_at=house.clock.now(),
        body=Commanded(
            commands=(Command(name=CommandName.DEPLOY, args=("checkout", "prod", "4f2c1a9d")),),
            author=Actor(login="ada"),
            roles=("developer",),
        ),
    )
    receipt = await house.books.events.accept(event, correlate(event, house.catalogue), b"{}")
    if receipt.run_id is None:
        raise BenchError(f"the release was not taken up: {receipt.reason}")
    return receipt.run_id


async def _until_asked(house: House, run_id: UUID) -> None:
    run = None
    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        run = await house.books.runs.get(run_id)
        if run is not None and run.state is RunState.NEEDS_APPROVAL:
            return
        await asyncio.sleep(POLL_SECONDS)
    raise BenchError(f"the run did not come to ask: {run and (run.state.value, run.reason)}")


async def _worker(ground: Ground, url: str, data: object) -> Program:
    worker = await ground.program(
        f"waiting-worker-{uuid4().hex[:6]}",
        *("cli", "worker", "--workers", CONCURRENCY),
        DATABASE_URL=url,
        FERMATA_DATA=str(data),
        FERMATA_LOG="info",
    )
    await worker.until_said(READY)
    return worker


async def _sample(
    ground: Ground, house: House, original: UUID, url: str, data: object
) -> Taken:
    """Vote on some runs with a worker of their own; each sample does the same amount of work."""
    worker = await _worker(ground, url, data)
    asked = await house.books.database.rows(ASKED, (original,))
    chosen = random.Random(len(asked)).sample(asked, WARM_UP + SAMPLE)
    await _vote(house, chosen[:WARM_UP])
    latencies = await _vote(house, chosen[WARM_UP:])
    memory = psutil.Process(worker.pid).memory_info().rss
    await worker.stop()
    return Taken(latencies, memory)


async def _vote(house: House, chosen: list[tuple[UUID, UUID, str]]) -> list[float]:
    """Reject each, one after the other at the given rate; seconds until each run had ended."""
    votes = PromptVotes(house.books.approvals, house.hints)

    async def one(approval_id: UUID, digest: str) -> None:
        vote = Vote(
            principal="grace",
            roles=("release-manager",),
            decision="reject",
            comment="not today",
            via="api",
            at=house.clock.now(),
        )
        _, refusal = await votes.vote(
            approval_id, vote, digest, lambda asked, said, name: judge_vote(asked, said, name, said.at)
        )
        if refusal is not None:
            raise BenchError(f"a vote was refused: {refusal}")

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number, (approval_id, _, digest) in enumerate(chosen):
            await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            group.create_task(one(approval_id, digest))
    return await _ended(house, [run_id for _, run_id, _ in chosen])


async def _ended(house: House, run_ids: list[UUID]) -> list[float]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        rows = await house.books.database.rows(LATENCIES, (run_ids,))
        latencies = [math.nan if took is None else float(took) for _, took in rows]
        if not any(math.isnan(took) for took in latencies):
            break
        if time.monotonic() > deadline:
            raise BenchError(f"{sum(map(math.isnan, latencies))} runs were not resumed")
        await asyncio.sleep(POLL_SECONDS)
    if {state for state, _ in rows} != {"denied"} or len(rows) != len(run_ids):
        raise BenchError(f"not all runs ended as they should: {({state for state, _ in rows})}")
    return latencies
