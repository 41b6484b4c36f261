"""Decisions of the gate: a value with reasons, never an exception."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from domain.event import Frozen
from domain.plan import RiskClass


class Outcome(StrEnum):
    """What the gate says."""

    ALLOW = "allow"
    DENY = "deny"
    NEEDS_APPROVAL = "needs_approval"
    WAIT = "wait"

    __hash__ = str.__hash__  # not by name in Python: decisions are sorted by it


class MatchedRule(Frozen):
    """One rule that had something to say. `remedy` is what would make it pass ('' for allow)."""

    rule: str
    outcome: Outcome
    reason: str
    remedy: str = ""


class Requirement(Frozen):
    """What an approval must look like to count. Durations in seconds."""

    count: int
    roles: tuple[str, ...] = ()
    """Any of these roles; empty: any authenticated approver."""
    teams: tuple[str, ...] = ()
    """Members of any of these teams (`org/team`) may answer as well."""
    code_owners: bool = False
    """Whether each changed path that CODEOWNERS names needs one of its owners among them."""
    owners: tuple[tuple[str, ...], ...] = ()
    """With code owners: one of each group (`@login` or `@org/team`) has to be among them."""
    asks: tuple[str, ...] = ()
    """Ids of the rules that asked, so that a later policy can be compared with this one."""
    expires_seconds: float
    escalate_seconds: float | None = None
    escalate_roles: tuple[str, ...] = ()
    allow_author: bool = False


class Decision(Frozen):
    """The gate's answer for one step, with every rule that matched."""

    outcome: Outcome
    risk: RiskClass
    rules: tuple[MatchedRule, ...]
    policy_digest: str
    at: datetime
    until: datetime | None = None
    """For wait: look again then at the latest."""
    requirement: Requirement | None = None
    """For needs_approval: what is asked for."""

    @property
    def reason(self) -> str:
        """The sentence of the rule that decided."""
        deciding = [r for r in self.rules if r.outcome is self.outcome]
        return " ".join(r.reason for r in deciding) or "no rule matched"

    @property
    def deciding_rules(self) -> tuple[str, ...]:
        """Ids of the rules that decided."""
        return tuple(r.rule for r in self.rules if r.outcome is self.outcome)
