"""Approvals: when people have to be asked, and whether they have said yes to exactly this."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from domain.approval import ApprovalRequest, ApprovalState, Vote, unheard_owners
from domain.decision import MatchedRule, Outcome, Requirement
from domain.evidence import OwnedPath
from domain.plan import RiskClass
from policy.finding import Case, Finding, allow, answered, ask, deny
from policy.rules import ApprovalRules
from policy.votes import same_person, voter_refusal

_GIVEN = frozenset({ApprovalState.APPROVED, ApprovalState.SPENT})


_RISKS = frozenset(one.value for one in RiskClass)


class Settled(NamedTuple):
    """What has become of the questions: findings in their place, and what is still asked for."""

    findings: tuple[Finding, ...]
    requirement: Requirement | None = None
    until: datetime | None = None
    """When the pending question escalates or expires, if that is still to come."""


class Tally(NamedTuple):
    """Approvals that count, and a sentence for each that does not."""

    given: tuple[Vote, ...]
    refused: tuple[str, ...]


def findings(case: Case) -> tuple[Finding, ...]:
    """The approval that environment and risk class call for."""
    need = case.rules.approvals.needed.get((case.listed or "", case.risk))
    if need is None:
        return ()
    who = _who(need.roles, need.teams)
    required = ask(
        "approval.required",
        f"{case.place} at risk {case.risk} needs {need.count} "
        f"approval{'s' if need.count > 1 else ''} by {who}.",
        f"`/approve` by {who}.",
    )
    return (required, *_owners(case)) if need.code_owners else (required,)


def _owners(case: Case) -> Iterator[Finding]:
    """Whose code the change touches; who that is may not be known."""
    owned = case.facts.owned
    if owned is None:
        yield answered(
            case.rules.approvals.unknown_owners,
            "approval.owners_unknown",
            f"Whose code the change of {case.place} touches is not known: "
            f"{case.facts.owned_unknown or 'CODEOWNERS was not read'}.",
            "Make the forge reachable, then `/retry`",
        )
        return
    for group, paths in _groups(owned).items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        yield ask(
            "approval.owners",
            f"{paths[0]}{more} belongs to {' or '.join(group)}.",
            f"`/approve` by {' or '.join(group)}.",
        )


def _groups(owned: Sequence[OwnedPath]) -> dict[tuple[str, ...], list[str]]:
    """Paths by those who own them; what nobody owns needs nobody."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for one in owned:
        if one.owners:
            groups.setdefault(one.owners, []).append(one.path)
    return groups


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
    requirement = requirement_for(case, asks)
    if request is None:
        return Settled(tuple(asks), requirement)
    tally = count(case, request, requirement)
    if _is_over(request, case.now):
        return Settled((*asks, _expired(request)), requirement)
    new = _new_violations(case, request, asks)
    if new:
        return Settled((*asks, _policy_changed(case, request, new)), requirement)
    unheard = unheard_owners(requirement, tally.given)
    if request.state in _GIVEN and len(tally.given) >= requirement.count and not unheard:
        return Settled((_granted(case, request, tally, asks),))
    return Settled(
        (*asks, *_so_far(request, tally, requirement)), requirement, _next_turn(request, case.now)
    )


def requirement_for(case: Case, asks: Sequence[Finding] = ()) -> Requirement:
    """What is asked for here: the row of environment and risk class, or `approvals.otherwise`;
    with the code owners of what changes, and the rules that ask."""
    approvals = case.rules.approvals
    need = approvals.needed.get((case.listed or "", case.risk)) or approvals.otherwise
    owners = tuple(_groups(case.facts.owned or ())) if need.code_owners else ()
    names = tuple(sorted({one.rule.rule for one in asks}))
    return _requirement(approvals, case.listed or "", case.risk, owners, names)


@lru_cache(maxsize=1024)
def _requirement(
    approvals: ApprovalRules,
    listed: str,
    risk: RiskClass,
    owners: tuple[tuple[str, ...], ...],
    asks: tuple[str, ...],
) -> Requirement:
    need = approvals.needed.get((listed, risk)) or approvals.otherwise
    return need.model_copy(update={"owners": owners, "asks": asks})


def _new_violations(
    case: Case, request: ApprovalRequest, asks: Sequence[Finding]
) -> tuple[str, ...]:
    """What a policy other than the one that asked has against the change on top, in words.

    An answer given under another policy holds as long as nothing is asked, and no risk seen, that
    was not there when it was given.
    """
    if request.policy_digest == case.rules.digest:
        return ()
    new = sorted({one.rule.rule for one in asks} - set(request.requirement.asks))
    if request.risk not in _RISKS or case.risk.rank > RiskClass(request.risk).rank:
        new.append(f"risk {case.risk.value} instead of {request.risk or 'none'}")
    return tuple(new)


def _policy_changed(case: Case, request: ApprovalRequest, new: tuple[str, ...]) -> Finding:
    return ask(
        "approval.policy_changed",
        f"The question was put under policy {request.policy_digest[:12]}; the policy in force is "
        f"{case.rules.digest[:12]}, and on top there is {', '.join(new)}.",
        "It is asked anew; answers to the earlier question no longer count.",
    )


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
    opened_by = case.facts.change.opened_by
    opener = (opened_by.login,) if opened_by is not None else ()
    return (request.author, *request.authors, case.facts.change.author.login, *opener)


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


def _granted(
    case: Case, request: ApprovalRequest, tally: Tally, asks: Sequence[Finding]
) -> Finding:
    who = " and ".join(f"{one.principal} ({', '.join(one.roles)})" for one in tally.given)
    covers = ", ".join(dict.fromkeys(one.rule.rule for one in asks))
    return allow(
        "approval.granted",
        f"Approved by {who} for exactly this (digest {request.digest[:12]}); it covers {covers}."
        f"{_kept(case, request)}",
    )


def _kept(case: Case, request: ApprovalRequest) -> str:
    if request.policy_digest == case.rules.digest:
        return ""
    return (
        f" The policy has changed since, from {request.policy_digest[:12]} to "
        f"{case.rules.digest[:12]}, and asks for nothing new, so the answer is kept."
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
        remedy=_still(request, tally, requirement),
    )
    yield Finding(matched)


def _still(request: ApprovalRequest, tally: Tally, requirement: Requirement) -> str:
    """Who has to answer yet."""
    more = requirement.count - len(tally.given)
    unheard = unheard_owners(requirement, tally.given)
    if more <= 0 and not unheard:
        return f"The request is {request.state.value}; it is asked anew."
    parts = [f"{more} more by {_who(requirement.roles, requirement.teams)}"] if more > 0 else []
    parts += [f"one of {' or '.join(group)}" for group in unheard]
    return f"{'; '.join(parts)}."


def _next_turn(request: ApprovalRequest, now: datetime) -> datetime | None:
    """When a pending request escalates or expires, whichever comes next."""
    if request.state is not ApprovalState.PENDING:
        return None
    turns = [request.expires_at]
    if request.requirement.escalate_seconds is not None:
        turns.append(request.requested_at + timedelta(seconds=request.requirement.escalate_seconds))
    return min((one for one in turns if one > now), default=None)


@lru_cache(maxsize=256)
def _who(roles: tuple[str, ...], teams: tuple[str, ...]) -> str:
    return " or ".join([*roles, *(f"team {one}" for one in teams)]) or "anyone with a role"
