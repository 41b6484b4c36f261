"""What a person says yes or no to, in full: the words that a vote is bound to.

Two votes on the same question make two statements, because the person is part of it. Its digest is
stored with the vote, so that anybody can work out later whether what was done is what was said.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from domain.approval import ApprovalRequest, Vote
from domain.digest import digest_of
from domain.event import Frozen


class Statement(Frozen):
    """One person's word on exactly this: plan, commits, policy, place, risk, and until when."""

    approval_id: UUID
    run_id: UUID
    decision: str
    """`approve` or `reject`."""
    scope: str
    scope_digest: str
    """What the vote covers of the plan; the digest that effects are compared with."""
    plan_digest: str
    head: str | None
    """The commit, or the pull request's head, when the question was asked."""
    base: str | None
    policy_digest: str
    environment: str
    risk: str
    expires_at: datetime
    approver: str

    @property
    def digest(self) -> str:
        """Digest of the whole statement."""
        return digest_of(self)

    @classmethod
    def of(cls, request: ApprovalRequest, vote: Vote) -> Statement:
        """What this vote on this request says."""
        return cls(
            approval_id=request.id,
            run_id=request.run_id,
            decision=vote.decision,
            scope=request.scope,
            scope_digest=request.digest,
            plan_digest=request.plan_digest,
            head=request.head,
            base=request.base,
            policy_digest=request.policy_digest,
            environment=request.environment,
            risk=request.risk,
            expires_at=request.expires_at,
            approver=vote.principal,
        )
