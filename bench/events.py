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
from bench.ground import LISTENS, Ground, Program
from bench.load import Generator, connected, post
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
class _Counter:
    """Numbers requests over all phases, so that no two are the same delivery."""

    at: int = 0


async def measure(ground: Ground, tell: Callable[[str], None]) -> Section:
    """Run the benchmark."""
    began = time.perf_counter()
    url = await ground.database("events")
    data = ground.data("events")
    server = await ground.program(
        "events-server",
        *("cli", "serve", "--workers", "0", "--port", "0"),
        DATABASE_URL=url,
        FERMATA_DATA=str(data),
    )
    address = urlsplit(await server.until_said(LISTENS))
    token = (data / "admin-token").read_text().strip()
    bare = await Database.open(await ground.database("one_row"), min_size=POOL, max_size=POOL)
    try:
        await bare.count(TABLE)
        async with connected(address.hostname or "", address.port or 0, CONNECTIONS) as generator:
            return await _measure(generator, bare, token, server, tell, began)
    finally:
        await bare.close()


async def _measure(
    generator: Generator,
    bare: Database,
    token: str,
    server: Program,
    tell: Callable[[str], None],
    began: float,
) -> Section:
    run = uuid4().hex[:8]
    counter = _Counter()

    def deploy(number: int) -> bytes:
        return post("/event", token, f"{run}-{number}", _deploy(run, number))

    def check(number: int) -> bytes:
        return post("/event", token, f"{run}-{number}", _check(run, number))

    async def flood(make: Callable[[int], bytes], seconds: float) -> float:
        count, took = await generator.flood(make, counter.at, seconds)
        counter.at += count
        return count / took

    await flood(deploy, WARM_UP_SECONDS)
    await _one_row(bare, WARM_UP_SECONDS)
    deploys, checks, rows = [], [], []
    for number in range(ROUNDS):
        rows.append(await _one_row(bare, FLOOD_SECONDS))
        deploys.append(await flood(deploy, FLOOD_SECONDS))
        checks.append(await flood(check, FLOOD_SECONDS))
        tell(
            f"round {number + 1}: {rows[-1]:,.0f} rows/s, {deploys[-1]:,.0f} deploys/s, "
            f"{checks[-1]:,.0f} check results/s"
        )
    paced = await generator.paced(deploy, counter.at, PACED_RATE, PACED_SECONDS)
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
