"""The one evaluator: rules, facts and a time become a decision. Pure and total.

Precedence: deny beats wait and needs_approval, which beat allow. While a step is held, locked, not
due or outside its window nobody is asked: an answer would have expired by the time it counts. A
wait for CI does not keep people from being asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from domain.action import LockRelease
from domain.decision import Decision, MatchedRule, Outcome
from domain.plan import RiskClass
from policy.facts import Facts
from policy.families import (
    alerts,
    approvals,
    autonomy,
    budget,
    canary,
    change,
    checks,
    commands,
    cost,
    manifests,
    models,
    pauses,
    purpose,
    repository,
    security,
    slo,
    supply,
    unlocking,
    waits,
    windows,
)
from policy.families.approvals import Settled, settle
from policy.finding import Case, Finding, allow, ask, note
from policy.risk import listed_environment, risk_of
from policy.rules import Rules

Family = Callable[[Case], Iterable[Finding]]


def _risk(case: Case) -> tuple[Finding, ...]:
    reasons = "; ".join(case.risk_reasons)
    return (note("risk.class", f"Risk {case.risk}: {reasons}."),)


def _speaks(_case: Case) -> tuple[Finding, ...]:
    return (allow("comms.allowed", "The step only speaks."),)


def _looks(case: Case) -> tuple[Finding, ...]:
    """A check changes nothing; going on in spite of its verdict does."""
    concerns = (*slo.findings(case), *pauses.findings(case))
    return concerns or (allow("read.allowed", "The step only looks."),)


def _automatic_rollback(case: Case) -> tuple[Finding, ...]:
    return (allow("rollback.always", f"Taking {case.place} back is allowed at any time."),)


def _manual_rollback(case: Case) -> tuple[Finding, ...]:
    said = f"{case.facts.change.author.login} asked for {case.place} to be taken back"
    if case.rules.manual_rollback == "allow":
        return (allow("rollback.manual", f"{said}."),)
    remedy = "`/approve` by one of the roles asked for."
    return (ask("rollback.manual", f"{said}, which needs an approval here.", remedy),)


WAY_BACK: Final[tuple[Family, ...]] = (waits.findings, slo.findings, _automatic_rollback)
"""Asked about a step of the automatic way back."""
FORWARD: Final[tuple[Family, ...]] = (change.findings, alerts.findings, waits.findings)
"""Asked about every other step."""
SPEAKING: Final[tuple[Family, ...]] = (*FORWARD, _speaks)
ACTING: Final[tuple[Family, ...]] = (*FORWARD, commands.findings, _risk)
UNLOCKING: Final[tuple[Family, ...]] = (*ACTING, unlocking.findings)
LOOKING: Final[tuple[Family, ...]] = (*ACTING, _looks)
ROLLBACK: Final[tuple[Family, ...]] = (*ACTING, purpose.findings, _manual_rollback)
RELEASE: Final[tuple[Family, ...]] = (
    *ACTING,
    purpose.findings,
    windows.findings,
    canary.findings,
    checks.findings,
    autonomy.findings,
    repository.findings,
    security.findings,
    supply.findings,
    cost.findings,
    models.findings,
    manifests.findings,
    budget.findings,
    slo.findings,
    approvals.findings,
)
"""Asked about a step that changes something."""


def evaluate(rules: Rules, facts: Facts, now: datetime) -> Decision:
    """Decide one step at a time `now` (aware). Never raises: what cannot be decided is denied."""
    try:
        return _decide(rules, facts, now)
    except Exception as error:
        # The one broad except of the house: whatever goes wrong in here must end as a denial that
        # is written down, not as a run that hangs between two nodes (law 3).
        return _undecided(rules, now, error)


def _decide(rules: Rules, facts: Facts, now: datetime) -> Decision:
    listed = listed_environment(rules, facts.environment)
    risk, reasons = risk_of(rules, facts, listed)
    place = f"{facts.service or 'this change'} in {facts.environment or 'no environment'}"
    case = Case(rules, facts, now, listed, risk, reasons, place)
    found = Found()
    for family in _families(case):
        if said := family(case):
            found.take(said)
    asked, found.asks = found.asks, []
    settled = Settled(()) if _beyond_votes(case) else settle(case, asked)
    found.take(settled.findings)
    return _weighed(case, found, settled)


def _families(case: Case) -> tuple[Family, ...]:
    """Everything that may have something to say, by what kind of step it is."""
    facts = case.facts
    if facts.rolling_back and case.leads_back:
        return WAY_BACK
    if facts.step.only_speaks:
        return SPEAKING
    if isinstance(facts.step.action, LockRelease):
        return UNLOCKING
    if case.only_looks:
        return LOOKING
    if facts.goal == "rollback" and case.leads_back:
        return ROLLBACK
    return RELEASE


def _beyond_votes(case: Case) -> bool:
    """The automatic way back asks nobody, so nobody's word can stop it either."""
    return case.facts.rolling_back and case.leads_back and case.facts.verdict is None


@dataclass(slots=True)
class Found:
    """What the families have said, by what they want; each list in the order it was said."""

    denials: list[Finding] = field(default_factory=list)
    waits: list[Finding] = field(default_factory=list)
    asks: list[Finding] = field(default_factory=list)
    allowed: list[Finding] = field(default_factory=list)

    def take(self, findings: Iterable[Finding]) -> None:
        """Put each with its like."""
        for one in findings:
            outcome = one.rule.outcome
            if outcome is Outcome.ALLOW:
                self.allowed.append(one)
            elif outcome is Outcome.NEEDS_APPROVAL:
                self.asks.append(one)
            elif outcome is Outcome.WAIT:
                self.waits.append(one)
            else:
                self.denials.append(one)

    @property
    def outcome(self) -> Outcome:
        """What all of it comes to."""
        if self.denials:
            return Outcome.DENY
        if self.waits and any(one.patient for one in self.waits):
            return Outcome.WAIT
        if self.asks:
            return Outcome.NEEDS_APPROVAL
        return Outcome.WAIT if self.waits else Outcome.ALLOW

    @property
    def until(self) -> datetime | None:
        """When the last of the waits may be over; None when one needs a signal to end."""
        ends = [one.until for one in self.waits]
        known = [one for one in ends if one is not None]
        return max(known) if len(known) == len(ends) else None


def _weighed(case: Case, found: Found, settled: Settled) -> Decision:
    outcome = found.outcome
    if outcome is Outcome.ALLOW and all(one.noted for one in found.allowed):
        kind = case.facts.step.action.kind
        found.allowed.append(allow("policy.clear", f"No rule stands against {kind} now."))
    waiting, asking = outcome is Outcome.WAIT, outcome is Outcome.NEEDS_APPROVAL
    ordered = (*found.denials, *found.waits, *found.asks, *found.allowed)
    return Decision(
        outcome=outcome,
        risk=case.risk,
        rules=tuple([one.rule for one in ordered]),
        policy_digest=case.rules.digest,
        at=case.now,
        until=found.until if waiting else settled.until if asking else None,
        requirement=settled.requirement if asking else None,
    )


def _undecided(rules: Rules, now: datetime, error: Exception) -> Decision:
    """A denial that says so. Only the kind of the failure is told; its text may hold anything."""
    matched = MatchedRule(
        rule="engine.error",
        outcome=Outcome.DENY,
        reason=f"The policy engine failed ({type(error).__name__}), so nothing is allowed.",
        remedy="`/retry`; if it stays, run `fermata policy check` and report a defect.",
    )
    return Decision(
        outcome=Outcome.DENY,
        risk=RiskClass.CRITICAL,
        rules=(matched,),
        policy_digest=str(getattr(rules, "digest", "")),
        at=now,
    )
