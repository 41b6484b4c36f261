"""Part of the composition root: the house's app, with everything a request may reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID

from fastapi import FastAPI
from starlette.types import ASGIApp

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.clock import Clock
from domain.decision import Requirement
from domain.service import Catalogue
from nodes.standing import Heads, WhoMay, teams_named
from policy.votes import judge_vote
from settings import Settings
from store.approvals import Approvals, Judge
from store.books import Books
from store.queue import Hints
from store.roles import Standing
from tools.ports import ForgeReader
from tools.toolbox import Backend
from web.audit import router_audit
from web.auth import Gatekeeper, Sessions, create_admin_token, session_key
from web.desk import Desk
from web.intake import ShortWay, routers
from web.lingering import Lingering
from web.meta import AuditPart, Parts, router_meta
from web.metrics import Metrics, TimedRequests
from web.policy_file import PolicyInForce
from web.proxy import TrustedProxy
from web.receive import Edge
from web.revival import Revival
from web.roles import state_roles
from web.sharing import PictureLinks
from web.sinks import CleanErrors, Sinks
from web.site import TAGS, install
from web.tells import EventTells
from web.token_file import TokenFile
from web.tokens import TokenBook


@dataclass(frozen=True)
class Access:
    """Who may come in. `admin_token` is the one made on first start, where no file names tokens."""

    gatekeeper: Gatekeeper
    pictures: PictureLinks
    admin_token: str | None = None


def open_access(settings: Settings) -> Access:
    """Tokens from FERMATA_TOKENS, or one admin token of this data folder. Raises SourceError, also
    for a trusted proxy that is not named properly."""
    key = session_key(settings.fermata_data)
    https = (settings.fermata_url or "").lower().startswith("https://")
    sessions, pictures = Sessions(key, secure=https), PictureLinks(key)
    proxy = (
        TrustedProxy.of(
            settings.fermata_trusted_proxy_header,
            settings.fermata_trusted_proxies,
            settings.fermata_trusted_proxy_roles_header or "",
        )
        if settings.fermata_trusted_proxy_header
        else None
    )
    if settings.fermata_tokens is not None:
        tokens = TokenFile.open(settings.fermata_tokens)
        return Access(Gatekeeper(tokens, sessions, proxy=proxy), pictures)
    token = create_admin_token(settings.fermata_data)
    book = TokenBook().with_token(token, "admin", ("admin",))
    return Access(Gatekeeper(book, sessions, proxy=proxy), pictures, token)


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
    sinks: Sinks,
    standing: Standing,
    forge: ForgeReader,
    warned: Callable[[], tuple[str, ...]] = tuple,
) -> ASGIApp:
    """The application: intake, API, pages, health. `warned`: what to tell beside its own
    warnings."""

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

    who, heads = WhoMay(forge, policy.rules), Heads(forge)

    async def teams_of(login: str, asked: Requirement) -> tuple[str, ...]:
        return await who.teams_of(login, teams_named(asked))

    async def head_refusal(request: ApprovalRequest) -> str | None:
        detail = await books.queries.run_detail(request.run_id)
        if detail is None:
            return None
        return await heads.refusal(request, detail.event, detail.run.goal)

    def roles() -> frozenset[str]:
        return policy.rules().roles

    gatekeeper = replace(access.gatekeeper, roles=roles)

    def warnings() -> tuple[str, ...]:
        tokens = gatekeeper.tokens
        problem = tokens.problem if isinstance(tokens, TokenFile) else ""
        return (*policy.warnings, *((problem,) if problem else ()), *warned())

    edge = Edge(
        events=metrics.counted(books.events),
        hint=hints.note,
        catalogue=lambda: catalogue,
        secrets=tuple(s.get_secret_value().encode() for s in settings.github_webhook_secret),
        tokens=gatekeeper.tokens,
        roles=roles,
        clock=clock,
        refuse=books.refusals.add,
        clean=sinks.values.redact_model,
        revive=Revival(books.queries).of,
    )
    desk = Desk(
        mask=sinks.redactor.redact,
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
        warnings=warnings,
        teams_of=teams_of,
        head_refusal=head_refusal,
        refusals=books.refusals.of_run,
        latest_refusals=books.refusals.latest,
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
                warnings,
            ),
            desk,
            metrics,
        )
    )
    app.include_router(router_audit(books.audit))
    install(app, desk, gatekeeper)
    app.add_middleware(TimedRequests, metrics=metrics)
    state_roles(app)

    def refusing(answering: ASGIApp) -> ASGIApp:
        return Lingering(CleanErrors(answering, sinks.redactor))

    return ShortWay(app, intake, metrics, refusing)
