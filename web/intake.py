"""The short way in: deliveries are taken before the application's routing and other middlewares.

The three routes stand in the application as well, so that `/openapi.json` describes them and other
methods are refused as everywhere. A `POST` to one of them goes to the very same endpoint, only past
what an endpoint that looks after everything itself has no use for (docs/decisions/0009).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import Histogram
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from web.alertmanager import router_alertmanager
from web.delivered import Delivered
from web.events import router_events
from web.github import router_github
from web.metrics import Metrics
from web.problems import IntakeRoute, Problem
from web.receive import Edge
from web.site import SAFE_HEADERS

Take = Callable[[Request], Awaitable[Response]]


def routers(edge: Edge) -> tuple[APIRouter, ...]:
    """The routes of everything that may be sent to us."""
    return router_github(edge), router_events(edge), router_alertmanager(edge)


class ShortWay:
    """The application, with what is posted to an `IntakeRoute` taken in at its door.

    Such requests pass none of the application's middlewares, so this counts them and sets the
    security headers. An error that is not a `Problem` is answered by the application's handler.
    `refusing` are layers around everything that looks after refusals; what is accepted leaves
    past them.
    """

    def __init__(
        self,
        app: FastAPI,
        routers: Iterable[APIRouter],
        metrics: Metrics,
        refusing: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self.app = app
        self._refusing = refusing
        self._long_way = refusing(app)
        self.metrics = metrics
        self.takes: dict[str, Take] = {
            route.path: route.endpoint
            for router in routers
            for route in router.routes
            if isinstance(route, IntakeRoute)
        }
        self._timers: dict[tuple[str, int], Histogram] = {}
        self._handler: Any = app.exception_handlers.get(Exception)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at path and method: that is all it costs other requests."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self.takes:
            await self._take_in(scope, receive, send)
        else:
            await self._long_way(scope, receive, send)

    async def _take_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        status = 500
        began = perf_counter()
        try:
            try:
                response = await self.takes[path](Delivered(scope, receive))
            except Problem as problem:
                response = problem.response()
            except Exception as error:
                await self._break_off(error, scope, receive, send)
                raise
            status = response.status_code
            response.raw_headers.extend(SAFE_HEADERS)
            way = response if status < 400 else self._refusing(response)
            await way(scope, receive, send)
        finally:
            self._timer(path, status).observe(perf_counter() - began)

    async def _break_off(
        self, error: Exception, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer with what the application says to an error of ours."""

        async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
            raise error

        with contextlib.suppress(type(error)):  # it is raised again, by whoever caught it
            answering = ServerErrorMiddleware(broken, handler=self._handler)
            await self._refusing(answering)(scope, receive, send)

    def _timer(self, path: str, status: int) -> Histogram:
        timer = self._timers.get((path, status))
        if timer is None:
            timer = self.metrics.http.labels("POST", path, str(status))
            self._timers[path, status] = timer
        return timer
