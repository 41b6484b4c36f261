"""One uvicorn in this process, on one loopback port, on the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp


class _Quiet(uvicorn.Server):
    """Leaves the process's signal handlers alone and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        # Instead of looking ten times a second whether to stop.
        counter = 0
        while not self.stopping.is_set() and not await self.on_tick(counter):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.stopping.wait()
            # The tenth tick of uvicorn's own loop, which renews the Date header, is a second.
            counter += 10

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


class LocalServer:
    """Serves an ASGI app between `start` and `stop`. Idle connections are closed after
    `keep_seconds`."""

    def __init__(self, app: ASGIApp, *, keep_seconds: int = 5) -> None:
        self._app = app
        self._keep = keep_seconds
        self._server: _Quiet | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 picks a free one. Returns the port. Raises OSError when it is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        # A restarted world must get its old port back while old connections linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            raise
        config = uvicorn.Config(
            self._app, lifespan="off",
            proxy_headers=False, ws="none", log_config=None, access_log=False,
            timeout_keep_alive=self._keep, timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = _Quiet(config)
        self._task = asyncio.create_task(self._server.serve([sock]), name="world-http")
        await self._server.listening.wait()
        return int(sock.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening and drop the connections. Safe to call twice."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        self._server.stopping.set()
        await self._task
        self._server = self._task = None
