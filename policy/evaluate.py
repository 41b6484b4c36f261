"""The one evaluator: rules, facts and a time become a decision. Pure and total.

Precedence: deny beats wait and needs_approval, which beat allow. While a step is held, locked, not
due or outside its window nobody is asked: an answer would have expired by the time it counts. A
wait for CI does not keep people from being asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from domain.action import COMMS_KINDS, READ_ONLY_KINDS
from domain.decision import Decision, MatchedRule, Outcome, Requirement
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
Found = dict[Outcome, list[Finding]]
"""What the families have said, by what they want; each list in the order it was said."""
BY_PRECEDENCE: Final = (Outcome.DENY, Outcome.WAIT, Outcome.NEEDS_APPROVAL, Outcome.ALLOW)
NOBODY_ASKED: Final = Settled(())


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
BY_KIND: Final[Mapping[str, tuple[Family, ...]]] = {
    **dict.fromkeys(COMMS_KINDS, SPEAKING),
    **dict.fromkeys(READ_ONLY_KINDS, LOOKING),
    "lock_release": UNLOCKING,
}
"""By what kind of action it is, where that settles it."""


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
    found: Found = {outcome: [] for outcome in BY_PRECEDENCE}
    for family in _families(case):
        for one in family(case):
            found[one.rule.outcome].append(one)
    asked, found[Outcome.NEEDS_APPROVAL] = found[Outcome.NEEDS_APPROVAL], []
    settled = NOBODY_ASKED if _beyond_votes(case) else settle(case, asked)
    for one in settled.findings:
        found[one.rule.outcome].append(one)
    return _weighed(case, found, settled)


def _families(case: Case) -> tuple[Family, ...]:
    """Everything that may have something to say, by what kind of step it is."""
    facts = case.facts
    if facts.rolling_back and case.leads_back:
        return WAY_BACK
    families = BY_KIND.get(facts.step.action.kind)
    if families is not None:
        return families
    return ROLLBACK if facts.goal == "rollback" and case.leads_back else RELEASE


def _beyond_votes(case: Case) -> bool:
    """The automatic way back asks nobody, so nobody's word can stop it either."""
    return case.facts.rolling_back and case.leads_back and case.facts.verdict is None


def _outcome(found: Found) -> Outcome:
    """What all of it comes to."""
    if found[Outcome.DENY]:
        return Outcome.DENY
    waits = found[Outcome.WAIT]
    if waits and any(one.patient for one in waits):
        return Outcome.WAIT
    if found[Outcome.NEEDS_APPROVAL]:
        return Outcome.NEEDS_APPROVAL
    return Outcome.WAIT if waits else Outcome.ALLOW


def _until(waits: Sequence[Finding]) -> datetime | None:
    """When the last of the waits may be over; None when one needs a signal to end."""
    known = [one.until for one in waits if one.until is not None]
    return max(known) if len(known) == len(waits) else None


def _weighed(case: Case, found: Found, settled: Settled) -> Decision:
    outcome = _outcome(found)
    allowed = found[Outcome.ALLOW]
    if outcome is Outcome.ALLOW and all(one.noted for one in allowed):
        kind = case.facts.step.action.kind
        allowed.append(allow("policy.clear", f"No rule stands against {kind} now."))
    until: datetime | None = None
    requirement: Requirement | None = None
    if outcome is Outcome.WAIT:
        until = _until(found[Outcome.WAIT])
    elif outcome is Outcome.NEEDS_APPROVAL:
        until, requirement = settled.until, settled.requirement
    return Decision(
        outcome=outcome,
        risk=case.risk,
        rules=tuple([one.rule for said in found.values() for one in said]),
        policy_digest=case.rules.digest,
        at=case.now,
        until=until,
        requirement=requirement,
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
