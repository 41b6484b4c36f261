"""Votes: whose word counts on a request for approval, as one pure judgement for every door."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.decision import Requirement


def is_bot(login: str) -> bool:
    """Whether a login is a GitHub App's (`name[bot]`)."""
    return login.casefold().endswith("[bot]")


def same_person(one: str, other: str) -> bool:
    """Logins are compared without case, as the forge does."""
    return one.casefold() == other.casefold()


def roles_at(requirement: Requirement, requested_at: datetime, at: datetime) -> tuple[str, ...]:
    """Roles that may answer at a time; empty: anyone. Escalation adds roles, it removes none."""
    escalate = requirement.escalate_seconds
    if escalate is None or not (requirement.roles or requirement.teams):
        return requirement.roles
    if at < requested_at + timedelta(seconds=escalate):
        return requirement.roles
    return tuple(dict.fromkeys((*requirement.roles, *requirement.escalate_roles)))


def _fold(names: tuple[str, ...]) -> set[str]:
    return {one.casefold() for one in names}


def who_may(requirement: Requirement) -> tuple[str, ...]:
    """Roles, teams and code owners that may answer from the start, in words; empty: any role."""
    return _who_may(requirement, requirement.roles)


def _who_may(requirement: Requirement, roles: tuple[str, ...]) -> tuple[str, ...]:
    teams = tuple(f"team {one}" for one in requirement.teams)
    return (*roles, *teams, *(("code owners",) if requirement.owners else ()))


def judge_vote(request: ApprovalRequest, vote: Vote, digest: str, now: datetime) -> str | None:
    """Why a vote is refused, as one sentence for the voter; None when it counts.

    `digest` is the one that the voter saw; it has to be the request's own, in full.
    """
    if vote.decision not in ("approve", "reject"):
        return "A vote is either approve or reject."
    if request.state is not ApprovalState.PENDING:
        return f"The request is no longer pending: it is {request.state.value}."
    if now >= request.expires_at:
        return f"The request expired at {request.expires_at:%Y-%m-%d %H:%M} UTC."
    if digest != request.digest:
        return (
            f"The vote is for {digest[:12] or 'nothing'}, but the request is for "
            f"{request.digest[:12]}: what is asked has changed, look at it again."
        )
    if any(same_person(one.principal, vote.principal) for one in request.votes):
        return f"{vote.principal} has already voted on this request."
    return voter_refusal(request, request.requirement, vote, (request.author, *request.authors))


def voter_refusal(
    request: ApprovalRequest, requirement: Requirement, vote: Vote, authors: tuple[str, ...]
) -> str | None:
    """Why this voter's word does not count under a requirement; None when it does.

    Authors may not approve their own change unless the requirement lets them; they may reject it.
    """
    if not vote.principal.strip():
        return "A vote needs a name."
    if is_bot(vote.principal):
        return f"{vote.principal} is a bot; only people may vote."
    own = any(same_person(vote.principal, author) for author in authors)
    if own and vote.decision == "approve" and not requirement.allow_author:
        return f"{vote.principal} made this change; somebody else has to approve it."
    roles = roles_at(requirement, request.requested_at, vote.at)
    if (roles or requirement.teams) and not (
        set(roles) & set(vote.roles)
        or _fold(requirement.teams) & _fold(vote.teams)
        or any(vote.is_owner(group) for group in requirement.owners)
    ):
        return (
            f"{vote.principal} has none of the roles that may vote here: "
            f"{', '.join(_who_may(requirement, roles))}."
        )
    return None
