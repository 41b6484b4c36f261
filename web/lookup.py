"""Finding what a request names: a run by id or its beginning, a request, what is live where."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from uuid import UUID

from domain.approval import ApprovalRequest, Vote
from domain.service import Environment, Service
from store.records import ReleaseRow, RunDetail
from web.desk import Desk
from web.problems import Problem, shown

_PREFIX = re.compile(r"[0-9a-f-]{6,36}", re.IGNORECASE)


async def detail_of(desk: Desk, name: str) -> RunDetail:
    """The run with that id or unique beginning of one; 404 or 409 (several) otherwise."""
    detail = await desk.reads.run_detail(await _id_of(desk, name))
    if detail is None:
        raise _no_run(name)
    return detail


async def _id_of(desk: Desk, name: str) -> UUID:
    try:
        return UUID(name)
    except ValueError:
        pass
    if not _PREFIX.fullmatch(name):
        raise _no_run(name)
    found = await desk.reads.find_run(name.lower())
    if not found:
        raise _no_run(name)
    if len(found) > 1:
        some = ", ".join(str(one.id)[:13] for one in found[:3])
        raise Problem(409, f"Several runs begin with {shown(name)}.", f"Give more of it: {some}.")
    return found[0].id


def _no_run(name: str) -> Problem:
    return Problem(404, f"There is no run {shown(name)}.", "GET /api/runs lists them.")


async def request_of(desk: Desk, approval_id: UUID) -> ApprovalRequest:
    """The request with that id, or a 404."""
    request = await desk.votes.get(approval_id)
    if request is None:
        raise Problem(
            404,
            f"There is no request for approval {approval_id}.",
            "GET /api/approvals?status=pending lists those that are open.",
        )
    return request


async def refused_votes(desk: Desk, detail: RunDetail) -> dict[UUID, tuple[tuple[Vote, str], ...]]:
    """Votes on a run's requests that do not count, with the reasons, by request."""
    ids = [request.id for request in detail.approvals]
    found = await asyncio.gather(*(desk.votes.refusals(one) for one in ids))
    return dict(zip(ids, found, strict=True))


async def live_versions(
    desk: Desk, services: Sequence[Service], limit: int
) -> dict[tuple[str, str], list[ReleaseRow]]:
    """The latest good and bad versions of every target, read side by side."""
    targets: list[tuple[Service, Environment]] = [
        (service, environment) for service in services for environment in service.environments
    ]
    rows = await asyncio.gather(*(desk.releases.history(s.name, e.name, limit) for s, e in targets))
    return {(s.name, e.name): row for (s, e), row in zip(targets, rows, strict=True)}
