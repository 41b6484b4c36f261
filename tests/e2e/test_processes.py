"""`fermata serve --processes 2`: one socket, two processes that serve, one that does the rest."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.e2e.served import Served, serving

SENDERS = 8


@pytest.fixture(scope="module")
async def crowd(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """A server of two processes that advances no runs. The last test stops it."""
    data = tmp_path_factory.mktemp("crowd")
    async with serving(data, "--workers", "0", "--processes", "2") as served:
        yield served


def crew_of(served: Served) -> list[psutil.Process]:
    """The processes that serve."""
    children = psutil.Process(served.program.process.pid).children()
    return [one for one in children if "spawn_main" in " ".join(one.cmdline())]


def connections(process: psutil.Process) -> int:
    """How many it has open with clients."""
    opened = process.net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED for one in opened)


async def deliver(http: httpx.AsyncClient, served: Served, key: str) -> dict[str, Any]:
    """Send a deploy; what was answered, after a 202."""
    answer = await http.post(
        f"{served.api.url}/event",
        json={"type": "deploy", "service": "checkout", "environment": "staging", "sha": key},
        headers={"authorization": f"Bearer {served.api.token}", "idempotency-key": key},
    )
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.json()
    return told


class Flood:
    """Senders that send one event after the other, each on a connection of its own."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.accepted: dict[str, str] = {}
        self.broken = 0
        self._over = False

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For the length of the block."""
        async with asyncio.TaskGroup() as group:
            for number in range(SENDERS):
                group.create_task(self._send(number))
            yield
            self._over = True

    async def _send(self, sender: int) -> None:
        count = 0
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            while not self._over:
                key, count = f"{sender}-{count}", count + 1
                try:
                    told = await deliver(http, self.served, key)
                except httpx.TransportError:
                    self.broken += 1  # nothing was promised
                else:
                    self.accepted[key] = told["event_id"]

    async def until_more(self, count: int) -> None:
        """Wait for that many more to be accepted."""
        wanted = len(self.accepted) + count
        async with asyncio.timeout(60):
            while True:
                if len(self.accepted) >= wanted:
                    return
                await asyncio.sleep(0.01)


async def warnings(served: Served) -> list[str]:
    """What `/readyz` warns of, from whichever process answers."""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        answer = await http.get(f"{served.api.url}/readyz")
    assert answer.status_code == 200
    told: list[str] = answer.json()["warnings"]
    return told


async def until_warned(served: Served, what: str) -> None:
    """Wait until it warns of this, and of nothing else ('': of nothing at all)."""
    async with asyncio.timeout(90):
        while True:
            told = await warnings(served)
            if what in " ".join(told) and bool(told) == bool(what):
                return
            await asyncio.sleep(0.02)


async def test_a_killed_process_loses_nothing_that_was_accepted(crowd: Served) -> None:
    flood = Flood(crowd)
    await until_warned(crowd, "")
    async with flood.flowing():
        await flood.until_more(40)
        # Whoever accepts a connection serves it, and the other one may have none.
        other, victim = sorted(crew_of(crowd), key=connections)
        victim.kill()
        await flood.until_more(40)
    assert 0 < flood.broken <= SENDERS, "a sender's connection breaks once at most"
    await until_warned(crowd, "1 of 2 processes serve")
    await crowd.program.until_said(re.compile("died and is started again"))
    await until_warned(crowd, "")
    now = crew_of(crowd)
    assert other in now
    assert victim not in now
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        for key, event_id in flood.accepted.items():
            again = await deliver(http, crowd, key)
            assert (again["status"], again["event_id"]) == ("duplicate", event_id)
        counted = (await http.get(f"{crowd.api.url}/metrics")).text
    # What the dead one had counted is still told, whoever is asked.
    accepted = re.search(r'fermata_events_total\{source="api",status="accepted"\} (\d+)', counted)
    assert accepted is not None
    assert int(accepted[1]) >= len(flood.accepted)


async def test_a_request_under_way_is_answered_before_it_stops(crowd: Served) -> None:
    body = b'{"type":"deploy","service":"checkout","environment":"staging","sha":"4f2c1a9d"}'
    head = (
        f"POST /event HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {crowd.api.token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    host, port = crowd.api.url.removeprefix("http://").split(":")
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(body[:10])
        crew = crew_of(crowd)
        os.kill(crowd.program.process.pid, signal.SIGTERM)
        await crowd.program.until_said(re.compile("stopping: "))
        writer.write(body[10:])
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202 ")
        writer.close()
        assert await crowd.program.process.wait() == 0
    assert not any(one.is_running() for one in crew)
