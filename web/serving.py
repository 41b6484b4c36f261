"""Listening: the socket is bound first, so that a taken port is one clear sentence and no trace."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI


class PortTaken(RuntimeError):
    """Another program listens there."""


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
    async def serving(self, app: FastAPI) -> AsyncIterator[None]:
        """Serve `app` for the length of the block; connections are finished at its end."""
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
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


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
