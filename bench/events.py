"""(a) Events accepted durably through `POST /event`, against one-row commits to the same server."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from psycopg.types.json import Jsonb

from bench.figures import Figure, Section, Target, percentile
from bench.ground import LISTENS, Ground
from bench.load import Make, connected, post
from store.database import Database

CONNECTIONS = 50
POOL = 20
"""Connections to PostgreSQL: as many as the server itself opens at most."""
ROUNDS = 3
FLOOD_SECONDS = 3.0
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


async def measure(ground: Ground, tell: Callable[[str], None]) -> Section:
    """Run the benchmark."""
    url = await ground.database("events")
    data = ground.data("events")
    server = await ground.program(
        "events-server",
        *("cli", "serve", "--workers", "0", "--port", "0"),
        settings={"DATABASE_URL": url, "FERMATA_DATA": str(data)},
    )
    address = urlsplit(await server.until_said(LISTENS))
    token = (data / "admin-token").read_text().strip()
    bare = await Database.open(await ground.database("one_row"), min_size=POOL, max_size=POOL)
    try:
        await bare.count(TABLE)
        return await _measure(_Door(address.hostname or "", address.port or 0), bare, token, tell)
    finally:
        await bare.close()


async def _measure(door: _Door, bare: Database, token: str, tell: Callable[[str], None]) -> Section:
    began = time.perf_counter()
    run = uuid4().hex[:8]

    def deploy(number: int) -> bytes:
        return post("/event", token, f"{run}-{number}", _deploy(run, number))

    def check(number: int) -> bytes:
        return post("/event", token, f"{run}-{number}", _check(run, number))

    await door.flood(deploy, WARM_UP_SECONDS)
    await _one_row(bare, WARM_UP_SECONDS)
    deploys, checks, rows = [], [], []
    for number in range(ROUNDS):
        rows.append(await _one_row(bare, FLOOD_SECONDS))
        deploys.append(await door.flood(deploy, FLOOD_SECONDS))
        checks.append(await door.flood(check, FLOOD_SECONDS))
        tell(
            f"round {number + 1}: {rows[-1]:,.0f} rows/s, {deploys[-1]:,.0f} deploys/s, "
            f"{checks[-1]:,.0f} check results/s"
        )
    paced = await door.paced(deploy)
    stored = statistics.median(rows)
    return Section(
        "(a) events through POST /event, 50 connections",
        (
            Figure(
                "deploys (event + run) / one-row commits",
                statistics.median(d / r for d, r in zip(deploys, rows, strict=True)),
                "x",
                Target("at least", 0.5),
                f"{statistics.median(deploys):,.0f}/s against {stored:,.0f}/s, "
                f"median of {ROUNDS} pairs",
            ),
            Figure(
                "check results (event + fact) / one-row commits",
                statistics.median(c / r for c, r in zip(checks, rows, strict=True)),
                "x",
                Target("at least", 0.5),
                f"{statistics.median(checks):,.0f}/s",
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
