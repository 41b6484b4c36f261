"""Health, readiness and metrics: `/healthz`, `/readyz`, `/metrics`.

`/healthz` and `/readyz` ask for nothing. `/metrics` asks for a token, except on a loopback
connection that no proxy has forwarded: a Prometheus on the same machine scrapes it as it is,
others send `authorization: {credentials: TOKEN}` in their scrape configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal

import psycopg
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from domain.approval import ApprovalState
from tools.toolbox import Backend
from web.answers import Answer, BackendAnswer
from web.desk import Desk
from web.metrics import Metrics
from web.problems import EdgeRoute
from web.receive import Refused
from web.roles import LOOPBACK, NOBODY, VIEWER, states

log = structlog.get_logger(__name__)

PROBE_SECONDS = 2.0
"""How long a part may take to answer before it counts as down."""
MOST_PENDING = 1000

Alive = Callable[[], Awaitable[bool]]
"""Whether a part answers; may also raise what its client raises when it does not."""


@dataclass(frozen=True)
class Parts:
    """What readiness looks at. Without the database nothing can be accepted; without the queue
    runs still advance, a sweep later."""

    database: Alive
    queue: Alive
    backends: Callable[[], Sequence[Backend]]
    audit: Callable[[], Awaitable[AuditPart]] | None = None
    warnings: Callable[[], tuple[str, ...]] = tuple
    """What somebody should look at although all works, such as a token file with a mistake."""


class Healthy(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class PartAnswer(Answer):
    """One part and whether it answers."""

    status: Literal["ok", "down"]
    detail: str = ""


class AuditPart(Answer):
    """The audit record's newest row, and whether this service could change what was recorded."""

    guard: Literal["sealed", "guarded", "open"]
    detail: str
    seq: int
    head: str


class Ready(Answer):
    """`ready`: events are taken. `degraded`: they are, and something is slower than it should be.
    `down`: nothing can be stored."""

    status: Literal["ready", "degraded", "down"]
    database: PartAnswer
    queue: PartAnswer
    backends: tuple[BackendAnswer, ...] = Field(description="Each says whether it is real")
    audit: AuditPart | None = Field(default=None, description="null: it could not be read")
    warnings: tuple[str, ...] = Field(
        default=(), description="What somebody should look at although all works"
    )


def router_meta(parts: Parts, desk: Desk, metrics: Metrics) -> APIRouter:
    """The three routes."""
    router = APIRouter(route_class=EdgeRoute, tags=["health"])

    @router.get("/healthz", summary="Whether the process answers", openapi_extra=states(NOBODY))
    async def healthz() -> Healthy:
        """Touches nothing else."""
        return Healthy()

    @router.get(
        "/readyz",
        openapi_extra=states(NOBODY),
        summary="Whether events can be taken, and what is real",
        response_model=Ready,
        responses={503: {"model": Ready, "description": "The database does not answer"}},
    )
    async def readyz() -> Response:
        """Database, queue, and of each backend whether it is real, simulated or a dry run."""
        ready = await look(parts)
        status = 503 if ready.status == "down" else 200
        return JSONResponse(ready.model_dump(mode="json"), status_code=status)

    @router.get(
        "/metrics",
        openapi_extra=states(LOOPBACK),
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={
            200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}},
            401: {"model": Refused, "description": "Not on loopback, and no token"},
        },
    )
    async def scrape(request: Request) -> Response:
        """Needs a token unless the connection comes from the same machine, not forwarded."""
        if not from_here(request):
            request.app.state.gatekeeper.require(request, VIEWER)
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                runs = await desk.reads.counts_by_state()
                pending = await desk.votes.list(ApprovalState.PENDING, MOST_PENDING)
            metrics.refresh(runs, len(pending))
        except (psycopg.Error, OSError) as error:
            # what this process counted itself is still worth having
            log.warning("metrics without the database", error=type(error).__name__)
            metrics.refresh(None, None)
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router


async def look(parts: Parts) -> Ready:
    """Ask all parts at once."""
    database, queue = await asyncio.gather(
        _part(parts.database, "events cannot be stored; check DATABASE_URL and the server"),
        _part(parts.queue, "runs advance by the sweep alone; check REDIS_URL or the database"),
    )
    if database.status == "down":
        status: Literal["ready", "degraded", "down"] = "down"
    else:
        status = "ready" if queue.status == "ok" else "degraded"
    return Ready(
        status=status,
        database=database,
        queue=queue,
        backends=tuple(BackendAnswer.of(one) for one in parts.backends()),
        audit=await _audit(parts) if database.status == "ok" else None,
        warnings=tuple(parts.warnings()),
    )


async def _audit(parts: Parts) -> AuditPart | None:
    if parts.audit is None:
        return None
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            return await parts.audit()
    except (psycopg.Error, OSError) as error:
        log.warning("the audit record does not answer", error=type(error).__name__)
        return None


async def _part(alive: Alive, consequence: str) -> PartAnswer:
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            if await alive():
                return PartAnswer(status="ok")
    except (psycopg.Error, OSError) as error:
        # OSError covers TimeoutError and ConnectionError; the text may hold an address, so it stays
        log.warning("a part does not answer", error=type(error).__name__)
    return PartAnswer(status="down", detail=consequence)


def from_here(request: Request) -> bool:
    """Whether the connection comes from this machine and was not forwarded by a proxy."""
    forwarded = ("x-forwarded-for", "forwarded", "x-real-ip", "via")
    if request.client is None or any(name in request.headers for name in forwarded):
        return False
    try:
        return ip_address(request.client.host).is_loopback
    except ValueError:
        return False


__all__ = ["AuditPart", "Parts", "Ready", "from_here", "look", "router_meta"]
