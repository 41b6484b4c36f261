"""Votes through the API and the pages: judged where they arrive, bound to a digest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from fastapi import Request

from domain.approval import ApprovalRequest, ApprovalState, Vote
from web.auth import Gatekeeper
from web.desk import Desk
from web.limits import read_again
from web.lookup import request_of
from web.problems import Problem
from web.roles import ACTOR, VIEWER
from web.tokens import Principal


async def cast(
    desk: Desk,
    approval_id: UUID,
    *,
    decision: str,
    digest: str,
    comment: str,
    principal: Principal,
    via: str,
) -> ApprovalRequest:
    """Record a vote. 404: no such request; 409: not open any more, the digest is another one, or
    the pull request's head is; 403: the person may not answer this question.

    A vote that is refused is recorded as well, with the reason.
    """
    asked = await request_of(desk, approval_id)
    vote = _vote(desk, principal, decision, comment, via)
    if principal.login is not None:
        # only a token that names a login is known to be somebody on the forge
        teams = await desk.teams_of(principal.login, asked.requirement)
        vote = vote.model_copy(update={"teams": teams})
    head = await desk.head_refusal(asked) if is_open(desk, asked) else None
    request, refusal = await desk.votes.vote(
        approval_id,
        vote,
        digest.lower(),
        lambda asked, said, named: desk.judge(asked, said, named, said.at) or head,
    )
    if refusal is not None:
        # somebody else may have answered in between
        _check_open(desk, request, digest)
        status = 409 if refusal == head else 403
        raise Problem(status, _sentence(refusal), "The request names who may answer it.")
    return request


def _vote(desk: Desk, principal: Principal, decision: str, comment: str, via: str) -> Vote:
    return Vote(
        principal=principal.person,
        roles=principal.roles,
        decision=decision,
        comment=comment.strip(),
        via=via,
        at=desk.clock.now(),
    )


def why_not(
    desk: Desk, request: ApprovalRequest, principal: Principal, decision: str
) -> str | None:
    """Why this person's `approve` or `reject` would not count, or None when it would."""
    vote = _vote(desk, principal, decision, "", "page")
    refusal = desk.judge(request, vote, request.digest, vote.at)
    return _sentence(refusal) if refusal is not None else None


def _sentence(text: str) -> str:
    """A refusal with one full stop, whoever worded it (it may begin with a login: no capital)."""
    return f"{text.rstrip('.')}."


def is_open(desk: Desk, request: ApprovalRequest) -> bool:
    """Whether the request can still be answered."""
    return request.state is ApprovalState.PENDING and request.expires_at > desk.clock.now()


def _check_open(desk: Desk, request: ApprovalRequest, digest: str) -> None:
    if request.state is not ApprovalState.PENDING:
        raise Problem(
            409,
            f"The request is {request.state.value} and cannot be answered any more.",
            "Look at the run: it asks again when it needs to.",
        )
    if request.expires_at <= desk.clock.now():
        raise Problem(
            409,
            f"The request expired at {request.expires_at:%Y-%m-%d %H:%M} UTC.",
            "The run asks again when it still needs an answer.",
        )
    if digest.lower() != request.digest:
        raise Problem(
            409,
            "The vote names another digest than the one that is asked about.",
            "What would be done has changed: read the request again, then vote on its digest.",
        )


def voter(desk: Desk) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency: somebody who may vote on something. A vote of anybody else is kept as refused
    where there is such a request, so that it can be seen who tried."""

    async def dependency(request: Request) -> Principal:
        gatekeeper: Gatekeeper = request.app.state.gatekeeper
        principal = gatekeeper.require(request, VIEWER)
        if gatekeeper.admits(principal, ACTOR):
            return principal
        reason = f"{principal.name} may look, and may not vote."
        asked = await _asked(desk, str(request.path_params.get("approval_id", "")))
        if asked is not None:
            decision = "reject" if b"reject" in await read_again(request, 64 * 1024) else "approve"
            vote = _vote(desk, principal, decision, "", "api")
            reason = desk.judge(asked, vote, asked.digest, vote.at) or reason
            await desk.votes.vote(asked.id, vote, asked.digest, lambda *_: reason)
        raise Problem(
            403,
            _sentence(reason),
            "Ask an admin to add a role, such as developer, to your entry in FERMATA_TOKENS.",
        )

    dependency.fermata_role = ACTOR  # type: ignore[attr-defined]
    return dependency


async def _asked(desk: Desk, approval_id: str) -> ApprovalRequest | None:
    try:
        return await desk.votes.get(UUID(approval_id))
    except ValueError:
        return None
