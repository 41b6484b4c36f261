"""A desk in memory, filled with runs in every state, for the tests of API and pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
from fastapi import FastAPI

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.event import Event
from domain.intake import Intake
from domain.run import RunState
from domain.service import Catalogue
from domain.verdict import MetricWindow
from policy.votes import judge_vote
from store.locks import LockRow
from store.queries import EventRow
from store.records import Receipt, ReleaseRow, RunDetail, RunRow
from tests.web import scenes
from tests.web.scene import CATALOGUE, NOW
from tools.toolbox import Backend
from web.auth import Gatekeeper, Sessions, TokenBook
from web.desk import Desk
from web.meta import Parts, router_meta
from web.metrics import Metrics, TimedRequests
from web.sharing import PictureLinks
from web.site import TAGS, install
from web.tells import EventTells

VIEWER, DEVELOPER, MANAGER, AUTHOR, ADMIN = "viewer-t", "dev-t", "rm-t", "author-t", "admin-t"
BOOK = (
    TokenBook()
    .with_token(VIEWER, "vic", ("viewer",))
    .with_token(DEVELOPER, "dana", ("developer",))
    .with_token(MANAGER, "grace", ("release-manager", "developer"))
    .with_token(AUTHOR, "ada", ("release-manager", "developer"))
    .with_token(ADMIN, "root", ("admin",))
)
BACKENDS = (
    Backend("kubernetes", "simulated", "emulator with its own controllers; set KUBECONFIG"),
    Backend("metrics", "simulated", "the simulated world's counters; set PROMETHEUS_URL"),
    Backend("github", "dry_run", "comments are rendered and shown; set GITHUB_TOKEN"),
    Backend("notify", "real", "Slack"),
)


@dataclass
class SetClock:
    """A clock that stands where it is put."""

    at: datetime = NOW
    speed: float = 1.0

    def now(self) -> datetime:
        return self.at


@dataclass
class MemoryStore:
    """Rows in dictionaries, with the methods of `store/` that API and pages call."""

    details: dict[UUID, RunDetail] = field(default_factory=dict)
    rows: list[EventRow] = field(default_factory=list)
    locks: list[LockRow] = field(default_factory=list)
    releases: list[ReleaseRow] = field(default_factory=list)
    measured: dict[UUID, dict[str, tuple[MetricWindow, ...]]] = field(default_factory=dict)
    failure: Exception | None = None

    def add(self, *details: RunDetail) -> None:
        for one in details:
            self.details[one.run.id] = one

    # --- queries ---

    async def run_detail(self, run_id: UUID) -> RunDetail | None:
        self._fail()
        return self.details.get(run_id)

    async def windows(self, run_id: UUID) -> dict[str, tuple[MetricWindow, ...]]:
        return self.measured.get(run_id, {})

    async def list_runs(
        self,
        *,
        state: RunState | None = None,
        service: str | None = None,
        repo: str | None = None,
        limit: int = 50,
        before: UUID | None = None,
    ) -> list[RunRow]:
        self._fail()
        rows = sorted(
            (one.run for one in self.details.values()), key=lambda r: r.created_at, reverse=True
        )
        if before is not None:
            ids = [row.id for row in rows]
            rows = rows[ids.index(before) + 1 :] if before in ids else []
        fitting = [
            row
            for row in rows
            if (state is None or row.state is state)
            and (repo is None or row.repo == repo)
            and (service is None or any(t.startswith(f"{service}/") for t in row.targets))
        ]
        return fitting[:limit]

    async def find_run(self, prefix: str) -> tuple[RunRow, ...]:
        return tuple(one.run for one in self.details.values() if str(one.run.id).startswith(prefix))

    async def counts_by_state(self) -> dict[RunState, int]:
        self._fail()
        counts = dict.fromkeys(RunState, 0)
        for one in self.details.values():
            counts[one.run.state] += 1
        return counts

    async def list_events(self, limit: int = 50) -> list[EventRow]:
        self._fail()
        return self.rows[:limit]

    async def event(self, event_id: UUID) -> EventRow | None:
        return next((row for row in self.rows if row.event.id == event_id), None)

    async def history(self, service: str, environment: str, limit: int) -> list[ReleaseRow]:
        fitting = [r for r in self.releases if (r.service, r.environment) == (service, environment)]
        return fitting[:limit]

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class MemoryVotes:
    """`Approvals`, over the details' own requests."""

    store: MemoryStore
    refused: dict[UUID, list[tuple[Vote, str]]] = field(default_factory=dict)

    async def list(self, state: ApprovalState | None, limit: int) -> list[ApprovalRequest]:
        self.store._fail()
        found = [one for d in self.store.details.values() for one in d.approvals]
        found = [one for one in found if state is None or one.state is state]
        return sorted(found, key=lambda one: one.requested_at, reverse=True)[:limit]

    async def refusals(self, approval_id: UUID) -> tuple[tuple[Vote, str], ...]:
        return tuple(self.refused.get(approval_id, ()))

    async def get(self, approval_id: UUID) -> ApprovalRequest | None:
        found = await self.list(None, 1000)
        return next((one for one in found if one.id == approval_id), None)

    async def vote(
        self,
        approval_id: UUID,
        vote: Vote,
        digest: str,
        judge: Callable[[ApprovalRequest, Vote, str], str | None],
    ) -> tuple[ApprovalRequest, str | None]:
        request = await self.get(approval_id)
        assert request is not None
        refusal = judge(request, vote, digest)
        if refusal is not None:
            self.refused.setdefault(approval_id, []).append((vote, refusal))
            return request, refusal
        votes = (*request.votes, vote)
        state = request.state
        if vote.decision == "reject":
            state = ApprovalState.REJECTED
        elif len(votes) >= request.requirement.count:
            state = ApprovalState.APPROVED
        request = request.model_copy(update={"votes": votes, "state": state})
        self.put(request)
        return request, None

    def put(self, request: ApprovalRequest) -> None:
        detail = self.store.details[request.run_id]
        kept = tuple(request if one.id == request.id else one for one in detail.approvals)
        self.store.details[request.run_id] = detail.model_copy(update={"approvals": kept})


@dataclass
class MemoryLocks:
    """`Locks`."""

    store: MemoryStore

    async def list(self) -> list[LockRow]:
        self.store._fail()
        return self.store.locks


@dataclass
class MemoryLog:
    """What `EventTells` hands to the event log."""

    accepted: list[tuple[Event, tuple[Intake, ...]]] = field(default_factory=list)
    new_run: UUID = field(default_factory=uuid4)

    async def accept(self, event: Event, intakes: Sequence[Intake], payload: bytes) -> Receipt:
        self.accepted.append((event, tuple(intakes)))
        return Receipt(event_id=event.id, status="accepted", run_id=self.new_run)


@dataclass
class MemoryOverrides:
    """`Overrides`."""

    added: list[tuple[Any, ...]] = field(default_factory=list)

    async def add(self, *row: Any) -> None:
        self.added.append(row)


@dataclass
class House:
    """An application with API and pages, and what stands behind it."""

    app: FastAPI
    client: httpx.AsyncClient
    store: MemoryStore
    votes: MemoryVotes
    log: MemoryLog
    overrides: MemoryOverrides
    hinted: list[UUID]
    clock: SetClock
    metrics: Metrics
    up: dict[str, bool]

    async def get(self, path: str, token: str | None = DEVELOPER, **headers: str) -> httpx.Response:
        """GET as a program."""
        return await self.client.get(path, headers={**_bearer(token), **headers})

    async def post(self, path: str, data: Any, token: str | None = MANAGER) -> httpx.Response:
        """POST JSON as a program."""
        return await self.client.post(path, json=data, headers=_bearer(token))

    async def page(self, path: str, token: str | None = DEVELOPER) -> httpx.Response:
        """GET as a person with a browser."""
        return await self.get(path, token, accept="text/html,application/xhtml+xml")

    async def sign_in(self, token: str) -> None:
        """Get a session cookie, as the sign-in link gives it."""
        answer = await self.client.get("/sign-in", params={"token": token})
        assert answer.status_code == 303

    def store_count(self, state: RunState) -> int:
        """How many runs of the store are in a state."""
        return sum(one.run.state is state for one in self.store.details.values())

    async def submit(self, path: str, origin: str = "http://testserver", **fields: str) -> Any:
        """Post a form, as a browser with the session does."""
        headers = {"accept": "text/html", "origin": origin, "referer": f"{origin}/approvals"}
        return await self.client.post(path, data=fields, headers=headers)


def _bearer(token: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def furnish(app: FastAPI, *, empty: bool = False, **changes: Any) -> House:
    """Put API, pages and health on `app`, over a twin of the store."""
    store = MemoryStore()
    if not empty:
        scenes.fill(store)
    votes, log, overrides = MemoryVotes(store), MemoryLog(), MemoryOverrides()
    hinted: list[UUID] = []
    clock, metrics = SetClock(), Metrics()
    up = {"database": True, "queue": True}

    async def hint(run: UUID) -> None:
        hinted.append(run)

    async def database() -> bool:
        return up["database"]

    async def queue() -> bool:
        return up["queue"]

    desk = Desk(
        reads=store,
        windows=store,
        pictures=PictureLinks(b"p" * 32),
        votes=votes,
        locks=MemoryLocks(store),
        releases=store,
        tells=EventTells(log, overrides, hint, clock, lambda: 3600.0),
        judge=judge_vote,
        catalogue=lambda: CATALOGUE if not empty else Catalogue(services=()),
        backends=lambda: BACKENDS,
        clock=clock,
        wall=clock,
        override_roles=lambda: ("release-manager", "sre-lead"),
        docs=Path(__file__).parents[2] / "docs",
    )
    desk = replace(desk, **changes)
    gatekeeper = Gatekeeper(BOOK, Sessions(b"k" * 32), clock)
    install(app, desk, gatekeeper, warm=False)
    app.include_router(router_meta(Parts(database, queue, lambda: BACKENDS), desk, metrics))
    app.add_middleware(TimedRequests, metrics=metrics)
    # a 500 has to be seen as the answer it is, so exceptions do not escape the client
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://testserver")
    return House(app, client, store, votes, log, overrides, hinted, clock, metrics, up)


@asynccontextmanager
async def house(**changes: Any) -> AsyncIterator[House]:
    """The application, served in process."""
    app = FastAPI(title="Fermata", docs_url=None, redoc_url=None, openapi_tags=TAGS)
    made = furnish(app, **changes)
    async with made.client:
        yield made
