"""An event log in memory, and an edge around it, for the tests of the intake."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import httpx
import orjson
from fastapi import FastAPI

from domain.clock import SystemClock
from domain.event import Event
from domain.intake import Intake, StartRun
from domain.service import SLI, Catalogue, Environment, Service, Workload
from store.records import Receipt
from web.auth import TokenBook
from web.intake import ShortWay, routers
from web.metrics import Metrics
from web.receive import Edge

SECRET = b"first-webhook-secret"
OLD_SECRET = b"second-webhook-secret"
TOKEN = "developer-token"
ADMIN_TOKEN = "admin-token"
VIEWER_TOKEN = "viewer-token"

BOOK = (
    TokenBook()
    .with_token(TOKEN, "dana", ("developer",))
    .with_token(ADMIN_TOKEN, "ada", ("admin",))
    .with_token(VIEWER_TOKEN, "vic", ("viewer",))
)


def _service(name: str, repo: str, *paths: str) -> Service:
    return Service(
        name=name,
        repo=repo,
        paths=paths or ("**",),
        image=f"registry.example/{name}:{{sha}}",
        workload=Workload(deployment=name, container=name),
        environments=(
            Environment(name="staging", namespace="staging"),
            Environment(name="prod", namespace="prod"),
        ),
        slis=(SLI(name="errors", kind="errors", bad="b", total="t", objective=0.99),),
    )


CATALOGUE = Catalogue(
    services=(
        _service("checkout", "acme/shop", "checkout/**"),
        _service("catalog", "acme/shop", "catalog/**"),
        _service("mail", "acme/mail"),
    )
)


@dataclass
class MemoryLog:
    """Accepts events as the store does: one run a thread, duplicates by delivery and by digest."""

    events: list[Event] = field(default_factory=list)
    intakes: list[tuple[Intake, ...]] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)
    known: dict[tuple[str, str, str], Receipt] = field(default_factory=dict)
    runs: dict[UUID, UUID] = field(default_factory=dict)
    failure: Exception | None = None

    async def accept(self, event: Event, intakes: Sequence[Intake], payload: bytes) -> Receipt:
        if self.failure is not None:
            raise self.failure
        for kind, value in (("id", event.delivery_id), ("digest", event.body_digest)):
            first = self.known.get((event.source, kind, value))
            if first is not None:
                return first.model_copy(update={"status": "duplicate"})
        self.events.append(event)
        self.intakes.append(tuple(intakes))
        self.payloads.append(payload)
        starts = [one for one in intakes if isinstance(one, StartRun)]
        ids = tuple(self.runs.setdefault(one.thread_id, uuid4()) for one in starts)
        receipt = Receipt(
            event_id=event.id,
            status="accepted" if starts else "ignored",
            run_id=ids[0] if ids else None,
            thread_id=starts[0].thread_id if starts else None,
            run_ids=ids,
        )
        self.known[(event.source, "id", event.delivery_id)] = receipt
        self.known[(event.source, "digest", event.body_digest)] = receipt
        return receipt


@dataclass
class House:
    """An application with the intake routers, and what reached its log."""

    client: httpx.AsyncClient
    log: MemoryLog
    hinted: list[UUID]
    metrics: Metrics

    @property
    def last(self) -> tuple[Event, tuple[Intake, ...]]:
        """The latest event that was stored, with its intakes."""
        return self.log.events[-1], self.log.intakes[-1]

    async def event(self, data: Any, token: str = TOKEN, **headers: str) -> httpx.Response:
        """Send a plain form."""
        return await self.client.post(
            "/event",
            content=data if isinstance(data, bytes) else orjson.dumps(data),
            headers={
                "content-type": "application/json",
                "authorization": f"Bearer {token}",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )

    async def github(
        self,
        event: str,
        payload: Any,
        *,
        secret: bytes = SECRET,
        delivery: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """Send a signed webhook."""
        body = payload if isinstance(payload, bytes) else orjson.dumps(payload)
        return await self.client.post(
            "/webhooks/github",
            content=body,
            headers={
                "content-type": "application/json",
                "x-github-event": event,
                "x-github-delivery": delivery or str(uuid4()),
                "x-hub-signature-256": signature(body, secret),
                **(headers or {}),
            },
        )


def signature(body: bytes, secret: bytes = SECRET) -> str:
    """GitHub's signature of a body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


@asynccontextmanager
async def house(*, short: bool = True, **changes: Any) -> AsyncIterator[House]:
    """The intake, served in process; `changes` replace fields of the edge.

    Not `short`: through the application's own routing.
    """
    log = MemoryLog()
    hinted: list[UUID] = []

    edge = replace(
        Edge(
            events=log,
            hint=hinted.append,
            catalogue=lambda: CATALOGUE,
            secrets=(SECRET, OLD_SECRET),
            tokens=BOOK,
            clock=SystemClock(),
            account="fermata-app[bot]",
        ),
        **changes,
    )
    app, metrics, intake = FastAPI(), Metrics(), routers(edge)
    for router in intake:
        app.include_router(router)
    # an exception that escapes becomes a failed test, not a 500
    door = ShortWay(app, intake, metrics) if short else app
    transport = httpx.ASGITransport(app=door, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        yield House(client, log, hinted, metrics)
