"""Votes through the API and the pages: judged where they arrive, bound to a digest."""

from __future__ import annotations

from uuid import UUID

from domain.approval import ApprovalRequest, ApprovalState, Vote
from web.desk import Desk
from web.lookup import request_of
from web.problems import Problem
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
    """Record a vote. 404: no such request; 409: not open any more, or the digest is another one;
    403: the person may not answer this question."""
    _check_open(desk, await request_of(desk, approval_id), digest)
    vote = _vote(desk, principal, decision, comment, via)
    request, refusal = await desk.votes.vote(
        approval_id,
        vote,
        digest,
        lambda asked, said, named: desk.judge(asked, said, named, said.at),
    )
    if refusal is not None:
        # somebody else may have answered in between
        _check_open(desk, request, digest)
        raise Problem(403, _sentence(refusal), "The request names who may answer it.")
    return request


def _vote(desk: Desk, principal: Principal, decision: str, comment: str, via: str) -> Vote:
    return Vote(
        principal=principal.name,
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
