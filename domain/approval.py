"""Approvals: statements by people over a digest of exactly what will be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.decision import Requirement
from domain.event import Frozen


class ApprovalState(StrEnum):
    """Life of a request for approval."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    DISMISSED = "dismissed"
    SPENT = "spent"


class Vote(Frozen):
    """One person's word on a request."""

    principal: str
    roles: tuple[str, ...]
    decision: str
    """`approve` or `reject`."""
    comment: str
    via: str
    """`api`, `cli`, `comment` or `page`."""
    at: datetime
    teams: tuple[str, ...] = ()
    """Teams on the forge that the person was found to be a member of (`organisation/team`), of
    those that policy names; what could not be looked up is not in it."""
    statement: str = ""
    """Digest of what was said (`domain.statement`), as stored with the vote."""

    def is_owner(self, owners: tuple[str, ...]) -> bool:
        """Whether the voter is one of the people or teams that CODEOWNERS names."""
        names = {f"@{name}".casefold() for name in (self.principal, *self.teams)}
        return any(owner.casefold() in names for owner in owners)


def unheard_owners(requirement: Requirement, votes: Sequence[Vote]) -> tuple[tuple[str, ...], ...]:
    """Groups of code owners of which none is among the approving votes."""
    given = [one for one in votes if one.decision == "approve"]
    return tuple(
        group for group in requirement.owners if not any(one.is_owner(group) for one in given)
    )


class ApprovalRequest(Frozen):
    """A pending question to people, and the votes it has had.

    `digest` is the plan's scope digest; a vote that names another digest is refused.
    """

    id: UUID
    run_id: UUID
    step_id: str
    scope: str
    digest: str
    policy_digest: str
    environment: str
    risk: str
    question: str
    author: str
    requirement: Requirement
    requested_at: datetime
    expires_at: datetime
    state: ApprovalState
    votes: tuple[Vote, ...] = ()
    plan_digest: str = ""
    head: str | None = None
    """The commit that is asked about; for a pull request not merged yet, its head when asked."""
    base: str | None = None
    authors: tuple[str, ...] = ()
    """People beside `author` whose own change it is, such as who opened the pull request."""
    asked_at: datetime | None = None
    """When it was asked in real time; `requested_at` is in the time of the operated world."""
