"""What the local servers share: a free port, a log of requests, faults on order, shape violations.

A fault is for the next `times` requests that it fits. Leaving the context fails the test when any
request was not of the API's published shape: the server is strict so that the client has to be.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web


@dataclass
class Fault:
    """How a request goes wrong.

    `cut` breaks the connection `before` the request is carried out or `after` it; `hang` carries
    it out and never answers. With neither, `status` is answered and nothing is carried out.
    """

    method: str = "*"
    path: str = ".*"
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    cut: Literal["before", "after"] | None = None
    hang: bool = False
    times: int = 1

    def fits(self, request: web.Request) -> bool:
        """Whether it is for this request."""
        return (
            self.times > 0
            and self.method in ("*", request.method)
            and re.search(self.path, request.path) is not None
        )


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


class LocalServer:
    """A server on a free loopback port, used as an async context manager."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self._released = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def handle(self, request: web.Request, body: Any) -> web.Response:
        """Answer a request; `body` is its JSON, or None."""
        raise NotImplementedError

    def wrong(self, what: str) -> None:
        """Note a request that is not of the published shape."""
        self.violations.append(what)

    def requests(self, method: str, path: str = ".*") -> list[Seen]:
        """The requests seen so far that fit."""
        return [one for one in self.seen if one.method == method and re.search(path, one.path)]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        assert self._runner is not None
        await self._runner.cleanup()
        if error is None:
            assert self.violations == [], self.violations

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
            self.wrong(f"{request.method} {request.path}: the body is not JSON")
        self.seen.append(
            Seen(request.method, request.path, dict(request.query), dict(request.headers), body)
        )
        fault = next((one for one in self.faults if one.fits(request)), None)
        if fault is None:
            return await self.handle(request, body)
        fault.times -= 1
        if fault.cut == "before":
            return self._cut(request)
        if fault.cut == "after":
            await self.handle(request, body)
            return self._cut(request)
        if fault.hang:
            answer = await self.handle(request, body)
            await self._released.wait()
            return answer
        return web.json_response(
            fault.body if fault.body is not None else {"message": "told to fail"},
            status=fault.status,
            headers=fault.headers,
        )

    def _cut(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
