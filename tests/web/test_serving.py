"""What leaves the socket: an answer in one piece, and the head of a stream without delay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import ASGIApp, Receive, Scope, Send

from web.serving import Listening

REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}


@asynccontextmanager
async def connected(
    app: ASGIApp,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to `app`, served as it is in production."""
    listening = Listening("127.0.0.1", 0)
    async with asyncio.timeout(20), listening.serving(app):
        reader, writer = await asyncio.open_connection("127.0.0.1", listening.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()


async def test_an_answer_leaves_in_one_piece_time_after_time() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"done"})

    async with connected(app) as (reader, writer):
        for _ in range(3):
            writer.write(REQUEST)
            answer = await reader.read(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert answer.endswith(b"\r\n\r\ndone")


async def test_the_head_of_a_stream_does_not_wait_for_its_body() -> None:
    seen = asyncio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(START)
        await seen.wait()
        await send({"type": "http.response.body", "body": b"do", "more_body": True})
        await send({"type": "http.response.body", "body": b"ne"})

    async with connected(app) as (reader, writer):
        writer.write(REQUEST)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        seen.set()
        assert await reader.readexactly(4) == b"done"


async def test_an_answer_that_closes_the_connection_arrives_whole() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", b"0"), (b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})

    async with connected(app) as (reader, writer):
        writer.write(REQUEST)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
