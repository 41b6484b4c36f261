"""One kept HTTP/1.1 connection, for generators of load.

They share the machine with what they load, so of an answer no more is read than where it ends.
"""

from __future__ import annotations

import asyncio
import re

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Wire(asyncio.Protocol):
    """Sends one request at a time."""

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
        if self._answer is not None and not self._answer.done() and _is_whole(self._seen):
            self._answer.set_result(self._seen)
            self._seen = b""

    def connection_lost(self, exc: Exception | None) -> None:
        """An answer that was waited for will not come."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(f"hung up: {exc}"))

    @property
    def is_open(self) -> bool:
        """Whether it can send another request."""
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> bytes:
        """The answer's head and body. Raises OSError where the other side hangs up."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def _is_whole(seen: bytes) -> bool:
    head = seen.find(b"\r\n\r\n")
    if head < 0:
        return False
    if found := LENGTH.search(seen, 0, head + 2):
        return len(seen) >= head + 4 + int(found[1])
    return CHUNKED.search(seen, 0, head + 2) is None or seen.endswith(LAST_CHUNK)
