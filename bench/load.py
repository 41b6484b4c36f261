"""A light load generator: prepared HTTP/1.1 requests over kept connections, nothing else.

It shares the machine's cores with the server it measures, so it does as little as can be: no
headers are built and no JSON is read while the clock runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from bench.ground import BenchError

Make = Callable[[int], bytes]
"""The n-th request, ready to be sent."""

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
ACCEPTED = b"HTTP/1.1 202 "
ANSWER_SECONDS = 30.0


class Wire(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._seen = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect until the whole answer is there."""
        self._seen += data
        end = self._seen.find(b"\r\n\r\n")
        if end < 0 or self._answer is None:
            return
        length = LENGTH.search(self._seen, 0, end + 2)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(self._seen) >= whole and not self._answer.done():
            self._answer.set_result(self._seen[:whole])
            self._seen = self._seen[whole:]

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that was waited for will not come."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BenchError(f"the server hung up: {exc}"))

    async def post(self, request: bytes) -> None:
        """Send a request and wait for its 202. Raises `BenchError` for anything else."""
        if self._transport is None or self._transport.is_closing():
            raise BenchError("the server hung up between two requests")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        answer = await self._answer
        if not answer.startswith(ACCEPTED):
            raise BenchError(f"not accepted: {answer[:600].decode(errors='replace')}")

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


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
                await wire.post(make(number))

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
            await wire.post(make(number))
            took.append(time.perf_counter() - due)
            idle.put_nowait(wire)

        async with asyncio.timeout(seconds + ANSWER_SECONDS), asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(start + number, due))
        return took


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
