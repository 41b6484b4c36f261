"""The read API, votes and signals: `/api/…`, JSON in and out."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query

from domain.approval import ApprovalRequest, ApprovalState
from domain.run import RunState
from policy.votes import who_may
from store.records import RunRow
from store.releases import still_good
from web.answers import (
    ApprovalAnswer,
    ApprovalList,
    Ballot,
    EventAnswer,
    EventList,
    LiveAnswer,
    LockAnswer,
    LockList,
    RefusalList,
    RefusedVote,
    RunAnswer,
    RunList,
    RunSummary,
    ServiceAnswer,
    ServiceList,
    SignalAnswer,
    SignalBody,
    WindowList,
    refusals,
)
from web.auth import API_KEY, BEARER, Principal, require
from web.desk import Desk
from web.lookup import detail_of, live_versions, request_of
from web.problems import EdgeRoute, Problem, nearest, shown
from web.roles import ACTOR, VIEWER
from web.shapes import STORABLE
from web.tells import SIGNALS, tell
from web.voting import cast, voter

PREFIX = "/api"
"""Stands on the inner routers, so that each route knows its whole path (metrics name it)."""
MOST_ROWS = 200

Who = Annotated[Principal, Depends(require(VIEWER))]
Acts = Annotated[Principal, Depends(require(ACTOR))]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many at most")]
RunName = Annotated[
    str,
    Path(description="Run id, or a unique beginning of one (6 characters at least)", max_length=36),
]


def router_api(desk: Desk) -> APIRouter:
    """All routes under `/api`. The application carries its `Gatekeeper` (see `web.auth`)."""
    router = APIRouter(
        route_class=EdgeRoute,
        dependencies=[Depends(BEARER), Depends(API_KEY)],
        responses=refusals(401),
    )
    router.include_router(_runs(desk))
    router.include_router(_approvals(desk))
    router.include_router(_catalogue(desk))
    return router


def _runs(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=PREFIX, route_class=EdgeRoute, tags=["runs"])

    @router.get("/runs", summary="List runs", responses=refusals(422))
    async def list_runs(
        _who: Who,
        state: Annotated[str | None, Query(description="Only runs in this state")] = None,
        service: Annotated[
            str | None, Query(description="Only runs of this service", pattern=STORABLE)
        ] = None,
        repo: Annotated[
            str | None, Query(description="Only runs of this repository", pattern=STORABLE)
        ] = None,
        limit: Limit = 50,
        before: Annotated[
            UUID | None, Query(description="`next` of the page before this one")
        ] = None,
    ) -> RunList:
        """Newest first. Filters are combined; `next` is null on the last page."""
        rows, more = await page_of_runs(desk, run_state(state), service, repo, limit, before)
        return RunList(
            runs=tuple(RunSummary.of(row) for row in rows), next=rows[-1].id if more else None
        )

    @router.get("/runs/{run}", summary="Show one run", responses=refusals(404, 409))
    async def show_run(_who: Who, run: RunName) -> RunAnswer:
        """State and reason, plan, steps with their status, every decision with every rule that
        matched, approvals, effects with the decision (and approval) that allowed them, verdicts,
        signals, and the way through the graph. 409 when several runs begin with what was given."""
        return RunAnswer.from_detail(await detail_of(desk, run), desk.backends())

    @router.get("/runs/{run}/windows", summary="Show what was measured", responses=refusals(404))
    async def show_windows(_who: Who, run: RunName) -> WindowList:
        """Every window of counts that the run's checks read, by step, oldest first."""
        found = await desk.windows.windows((await detail_of(desk, run)).run.id)
        return WindowList(steps={step: tuple(windows) for step, windows in found.items()})

    @router.post(
        "/runs/{run}/signals",
        summary="Hold, resume, cancel, retry or override a run",
        responses=refusals(403, 404, 409, 422),
    )
    async def signal_run(who: Acts, run: RunName, body: SignalBody) -> SignalAnswer:
        """`hold`, `resume` and `cancel` steer a run that is under way; `cancel` takes back what
        has begun. `retry` begins the change again after it was denied, failed or rolled back.
        `override` lifts change windows for a limited time; it needs a reason and a role that the
        policy names, and is logged."""
        told = await tell(desk, await detail_of(desk, run), SIGNALS[body.kind], who, body.reason)
        return SignalAnswer(run_id=told.run_id, status=told.status)

    return router


def _approvals(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=PREFIX, route_class=EdgeRoute, tags=["approvals"])
    may_vote = voter(desk)

    @router.get("/approvals", summary="List requests for approval", responses=refusals(422))
    async def list_approvals(
        _who: Who,
        status: Annotated[str | None, Query(description="pending, approved, rejected, …")] = None,
        limit: Limit = 50,
    ) -> ApprovalList:
        """Newest first."""
        return ApprovalList(approvals=tuple(await desk.votes.list(approval_state(status), limit)))

    @router.get("/approvals/{approval_id}", summary="Show one request", responses=refusals(404))
    async def show_approval(_who: Who, approval_id: UUID) -> ApprovalAnswer:
        """What a yes says in full (plan, head, base, policy, place, risk, until when), who may
        answer, the votes that count, and everything that was refused, with the reason."""
        request = await request_of(desk, approval_id)
        votes = await desk.votes.refusals(approval_id)
        return ApprovalAnswer(
            request=request,
            may_answer=who_may(request.requirement),
            refused=tuple(RefusedVote(vote=vote, reason=reason) for vote, reason in votes),
            refusals=tuple(await desk.refusals(request.run_id)),
        )

    @router.get("/refusals", summary="List commands that were refused")
    async def list_refusals(_who: Who, limit: Limit = 50) -> RefusalList:
        """Newest first: edited comments, bots, replays, people without the role. Votes that do not
        count stand with their request."""
        return RefusalList(refusals=tuple(await desk.latest_refusals(limit)))

    @router.post(
        "/approvals/{approval_id}",
        summary="Approve or reject",
        responses=refusals(403, 404, 409, 422),
    )
    async def vote(
        approval_id: UUID, ballot: Ballot, who: Principal = Depends(may_vote)
    ) -> ApprovalRequest:
        """Answers with the request as it is after the vote. 403 when the vote does not count (the
        author of the change, a missing role, a second vote), 409 when the request is not open any
        more or its digest is another one."""
        return await cast(
            desk,
            approval_id,
            decision=ballot.decision,
            digest=ballot.digest,
            comment=ballot.comment,
            principal=who,
            via="api",
        )

    return router


def _catalogue(desk: Desk) -> APIRouter:
    router = APIRouter(prefix=PREFIX, route_class=EdgeRoute)

    @router.get("/events", tags=["events"], summary="List deliveries")
    async def list_events(_who: Who, limit: Limit = 50) -> EventList:
        """Everything that came in, newest first, also what was ignored, with the reason."""
        seen = await desk.reads.list_events(limit)
        return EventList(events=tuple(EventAnswer.of(one) for one in seen))

    @router.get("/locks", tags=["services"], summary="List locks")
    async def list_locks(_who: Who) -> LockList:
        """One change at a time per service and environment: who holds which, who is in line."""
        return LockList(locks=tuple(LockAnswer.of(one) for one in await desk.locks.list()))

    @router.get("/services", tags=["services"], summary="List services")
    async def list_services(_who: Who) -> ServiceList:
        """The catalogue, with the last known good version of each environment."""
        return ServiceList(services=await services_of(desk))

    return router


async def services_of(desk: Desk) -> tuple[ServiceAnswer, ...]:
    """The catalogue with what is live where and who holds which lock."""
    catalogue = desk.catalogue()
    versions = await live_versions(desk, catalogue.services, 20)
    locks = {one.key: LockAnswer.of(one) for one in await desk.locks.list()}

    def live(service: str, environment: str, namespace: str) -> LiveAnswer:
        rows = versions[(service, environment)]
        return LiveAnswer(
            environment=environment,
            namespace=namespace,
            live=still_good(rows),
            lock=locks.get(f"{service}/{environment}"),
        )

    return tuple(
        ServiceAnswer.of(one, [live(one.name, env.name, env.namespace) for env in one.environments])
        for one in catalogue.services
    )


async def page_of_runs(
    desk: Desk,
    state: RunState | None,
    service: str | None,
    repo: str | None,
    limit: int,
    before: UUID | None,
) -> tuple[list[RunRow], bool]:
    """A page of runs, and whether there are more after it."""
    rows = await desk.reads.list_runs(
        state=state, service=service, repo=repo, limit=limit + 1, before=before
    )
    return rows[:limit], len(rows) > limit


def run_state(text: str | None) -> RunState | None:
    """A run state by name; 422 with the nearest one for a name that is none."""
    return RunState(_known("state", text, [one.value for one in RunState])) if text else None


def approval_state(text: str | None) -> ApprovalState | None:
    """The same for states of requests for approval."""
    if not text:
        return None
    return ApprovalState(_known("status", text, [one.value for one in ApprovalState]))


def _known(field: str, text: str, names: list[str]) -> str:
    if text in names:
        return text
    meant = nearest(text, names)
    hint = f"Did you mean {meant}?" if meant else f"It is one of {', '.join(names)}."
    raise Problem(422, f"{shown(text)} is no {field}.", hint, more={"path": field})
