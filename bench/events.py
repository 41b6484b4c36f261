"""(a) Events accepted durably through `POST /event`, against one-row commits to the same server."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
import psutil  # type: ignore[import-untyped]
from psycopg.types.json import Jsonb

from bench.figures import Figure, Section, Target, percentile
from bench.ground import LISTENS, Ground, cpu_seconds
from bench.load import Make, connected, post
from store.database import Database

CONNECTIONS = 50
POOL = 20
"""Connections to PostgreSQL: as many as the server itself opens at most."""
ROUNDS = 6
FLOOD_SECONDS = 2.0
WARM_UP_SECONDS = 1.0
PACED_RATE = 200.0
PACED_SECONDS = 10.0

TABLE = """
CREATE TABLE one_row (
    id uuid PRIMARY KEY, source text NOT NULL, delivery_id text NOT NULL, kind text NOT NULL,
    received_at timestamptz NOT NULL, body jsonb NOT NULL, payload bytea)
"""
INSERT = "INSERT INTO one_row VALUES (%s, 'api', %s, 'command', %s, %s, %s)"


@dataclass
class _Door:
    """Where the server listens. Numbers requests over all phases: no two are the same delivery."""

    host: str
    port: int
    next_number: int = 0

    async def flood(self, make: Make, seconds: float) -> float:
        """Events a second, with as many in flight as there are connections."""
        async with connected(self.host, self.port, CONNECTIONS) as generator:
            count, took = await generator.flood(make, self.next_number, seconds)
        self.next_number += count
        return count / took

    async def paced(self, make: Make) -> list[float]:
        """Seconds that each answer took at the paced rate."""
        async with connected(self.host, self.port, CONNECTIONS) as generator:
            took = await generator.paced(make, self.next_number, PACED_RATE, PACED_SECONDS)
        self.next_number += len(took)
        return took


@dataclass
class _Side:
    """One kind of event, flooded again and again."""

    door: _Door
    make: Make
    pid: int
    rates: list[float] = field(default_factory=list)
    """Events a second."""
    ratios: list[float] = field(default_factory=list)
    """To the one-row commits around it."""
    costs: list[float] = field(default_factory=list)
    """Seconds of CPU that the server's processes took for an event."""

    async def flood(self) -> None:
        """Once more."""
        first, before = self.door.next_number, _cpu(self.pid)
        self.rates.append(await self.door.flood(self.make, FLOOD_SECONDS))
        self.costs.append((_cpu(self.pid) - before) / (self.door.next_number - first))

    def said(self) -> str:
        """The medians of rate and cost."""
        cost = statistics.median(self.costs) * 1000
        return f"{statistics.median(self.rates):,.0f}/s at {cost:.2f} ms of server CPU"


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process and those it started have taken."""
    process = psutil.Process(pid)
    return cpu_seconds((process, *process.children(recursive=True)))


async def measure(ground: Ground, tell: Callable[[str], None], *, processes: int = 1) -> Section:
    """Run the benchmark against `fermata serve --processes N`."""
    url = await ground.database("events")
    data = ground.data("events")
    server = await ground.program(
        "events-server",
        *("cli", "serve", "--workers", "0", "--port", "0", "--processes", str(processes)),
        settings={"DATABASE_URL": url, "FERMATA_DATA": str(data)},
    )
    address = urlsplit(await server.until_said(LISTENS))
    token = (data / "admin-token").read_text().strip()
    bare = await Database.open(await ground.database("one_row"), min_size=POOL, max_size=POOL)
    try:
        await bare.count(TABLE)
        door = _Door(address.hostname or "", address.port or 0)
        return await _measure(door, bare, token, server.pid, processes, tell)
    finally:
        await bare.close()


async def _measure(
    door: _Door,
    bare: Database,
    token: str,
    pid: int,
    processes: int,
    tell: Callable[[str], None],
) -> Section:
    began = time.perf_counter()
    run = uuid4().hex[:8]

    def deploy(number: int) -> bytes:
        return post("/event", token, f"{run}-{number}", _deploy(run, number))

    def check(number: int) -> bytes:
        return post("/event", token, f"{run}-{number}", _check(run, number))

    await door.flood(deploy, WARM_UP_SECONDS)
    await door.flood(check, WARM_UP_SECONDS)
    await _one_row(bare, WARM_UP_SECONDS)
    deploys, checks = _Side(door, deploy, pid), _Side(door, check, pid)
    rows = [await _one_row(bare, FLOOD_SECONDS)]
    for number in range(ROUNDS):
        for side in (deploys, checks):
            await side.flood()
            rows.append(await _one_row(bare, FLOOD_SECONDS))
            # what it is compared with was measured right before and right after it
            side.ratios.append(2 * side.rates[-1] / (rows[-2] + rows[-1]))
        tell(
            f"round {number + 1}: {rows[-1]:,.0f} rows/s, {deploys.rates[-1]:,.0f} deploys/s "
            f"({deploys.ratios[-1]:.2f}x), {checks.rates[-1]:,.0f} check results/s "
            f"({checks.ratios[-1]:.2f}x)"
        )
    paced = await door.paced(deploy)
    stored = statistics.median(rows)
    serving = f"{processes} process{'es' if processes > 1 else ''}"
    return Section(
        f"(a) events through POST /event, 50 connections, {serving} serving",
        (
            Figure(
                "deploys (event + run) / one-row commits",
                statistics.median(deploys.ratios),
                "x",
                Target("at least", 0.5),
                f"{deploys.said()} against {stored:,.0f}/s, median of {ROUNDS} pairs",
            ),
            Figure(
                "check results (event + fact) / one-row commits",
                statistics.median(checks.ratios),
                "x",
                Target("at least", 0.5),
                checks.said(),
            ),
            Figure(
                "p99 of the answer at 200/s",
                percentile(paced, 0.99) * 1000,
                "ms",
                Target("at most", 50.0),
                f"p50 {percentile(paced, 0.5) * 1000:.1f} ms, max {max(paced) * 1000:.1f} ms, "
                f"{len(paced):,} events",
            ),
        ),
        time.perf_counter() - began,
    )


def _deploy(run: str, number: int) -> bytes:
    sha = f"{run}{number:032x}"
    return orjson.dumps(
        {"type": "deploy", "service": "checkout", "environment": "staging", "sha": sha}
    )


def _check(run: str, number: int) -> bytes:
    return orjson.dumps(
        {
            "type": "ci_result",
            "source": "check_run",
            "repo": "acme/checkout",
            "sha": f"{run}{number:032x}",
            "name": "unit",
            "conclusion": "success",
            "url": f"https://ci.acme.example/{number}",
        }
    )


async def _one_row(bare: Database, seconds: float) -> float:
    """One-row commits a second, as many at once as there are HTTP connections."""
    began = time.perf_counter()
    until = began + seconds
    count = 0

    async def one() -> None:
        nonlocal count
        while time.perf_counter() < until:
            payload = _deploy("baseline", count)
            count += 1
            body = orjson.loads(payload)
            async with bare.pool.connection() as conn:
                await conn.execute(
                    INSERT, (uuid4(), str(uuid4()), datetime.now(UTC), Jsonb(body), payload)
                )

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(one())
    return count / (time.perf_counter() - began)
