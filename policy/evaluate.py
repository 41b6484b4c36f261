"""The one evaluator: rules, facts and a time become a decision. Pure and total.

Precedence: deny beats wait and needs_approval, which beat allow. While a step is held, locked, not
due or outside its window nobody is asked: an answer would have expired by the time it counts. A
wait for CI does not keep people from being asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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

ALWAYS: Final[tuple[Family, ...]] = (change.findings, alerts.findings, waits.findings)
"""Asked about every step on the way forward."""
RELEASE: Final[tuple[Family, ...]] = (
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
_ORDER: Final = (Outcome.DENY, Outcome.WAIT, Outcome.NEEDS_APPROVAL, Outcome.ALLOW)


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
    case = Case(rules, facts, now, listed, risk, reasons)
    asks: list[Finding] = []
    others: list[Finding] = []
    for one in _findings(case):
        (asks if one.rule.outcome is Outcome.NEEDS_APPROVAL else others).append(one)
    settled = Settled(()) if _beyond_votes(case) else settle(case, asks)
    others += settled.findings
    return _weighed(case, others, settled)


def _beyond_votes(case: Case) -> bool:
    """The automatic way back asks nobody, so nobody's word can stop it either."""
    return case.facts.rolling_back and case.leads_back and case.facts.verdict is None


def _findings(case: Case) -> Iterator[Finding]:
    """Everything that has something to say, by what kind of step it is."""
    facts = case.facts
    if facts.rolling_back and case.leads_back:
        yield from waits.findings(case)
        yield from slo.findings(case)
        yield allow("rollback.always", f"Taking {case.place} back is allowed at any time.")
        return
    for family in ALWAYS:
        yield from family(case)
    if not facts.step.only_speaks:
        yield from commands.findings(case)
    if facts.step.only_speaks:
        yield allow("comms.allowed", "The step only speaks.")
        return
    yield _risk(case)
    if isinstance(facts.step.action, LockRelease):
        yield from unlocking.findings(case)
        return
    if case.only_looks:
        yield from _looking(case)
    elif facts.goal == "rollback" and case.leads_back:
        yield from purpose.findings(case)
        yield _manual_rollback(case)
    else:
        for family in RELEASE:
            yield from family(case)


def _looking(case: Case) -> Iterator[Finding]:
    """A check changes nothing; going on in spite of its verdict does."""
    concerns = [*slo.findings(case), *pauses.findings(case)]
    yield from concerns
    if not concerns:
        yield allow("read.allowed", "The step only looks.")


def _risk(case: Case) -> Finding:
    reasons = "; ".join(case.risk_reasons)
    return note("risk.class", f"Risk {case.risk}: {reasons}.")


def _manual_rollback(case: Case) -> Finding:
    who = case.facts.change.author.login
    if case.rules.manual_rollback == "allow":
        return allow("rollback.manual", f"{who} asked for {case.place} to be taken back.")
    return ask(
        "rollback.manual",
        f"{who} asked for {case.place} to be taken back, which needs an approval here.",
        "`/approve` by one of the roles asked for.",
    )


def _weighed(case: Case, found: list[Finding], settled: Settled) -> Decision:
    outcome = _outcome(found)
    if outcome is Outcome.ALLOW and all(one.noted for one in found):
        found.append(
            allow("policy.clear", f"No rule stands against {case.facts.step.action.kind} now.")
        )
    rules = [one.rule for one in found]
    return Decision(
        outcome=outcome,
        risk=case.risk,
        rules=tuple([rule for of in _ORDER for rule in rules if rule.outcome is of]),
        policy_digest=case.rules.digest,
        at=case.now,
        until=_until(outcome, found, settled),
        requirement=settled.requirement if outcome is Outcome.NEEDS_APPROVAL else None,
    )


def _outcome(found: list[Finding]) -> Outcome:
    outcomes = [one.rule.outcome for one in found]  # few, and members of an enum hash slowly
    if Outcome.DENY in outcomes:
        return Outcome.DENY
    for one in found:
        if one.patient:
            return Outcome.WAIT
    for outcome in (Outcome.NEEDS_APPROVAL, Outcome.WAIT):
        if outcome in outcomes:
            return outcome
    return Outcome.ALLOW


def _until(outcome: Outcome, found: list[Finding], settled: Settled) -> datetime | None:
    """For wait: when the last of the waits may be over; None when one needs a signal to end."""
    if outcome is Outcome.NEEDS_APPROVAL:
        return settled.until
    if outcome is not Outcome.WAIT:
        return None
    ends = [one.until for one in found if one.outcome is Outcome.WAIT]
    known = [one for one in ends if one is not None]
    return max(known) if len(known) == len(ends) else None


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
