"""Listening: the socket is bound first, so that a taken port is one clear sentence and no trace."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

END_OF_HEAD = b"\r\n\r\n"
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than load balancers keep theirs (60 s mostly), so
that none sends a request into a connection that is just being closed."""


class PortTaken(RuntimeError):
    """Another program listens there."""


class _HeadHeld:
    """A transport that sends the head of an answer in one piece with the body that follows it.

    uvicorn writes the two apart, and each write is a system call, a segment, and a wake-up of
    whoever waits for it. A head that nothing follows leaves by itself in the next turn of the loop.
    Everything but writing and closing is the transport's own.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """See `asyncio.WriteTransport`."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data[-4:] == END_OF_HEAD:
            self._head = data
            self._loop.call_soon(self._let_go)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """See `asyncio.BaseTransport`."""
        self._let_go()
        self._transport.close()

    def _let_go(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)


class _Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, on a transport that holds heads back."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _HeadHeld(transport)))


class Listening:
    """A bound socket. Port 0 takes any free one."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise PortTaken(
                f"cannot listen on {host}:{port}: {error.strerror}. Choose another: --port 0 "
                "takes any free one."
            ) from error
        self.port: int = self._socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else shown}:{self.port}"

    @contextlib.asynccontextmanager
    async def serving(self, app: ASGIApp) -> AsyncIterator[None]:
        """Serve `app` for the length of the block; connections are finished at its end."""
        config = uvicorn.Config(
            app,
            log_config=None,
            http=_Protocol,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            access_log=False,
            server_header=False,
            # who we talk to is who connected: a header may not say otherwise
            proxy_headers=False,
            timeout_graceful_shutdown=5,
            lifespan="off",
        )
        server = uvicorn.Server(config)
        # Signals are the caller's: it drains workers before the web goes.
        task = asyncio.create_task(server._serve([self._socket]), name="web")
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.01)
        try:
            yield
        finally:
            server.should_exit = True
            await task

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop, where there is one."""
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
