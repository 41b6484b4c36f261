"""The pages: server-rendered, complete without JavaScript. They show; `policy/` decides."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment

from domain.address import split_address
from domain.approval import ApprovalRequest, ApprovalState
from domain.run import RunState
from store.records import RunRow
from store.releases import still_good
from web import docs
from web.answers import BackendAnswer
from web.api import page_of_runs, run_state
from web.auth import require
from web.desk import Desk
from web.limits import read_body
from web.lookup import detail_of, live_versions, refused_votes
from web.problems import Problem
from web.rendering import environment
from web.roles import ACTOR, VIEWER
from web.shapes import STORABLE
from web.tells import SIGNALS, tell
from web.tokens import Principal
from web.topology import BOX_HEIGHT, BOX_WIDTH, HEIGHT, WIDTH
from web.views import ApprovalView, approval_view, event_sentence, run_view
from web.voting import cast, voter

Who = Annotated[Principal, Depends(require(VIEWER))]
Acts = Annotated[Principal, Depends(require(ACTOR))]

PAGE_ROWS = 40
MOST_PENDING = 100
FORM_BYTES = 64 * 1024
GRAPH = {"width": WIDTH, "height": HEIGHT, "box_width": BOX_WIDTH, "box_height": BOX_HEIGHT}
TOLD = {
    "approve": "Your approval was recorded.",
    "reject": "Your rejection was recorded.",
    "signalled": "The run was told.",
    "started": "The change was begun anew; this is its new run.",
}
HEADINGS = {
    400: "That could not be understood",
    401: "Please sign in",
    403: "That is not yours to do",
    404: "There is nothing here",
    405: "That cannot be done here",
    409: "That is no longer possible",
    422: "Something is missing or wrong",
    503: "The database does not answer",
}


@dataclass(frozen=True)
class Pages:
    """Renders the pages of one desk."""

    desk: Desk

    @cached_property
    def templates(self) -> Environment:
        """The templates, compiled on first use."""
        return environment(self.desk)

    def warm(self) -> None:
        """Compile all templates."""
        for name in self.templates.list_templates():
            self.templates.get_template(name)

    async def show(
        self, request: Request, who: Principal, template: str, **values: Any
    ) -> Response:
        """A page inside the frame, with an ETag so that live pages ask cheaply."""
        pending = await self.desk.votes.list(ApprovalState.PENDING, MOST_PENDING)
        html = self.render(request, template, who=who, pending=len(pending), **values)
        tag = f'W/"{hashlib.sha256(html.encode()).hexdigest()[:24]}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"ETag": tag})
        return HTMLResponse(html, headers={"ETag": tag})

    def render(
        self,
        request: Request,
        template: str,
        *,
        who: Principal | None = None,
        pending: int = 0,
        **values: Any,
    ) -> str:
        """A template with what the frame needs. Touches no database."""
        backends = [BackendAnswer.of(one) for one in self.desk.backends()]
        return self.templates.get_template(template).render(
            who=who,
            pending=pending,
            here=_section(request.url.path),
            base=str(request.base_url).rstrip("/"),
            warnings=list(self.desk.warnings()),
            not_real=[one for one in backends if one.mode != "real"],
            **values,
        )

    def sign_in(self, request: Request, message: str) -> Response:
        """The sign-in page (a `web.auth.SignInPage`)."""
        path = request.url.path
        here = path if path != "/sign-in" else request.query_params.get("next", "/")
        html = self.render(request, "sign_in.html", message=message, next=here)
        return HTMLResponse(html)

    def problem(
        self, request: Request, who: Principal | None, status: int, error: str, hint: str
    ) -> Response:
        """A page for what went wrong; for a missing sign-in, the form itself."""
        if status == 401:
            came_signed_in = bool(request.headers.get("cookie"))
            answer = self.sign_in(request, f"{error} {hint}" if came_signed_in else "")
            answer.status_code = 401
            return answer
        html = self.render(
            request,
            "problem.html",
            who=who,
            status=status,
            heading=HEADINGS.get(status, "Something went wrong"),
            error=error,
            hint=hint,
            back=_came_from(request),
        )
        return HTMLResponse(html, status_code=status)


def router_pages(pages: Pages) -> APIRouter:
    """All pages. The application carries its `Gatekeeper`; `web.site` answers their problems."""
    router = APIRouter(include_in_schema=False)
    router.include_router(_runs(pages))
    router.include_router(_approvals(pages))
    router.include_router(_others(pages))
    router.include_router(_docs(pages))
    return router


def _runs(pages: Pages) -> APIRouter:
    router, desk = APIRouter(), pages.desk

    @router.get("/")
    async def list_page(
        request: Request,
        who: Who,
        state: str = "",
        service: Annotated[str, Query(pattern=STORABLE)] = "",
        repo: Annotated[str, Query(pattern=STORABLE)] = "",
        before: UUID | None = None,
    ) -> Response:
        rows, more = await page_of_runs(
            desk, run_state(state), service or None, repo or None, PAGE_ROWS, before
        )
        filters = {"state": state, "service": service, "repo": repo}
        counts = await desk.reads.counts_by_state()
        catalogue = desk.catalogue().services
        return await pages.show(
            request,
            who,
            "runs.html",
            runs=rows,
            next=_older(filters, rows) if more else "",
            filters=filters,
            filtered=any(filters.values()),
            paged=before is not None,
            counts=[(one, counts.get(one, 0)) for one in RunState],
            states=list(RunState),
            services=[one.name for one in catalogue],
            repos=sorted({one.repo for one in catalogue}),
            example=_example(desk),
        )

    @router.get("/runs/{run}")
    async def run_page(request: Request, who: Who, run: str, told: str = "") -> Response:
        detail = await detail_of(desk, run)
        if run != str(detail.run.id):
            return RedirectResponse(f"/runs/{detail.run.id}", status_code=302)
        return await pages.show(
            request,
            who,
            "run.html",
            view=run_view(desk, detail, who, await refused_votes(desk, detail)),
            graph=GRAPH,
            told=TOLD.get(told, ""),
        )

    @router.post("/runs/{run}/signals")
    async def signal_form(request: Request, who: Acts, run: str) -> Response:
        form = await read_form(request)
        kind = SIGNALS.get(form.get("kind", ""))
        if kind is None:
            raise Problem(422, "The form does not say what to tell the run.", "Use its buttons.")
        told = await tell(desk, await detail_of(desk, run), kind, who, form.get("reason", ""))
        return RedirectResponse(f"/runs/{told.run_id}?told={told.status}", status_code=303)

    return router


def _approvals(pages: Pages) -> APIRouter:
    router, desk = APIRouter(), pages.desk
    may_vote = voter(desk)

    @router.get("/approvals")
    async def approvals_page(request: Request, who: Who, told: str = "") -> Response:
        pending = await desk.votes.list(ApprovalState.PENDING, MOST_PENDING)
        recent = await desk.votes.list(None, PAGE_ROWS)
        asking = await desk.reads.list_runs(state=RunState.NEEDS_APPROVAL, limit=MOST_PENDING)
        latest = await desk.reads.list_runs(limit=MOST_PENDING)
        plans = {run.id: run.plan for run in (*latest, *asking)}

        listed = {one.id: one for one in (*pending, *recent)}
        tried = await asyncio.gather(*(desk.votes.refusals(one) for one in listed))
        refused = dict(zip(listed, tried, strict=True))

        def view(request_: ApprovalRequest) -> ApprovalView:
            plan = plans.get(request_.run_id)
            return approval_view(desk, request_, who, plan, refused[request_.id])

        shown = {one.id for one in pending}
        return await pages.show(
            request,
            who,
            "approvals.html",
            open=[view(one) for one in pending],
            settled=[view(one) for one in recent if one.id not in shown],
            told=TOLD.get(told, ""),
        )

    @router.post("/approvals/{approval_id}")
    async def vote_form(
        request: Request, approval_id: UUID, who: Principal = Depends(may_vote)
    ) -> Response:
        form = await read_form(request)
        decision = form.get("decision", "")
        if decision not in ("approve", "reject"):
            raise Problem(422, "The form says neither approve nor reject.", "Use its buttons.")
        answered = await cast(
            desk,
            approval_id,
            decision=decision,
            digest=form.get("digest", ""),
            comment=form.get("comment", "")[:2000],
            principal=who,
            via="page",
        )
        place = "/approvals" if form.get("next") == "/approvals" else f"/runs/{answered.run_id}"
        return RedirectResponse(f"{place}?told={decision}", status_code=303)

    return router


def _others(pages: Pages) -> APIRouter:
    router, desk = APIRouter(), pages.desk

    @router.get("/events")
    async def events_page(request: Request, who: Who) -> Response:
        rows = await desk.reads.list_events(100)
        sentences = [(row, event_sentence(row.event)) for row in rows]
        return await pages.show(request, who, "events.html", rows=sentences)

    @router.get("/services")
    async def services_page(request: Request, who: Who) -> Response:
        services = desk.catalogue().services
        versions = await live_versions(desk, services, 20)
        locks = {one.key: one for one in await desk.locks.list()}

        def environments(service: Any) -> list[tuple[Any, ...]]:
            rows = []
            for env in service.environments:
                known = versions[(service.name, env.name)]
                live = still_good(known)
                bad = [one for one in known if one.status == "bad"][:3]
                rows.append((env, live, locks.get(f"{service.name}/{env.name}"), bad))
            return rows

        return await pages.show(
            request,
            who,
            "services.html",
            services=[(one, environments(one)) for one in services],
        )

    return router


def _docs(pages: Pages) -> APIRouter:
    router, folder = APIRouter(), pages.desk.docs

    @router.get("/docs")
    async def docs_index(request: Request, who: Who) -> Response:
        return await pages.show(request, who, "docs_index.html", pages=docs.pages(folder))

    @router.get("/docs/{page:path}")
    async def docs_page(request: Request, who: Who, page: str) -> Response:
        file = docs.find(folder, page)
        if file is None:
            raise Problem(404, "There is no such page in the docs.", "/docs lists them.")
        return await pages.show(
            request,
            who,
            "docs.html",
            page=page,
            heading=docs.heading(file),
            html=docs.render(file.read_text(encoding="utf-8"), page),
        )

    return router


async def read_form(request: Request) -> Mapping[str, str]:
    """Fields of a form post; the first value counts. 415 for anything but a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "This address takes forms.", "The API is under /api.")
    body = (await read_body(request, FORM_BYTES)).decode("utf-8", "replace")
    fields = parse_qs(body, keep_blank_values=True, max_num_fields=50)
    return {name: values[0] for name, values in fields.items()}


def _older(filters: Mapping[str, str], rows: list[RunRow]) -> str:
    query = {name: value for name, value in filters.items() if value}
    return "/?" + urlencode({**query, "before": str(rows[-1].id)})


def _example(desk: Desk) -> dict[str, str]:
    """A service and an environment for the example on the empty page."""
    for service in desk.catalogue().services:
        return {"service": service.name, "environment": service.environments[0].name}
    return {"service": "checkout", "environment": "staging"}


def _section(path: str) -> str:
    """Which entry of the navigation a path belongs to."""
    first = path.strip("/").partition("/")[0]
    return "/" if first in ("", "runs") else f"/{first}"


def _came_from(request: Request) -> str:
    """The page the request came from, when it is one of ours; '' otherwise."""
    came = split_address(request.headers.get("referer", ""))
    ours = came.netloc == request.headers.get("host") and came.path.startswith("/")
    return came.path if ours and came.path != request.url.path else ""
