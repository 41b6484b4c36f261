"""Part of the composition root: the house's app, with everything a request may reach."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from fastapi import FastAPI
from starlette.types import ASGIApp

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.clock import Clock
from domain.service import Catalogue
from policy.votes import judge_vote
from settings import Settings
from store.approvals import Approvals, Judge
from store.books import Books
from store.queue import Hints
from store.roles import Standing
from tools.toolbox import Backend
from web.audit import router_audit
from web.auth import Gatekeeper, Sessions, create_admin_token, session_key
from web.desk import Desk
from web.intake import ShortWay, routers
from web.lingering import Lingering
from web.meta import AuditPart, Parts, router_meta
from web.metrics import Metrics, TimedRequests
from web.policy_file import PolicyInForce
from web.receive import Edge
from web.revival import Revival
from web.sharing import PictureLinks
from web.site import TAGS, install
from web.tells import EventTells
from web.tokens import TokenBook


@dataclass(frozen=True)
class Access:
    """Who may come in. `admin_token` is the one made on first start, where no file names tokens."""

    gatekeeper: Gatekeeper
    pictures: PictureLinks
    admin_token: str | None = None


def open_access(settings: Settings) -> Access:
    """Tokens from FERMATA_TOKENS, or one admin token of this data folder. Raises SourceError."""
    key = session_key(settings.fermata_data)
    sessions, pictures = Sessions(key), PictureLinks(key)
    if settings.fermata_tokens is not None:
        return Access(Gatekeeper(TokenBook.load(settings.fermata_tokens), sessions), pictures)
    token = create_admin_token(settings.fermata_data)
    book = TokenBook().with_token(token, "admin", ("admin",))
    return Access(Gatekeeper(book, sessions), pictures, token)


@dataclass(frozen=True)
class PromptVotes:
    """Votes whose run is hinted at once, so that nobody waits for the sweeper."""

    approvals: Approvals
    hints: Hints

    async def list(self, state: ApprovalState | None, limit: int) -> list[ApprovalRequest]:
        """See `web.desk.Votes`."""
        return await self.approvals.list(state, limit)

    async def refusals(self, approval_id: UUID) -> tuple[tuple[Vote, str], ...]:
        """See `web.desk.Votes`."""
        return await self.approvals.refusals(approval_id)

    async def get(self, approval_id: UUID) -> ApprovalRequest | None:
        """See `web.desk.Votes`."""
        return await self.approvals.get(approval_id)

    async def vote(
        self, approval_id: UUID, vote: Vote, digest: str, judge: Judge
    ) -> tuple[ApprovalRequest, str | None]:
        """See `web.desk.Votes`."""
        request, refusal = await self.approvals.vote(approval_id, vote, digest, judge)
        await self.hints.enqueue(request.run_id)
        return request, refusal


def make_app(
    *,
    settings: Settings,
    books: Books,
    hints: Hints,
    catalogue: Catalogue,
    policy: PolicyInForce,
    backends: tuple[Backend, ...],
    clock: Clock,
    access: Access,
    metrics: Metrics,
    standing: Standing,
) -> ASGIApp:
    """The application: intake, API, pages, health."""

    async def hint(run_id: UUID) -> None:
        await hints.enqueue(run_id)

    async def database_answers() -> bool:
        return bool(await books.database.value("SELECT 1", {}) == 1)

    async def audit() -> AuditPart:
        head = await books.audit.head()
        return AuditPart(
            guard=standing.guard,
            detail=standing.detail,
            seq=head.seq if head else 0,
            head=head.hash if head else "",
        )

    edge = Edge(
        events=metrics.counted(books.events),
        hint=hints.note,
        catalogue=lambda: catalogue,
        secrets=tuple(s.get_secret_value().encode() for s in settings.github_webhook_secret),
        tokens=access.gatekeeper.tokens,
        clock=clock,
        revive=Revival(books.queries).of,
    )
    desk = Desk(
        reads=books.queries,
        windows=books.verdicts,
        pictures=access.pictures,
        votes=PromptVotes(books.approvals, hints),
        locks=books.locks,
        releases=books.releases,
        tells=EventTells(
            metrics.counted(books.events),
            books.overrides,
            hint,
            clock,
            lambda: policy.rules().override_seconds,
        ),
        judge=judge_vote,
        catalogue=lambda: catalogue,
        backends=lambda: backends,
        clock=clock,
        override_roles=lambda: policy.rules().override_roles,
        warnings=lambda: policy.warnings,
    )
    app = FastAPI(
        title="Fermata",
        summary="Event-driven, agentic DevOps on one state graph",
        version="0.1.0",
        docs_url=None,
        redoc_url=None,
        openapi_tags=TAGS,
    )
    intake = routers(edge)
    for router in intake:
        app.include_router(router)
    app.include_router(
        router_meta(
            Parts(
                database_answers,
                hints.healthy,
                lambda: backends,
                audit,
                lambda: policy.warnings,
            ),
            desk,
            metrics,
        )
    )
    app.include_router(router_audit(books.audit))
    install(app, desk, access.gatekeeper)
    app.add_middleware(TimedRequests, metrics=metrics)
    return Lingering(ShortWay(app, intake, metrics))
