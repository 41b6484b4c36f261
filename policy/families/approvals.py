"""Approvals: when people have to be asked, and whether they have said yes to exactly this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.decision import MatchedRule, Outcome, Requirement
from policy.finding import Case, Finding, allow, ask, deny
from policy.votes import same_person, voter_refusal

_GIVEN = frozenset({ApprovalState.APPROVED, ApprovalState.SPENT})


@dataclass(frozen=True, slots=True)
class Settled:
    """What has become of the questions: findings in their place, and what is still asked for."""

    findings: tuple[Finding, ...]
    requirement: Requirement | None = None
    until: datetime | None = None
    """When the pending question escalates or expires, if that is still to come."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Approvals that count, and a sentence for each that does not."""

    given: tuple[Vote, ...]
    refused: tuple[str, ...]


def findings(case: Case) -> Iterator[Finding]:
    """The approval that environment and risk class call for."""
    need = case.rules.approvals.needed.get((case.listed or "", case.risk))
    if need is not None:
        yield ask(
            "approval.required",
            f"{case.place} at risk {case.risk.value} needs {_asked(need)}.",
            f"`/approve` by {_who(need)}.",
        )


def settle(case: Case, asks: Sequence[Finding]) -> Settled:
    """Weigh the latest request for this very digest against everything that asks for people.

    A rejection denies; enough valid approvals replace the questions by `approval.granted`; an
    expired request is asked anew. Votes are counted here again, whatever the request's state says.
    """
    request = _this_request(case)
    if request is not None and request.state is ApprovalState.REJECTED:
        return Settled((_rejected(request), *asks))
    if not asks:
        return Settled(())
    requirement = requirement_for(case)
    if request is None:
        return Settled(tuple(asks), requirement)
    tally = count(case, request, requirement)
    if _is_over(request, case.now):
        return Settled((*asks, _expired(request)), requirement)
    if request.state in _GIVEN and len(tally.given) >= requirement.count:
        return Settled((_granted(request, tally, asks),))
    return Settled(
        (*asks, *_so_far(request, tally, requirement)), requirement, _next_turn(request, case.now)
    )


def requirement_for(case: Case) -> Requirement:
    """What is asked for here: the row of environment and risk class, or `approvals.otherwise`."""
    approvals = case.rules.approvals
    return approvals.needed.get((case.listed or "", case.risk)) or approvals.otherwise


def count(case: Case, request: ApprovalRequest, requirement: Requirement) -> Tally:
    """Approvals by distinct people who may, in time, under the requirement that holds now."""
    given: list[Vote] = []
    refused: list[str] = []
    authors = _authors(case, request)
    for vote in request.votes:
        if vote.decision != "approve":
            continue
        why = voter_refusal(request, requirement, vote, authors)
        if why is None and vote.at >= request.expires_at:
            why = f"{vote.principal} voted after the request had expired."
        if why is None and _merged(case, vote):
            why = f"{vote.principal} merged this change; somebody else has to approve it."
        if why is not None:
            refused.append(why)
        elif not any(same_person(vote.principal, one.principal) for one in given):
            given.append(vote)
    return Tally(tuple(given), tuple(refused))


def _this_request(case: Case) -> ApprovalRequest | None:
    """The request, when it is for exactly this digest; an empty digest binds nothing."""
    request, digest = case.facts.approval, case.facts.scope_digest
    return request if request is not None and digest and request.digest == digest else None


def _authors(case: Case, request: ApprovalRequest) -> tuple[str, ...]:
    return request.author, case.facts.change.author.login


def _merged(case: Case, vote: Vote) -> bool:
    merger = case.facts.change.merged_by
    return (
        not case.rules.approvals.merger_may_approve
        and merger is not None
        and same_person(vote.principal, merger.login)
    )


def _is_over(request: ApprovalRequest, now: datetime) -> bool:
    """Expired and not used: an approval that was spent in time holds to the end of its scope."""
    if request.state is ApprovalState.EXPIRED:
        return True
    unused = request.state in (ApprovalState.PENDING, ApprovalState.APPROVED)
    return unused and now >= request.expires_at


def _rejected(request: ApprovalRequest) -> Finding:
    votes = [one for one in request.votes if one.decision == "reject"]
    who = ", ".join(one.principal for one in votes) or "someone"
    said = "; ".join(one.comment.strip() for one in votes if one.comment.strip())
    return deny(
        "approval.rejected",
        f"{who} rejected it{': ' + said if said else ''}.",
        "Do what was asked for, then `/retry`.",
    )


def _expired(request: ApprovalRequest) -> Finding:
    return ask(
        "approval.expired",
        f"The request of {request.requested_at:%Y-%m-%d %H:%M} UTC expired at "
        f"{request.expires_at:%Y-%m-%d %H:%M} UTC without being used.",
        "It is asked anew; answer in time.",
    )


def _granted(request: ApprovalRequest, tally: Tally, asks: Sequence[Finding]) -> Finding:
    who = " and ".join(f"{one.principal} ({', '.join(one.roles)})" for one in tally.given)
    covers = ", ".join(dict.fromkeys(one.rule.rule for one in asks))
    return allow(
        "approval.granted",
        f"Approved by {who} for exactly this (digest {request.digest[:12]}); it covers {covers}.",
    )


def _so_far(request: ApprovalRequest, tally: Tally, requirement: Requirement) -> Iterator[Finding]:
    """What has come in already, when it is not enough."""
    if not tally.given and not tally.refused:
        return
    names = ", ".join(one.principal for one in tally.given) or "nobody"
    reason = f"{len(tally.given)} of {requirement.count} given so far ({names})."
    matched = MatchedRule(
        rule="approval.incomplete",
        outcome=Outcome.NEEDS_APPROVAL,
        reason=" ".join((reason, *tally.refused)),
        remedy=f"{requirement.count - len(tally.given)} more by {_who(requirement)}."
        if len(tally.given) < requirement.count
        else f"The request is {request.state.value}; it is asked anew.",
    )
    yield Finding(matched)


def _next_turn(request: ApprovalRequest, now: datetime) -> datetime | None:
    """When a pending request escalates or expires, whichever comes next."""
    if request.state is not ApprovalState.PENDING:
        return None
    turns = [request.expires_at]
    if request.requirement.escalate_seconds is not None:
        turns.append(request.requested_at + timedelta(seconds=request.requirement.escalate_seconds))
    return min((one for one in turns if one > now), default=None)


def _asked(need: Requirement) -> str:
    return f"{need.count} approval{'s' if need.count > 1 else ''} by {_who(need)}"


def _who(need: Requirement) -> str:
    return " or ".join(need.roles) or "anyone with a role"
