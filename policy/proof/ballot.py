"""A request for approval as its rows tell it; its votes are judged anew, by the same rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from domain.approval import ApprovalRequest, ApprovalState, Vote, unheard_owners
from domain.digest import digest_of
from policy.proof.chain import Row
from policy.votes import judge_vote

_REQUEST = frozenset(ApprovalRequest.model_fields)
_VOTE = frozenset(Vote.model_fields)


@dataclass
class Ballot:
    """One request. Its times and those of its votes are the operated world's."""

    run: str
    request: ApprovalRequest
    state: str = ApprovalState.PENDING.value
    votes: list[Vote] = field(default_factory=list)

    @classmethod
    def of(cls, row: Row) -> Ballot:
        """From the row that put it. Raises `ValueError` when something is missing there."""
        told = {name: value for name, value in row.data.items() if name in _REQUEST}
        request = ApprovalRequest.model_validate({**told, "run_id": row.run, "state": "pending"})
        return cls(str(row.run), request)

    @property
    def digest(self) -> str:
        """Of exactly what it is about."""
        return self.request.digest

    @property
    def expires(self) -> datetime:
        """When it is over, unless it was used before."""
        return self.request.expires_at

    def refusal(self, row: Row) -> str | None:
        """Why the vote in a row does not count, judged as on the day; None: it does."""
        if row.data["refused"] is not None:
            return str(row.data["refused"])
        unbound = _bound(self, row)
        if unbound is not None:
            return unbound
        vote = _vote(row)
        so_far = self.request.model_copy(
            update={"state": ApprovalState(self.state), "votes": tuple(self.votes)}
        )
        return judge_vote(so_far, vote, self.digest, vote.at)

    def add(self, row: Row) -> None:
        """Count the vote in a row."""
        self.votes.append(_vote(row))

    @property
    def approvers(self) -> set[str]:
        """Different people who have approved."""
        return {one.principal.casefold() for one in self.votes if one.decision == "approve"}

    @property
    def rejected(self) -> bool:
        """Whether anybody has said no."""
        return any(one.decision == "reject" for one in self.votes)


def settled_by(ballot: Ballot, row: Row) -> str | None:
    """Why the votes do not make of a request what a row says became of it; None: they do."""
    needed = ballot.request.requirement.count
    match row.kind:
        case "approval.granted" if ballot.rejected:
            return "it was granted although somebody had rejected it"
        case "approval.granted" if len(ballot.approvers) < needed:
            return f"it was granted with {len(ballot.approvers)} of {needed} approvals"
        case "approval.granted" if unheard_owners(ballot.request.requirement, ballot.votes):
            return "it was granted without the owners of what it changes"
        case "approval.rejected" if not ballot.rejected:
            return "it counts as rejected, and nobody has rejected it"
    return None


def _vote(row: Row) -> Vote:
    told = {name: row.data[name] for name in _VOTE if name in row.data}
    if "statement" in told:
        told["statement"] = row.data.get("statement_digest") or ""
    return Vote.model_validate(told)


def _bound(ballot: Ballot, row: Row) -> str | None:
    """Why the statement of a vote is not about this request; None: it is, or has none (of old)."""
    data = row.data
    said = data.get("statement")
    if data.get("digest") not in (None, "", ballot.digest):
        return f"it was given for {data['digest'][:12]}, and {ballot.digest[:12]} was asked about"
    if said is None:
        return None
    if digest_of(said) != data.get("statement_digest"):
        return "its statement is not the one that its digest was made of"
    request = ballot.request
    about = (said["approval_id"], said["run_id"], said["scope_digest"], said["approver"])
    if about != (str(request.id), ballot.run, ballot.digest, data["principal"]):
        return "its statement is about something else, or somebody else's"
    return None
