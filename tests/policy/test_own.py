"""A repository's own policy: what it adds, and what of it is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.decision import Outcome
from domain.errors import SourceError
from domain.plan import RiskClass
from policy.evaluate import evaluate
from policy.facts import CheckFact, OverrideFact, RepositoryPolicy
from policy.own import own_rules, tightened
from policy.rules import Rules
from tests.policy.making import (
    SATURDAY,
    WEDNESDAY,
    deploy,
    facts,
    policy_with,
    request,
    shipped,
    vote,
)

LISTED = ("dev", "staging", "prod")
RITA = vote("rita", "release-manager")


def with_own(text: str, rules: Rules | None = None) -> Rules:
    return tightened(rules or shipped(), own_rules("version: 1\n" + text, "own.yaml", LISTED))


def test_an_empty_one_changes_nothing_but_the_digest() -> None:
    tight = with_own("")
    known = facts(approval=request(RITA))
    before, after = evaluate(shipped(), known, WEDNESDAY), evaluate(tight, known, WEDNESDAY)
    assert before.outcome is after.outcome is Outcome.ALLOW
    assert before.policy_digest != after.policy_digest


def test_it_closes_raises_and_asks_for_more() -> None:
    freeze = with_own(
        "windows: {timezone: UTC, deny: [{id: noon, cron: '0 11 * * *', lasts: 1h, "
        "environments: [prod]}]}"
    )
    assert evaluate(freeze, facts(), WEDNESDAY).deciding_rules == ("windows.closed",)
    ledger = with_own("risk: [{id: ledger, paths: [src/**], to: critical}]")
    assert evaluate(ledger, facts(), WEDNESDAY).risk is RiskClass.CRITICAL
    two = with_own("approvals: [{environments: [staging], at_least: 2}]")
    decision = evaluate(two, facts(deploy("staging")), WEDNESDAY)
    assert decision.requirement is not None
    assert decision.requirement.count == 2
    small = with_own("canary: {max_first_weight: 5}")
    assert "canary.first_weight" in evaluate(small, facts(), WEDNESDAY).deciding_rules


def test_a_check_it_requires_does_not_make_others_count_less() -> None:
    tight = with_own("checks: {required: [contract]}")
    failed = (CheckFact(name="unit", conclusion="failure"),)
    rules = [one.rule for one in evaluate(tight, facts(checks=failed), WEDNESDAY).rules]
    assert "checks.failed" in rules
    assert "checks.pending" in rules  # its own has not reported yet


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("overrides: {roles: [developer]}", "unknown key 'overrides'"),
        ("windows: {timezone: UTC, allow: []}", "unknown key 'allow'"),
        ("canary: {max_first_weight: 5, missing: approve}", "unknown key 'missing'"),
        ("approvals: [{environments: [production], at_least: 2}]", "no environment is called"),
        ("approvals: [{environments: [prod], at_least: 0}]", "greater than or equal to 1"),
        (
            "windows: {timezone: UTC, deny: [{id: f, calendar: f.ics, environments: [prod]}]}",
            "cannot name a calendar",
        ),
        ("risk: [{id: x, paths: ['**'], to: none}]", "found 'none'"),
    ],
)
def test_whatever_is_no_tightening_is_refused_at_its_place(text: str, said: str) -> None:
    with pytest.raises(SourceError) as caught:
        with_own(text)
    assert said in caught.value.problems[0].message
    assert caught.value.problems[0].line == 2
    assert caught.value.problems[0].hint


@pytest.mark.parametrize(
    ("state", "outcome", "rule"),
    [
        ("absent", Outcome.ALLOW, "repository.none"),
        ("read", Outcome.ALLOW, "repository.policy"),
        ("no_forge", Outcome.ALLOW, "repository.no_forge"),
        ("unknown", Outcome.NEEDS_APPROVAL, "repository.unknown"),
        ("ignored", Outcome.NEEDS_APPROVAL, "repository.unknown"),
        ("broken", Outcome.DENY, "repository.broken"),
    ],
)
def test_what_became_of_reading_it_is_told_and_unknown_never_passes(
    state: str, outcome: Outcome, rule: str
) -> None:
    own = RepositoryPolicy.model_validate({"state": state, "where": "x at 1", "reason": "because"})
    decision = evaluate(shipped(), facts(repository=own), WEDNESDAY)
    assert {one.rule: one.outcome for one in decision.rules}[rule] is outcome


def test_where_it_need_not_be_known_a_policy_that_cannot_be_read_is_told_and_no_more() -> None:
    own = RepositoryPolicy(state="unknown", where="x at 1", reason="because")
    decision = evaluate(shipped(), facts(deploy("staging"), repository=own), WEDNESDAY)
    assert decision.outcome is Outcome.ALLOW
    assert "repository.unknown" in [one.rule for one in decision.rules]


def test_an_answer_given_under_another_policy_is_kept_only_if_nothing_is_new() -> None:
    asked = evaluate(shipped(), facts(), WEDNESDAY)
    assert asked.requirement is not None
    answered = request(
        RITA, policy_digest=shipped().digest, risk="medium", requirement=asked.requirement
    )
    known = facts(approval=answered)
    assert evaluate(shipped(), known, WEDNESDAY).outcome is Outcome.ALLOW
    kept = evaluate(with_own("canary: {max_first_weight: 10}"), known, WEDNESDAY)
    assert kept.outcome is Outcome.ALLOW
    assert "asks for nothing new, so the answer is kept" in kept.reason
    riskier = with_own("risk: [{id: r, paths: [src/**], to: high}]")
    dismissed = evaluate(riskier, known, WEDNESDAY)
    assert "approval.policy_changed" in dismissed.deciding_rules
    assert "risk high instead of medium" in dismissed.reason


def test_at_critical_risk_two_different_people_have_to_override() -> None:
    def given(who: str) -> OverrideFact:
        return OverrideFact(
            principal=who,
            roles=("sre-lead",),
            reason="sign-in is down",
            at=SATURDAY - timedelta(minutes=5),
            expires_at=SATURDAY + timedelta(minutes=5),
        )

    critical: dict[str, Any] = {"paths": ("src/auth/a.py",)}
    alone = evaluate(shipped(), facts(overrides=(given("sam"), given("Sam")), **critical), SATURDAY)
    assert alone.outcome is Outcome.DENY
    assert "a second" in alone.reason
    both = evaluate(shipped(), facts(overrides=(given("sam"), given("ada")), **critical), SATURDAY)
    told = next(one for one in both.rules if one.rule == "override.accepted")
    assert "sam overrode it" in told.reason
    assert "ada overrode it" in told.reason
    usual = policy_with(
        ("deny: []", "deny: [{id: w, cron: '0 0 * * *', lasts: 24h, environments: [prod]}]")
    )
    assert "override.accepted" in [
        one.rule for one in evaluate(usual, facts(overrides=(given("sam"),)), SATURDAY).rules
    ]
