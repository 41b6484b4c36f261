"""A light load generator: prepared HTTP/1.1 requests over kept connections, nothing else.

It shares the machine's cores with the server it measures, so it does as little as can be: no
headers are built and no JSON is read while the clock runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from bench.ground import BenchError
from bench.wire import Wire

Make = Callable[[int], bytes]
"""The n-th request, ready to be sent."""

ACCEPTED = b"HTTP/1.1 202 "
ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Generator:
    """A bundle of connections to one server."""

    wires: tuple[Wire, ...]

    async def flood(self, make: Make, start: int, seconds: float) -> tuple[int, float]:
        """As many as go through, one in flight a connection; (how many, in how many seconds)."""
        began = time.perf_counter()
        until = began + seconds
        count = start

        async def one(wire: Wire) -> None:
            nonlocal count
            while time.perf_counter() < until:
                number = count
                count += 1
                await _accepted(wire, make(number))

        async with asyncio.timeout(seconds + ANSWER_SECONDS), asyncio.TaskGroup() as group:
            for wire in self.wires:
                group.create_task(one(wire))
        return count - start, time.perf_counter() - began

    async def paced(self, make: Make, start: int, rate: float, seconds: float) -> list[float]:
        """`rate` a second whatever the server does; each one's seconds from when it was due."""
        idle: asyncio.LifoQueue[Wire] = asyncio.LifoQueue()
        for wire in self.wires:
            idle.put_nowait(wire)
        took: list[float] = []
        began = time.perf_counter()

        async def one(number: int, due: float) -> None:
            wire = await idle.get()
            await _accepted(wire, make(number))
            took.append(time.perf_counter() - due)
            idle.put_nowait(wire)

        async with asyncio.timeout(seconds + ANSWER_SECONDS), asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(start + number, due))
        return took


async def _accepted(wire: Wire, request: bytes) -> None:
    """Send a request and wait for its 202. Raises `BenchError` for anything else."""
    if not wire.is_open:
        raise BenchError("the server hung up between two requests")
    try:
        answer = await wire.ask(request)
    except OSError as error:
        raise BenchError(f"the server {error}") from error
    if not answer.startswith(ACCEPTED):
        raise BenchError(f"not accepted: {answer[:600].decode(errors='replace')}")


@contextlib.asynccontextmanager
async def connected(host: str, port: int, connections: int) -> AsyncIterator[Generator]:
    """Open the connections, close them at the end.

    For one phase: a server hangs up on connections that are idle for some seconds.
    """
    loop = asyncio.get_running_loop()
    wires: list[Wire] = []
    try:
        for _ in range(connections):
            _, wire = await loop.create_connection(Wire, host, port)
            wires.append(wire)
        yield Generator(tuple(wires))
    finally:
        for wire in wires:
            wire.close()


def post(path: str, token: str, key: str, body: bytes) -> bytes:
    """The bytes of one `POST` with an idempotency key."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nIdempotency-Key: {key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
