"""Security, signing, SBOM, cost, error budget: what is not known never passes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.decision import Decision, Outcome
from domain.errors import SourceError
from domain.evidence import (
    CostEstimate,
    ErrorBudget,
    Evidence,
    ModelUse,
    Sbom,
    Scan,
    Signature,
    VexStatement,
    Vulnerability,
)
from domain.secret import SecretHit, SecretScan
from policy.evaluate import evaluate
from policy.families.security import ended_exceptions
from policy.rules import Rules, load_policy
from tests.policy.making import WEDNESDAY, facts, policy_with, shipped, small_with

EXCEPTION = (
    "exceptions:\n    - {finding: GHSA-xx, package: openssl, services: [checkout], owner: team-pay,"
    ' reason: "the parser is never called", expires: "2026-03-25"}\n  '
)
TRUSTING = policy_with(("vex_trusted: []", 'vex_trusted: ["*@acme.example"]'))


def decide(rules: Rules | None = None, at: datetime = WEDNESDAY, **evidence: Any) -> Decision:
    return evaluate(rules or shipped(), facts(evidence=Evidence(**evidence)), at)


def scan(*findings: Vulnerability, state: Any = "done") -> dict[str, Any]:
    return {"scans": (Scan(tool="grype", state=state, reason="no network", findings=findings),)}


def found(**more: Any) -> Vulnerability:
    return Vulnerability(**{"id": "CVE-2026-1", "package": "openssl", "cvss": 9.8, **more})


@pytest.mark.parametrize(
    ("finding", "rule", "outcome"),
    [
        (found(), "security.cvss", Outcome.DENY),
        (found(cvss=9.0), "security.cvss", Outcome.DENY),
        (found(cvss=8.9), "security.cvss", Outcome.NEEDS_APPROVAL),
        (found(cvss=None), "security.unscored", Outcome.NEEDS_APPROVAL),
        (found(cvss=2.0, known_exploited=True), "security.known_exploited", Outcome.DENY),
        (found(cvss=2.0, epss=0.5), "security.likely_exploited", Outcome.NEEDS_APPROVAL),
    ],
)
def test_a_vulnerability_is_named_with_what_makes_it_one(
    finding: Vulnerability, rule: str, outcome: Outcome
) -> None:
    decision = decide(**scan(finding))
    told = next(one for one in decision.rules if one.rule == rule)
    assert told.outcome is outcome
    assert "CVE-2026-1 in openssl" in told.reason


def test_a_harmless_finding_says_nothing() -> None:
    rules = [one.rule for one in decide(**scan(found(cvss=6.9))).rules]
    assert not [one for one in rules if one.startswith("security.")]


@pytest.mark.parametrize("state", ["skipped", "failed"])
def test_a_scan_that_did_not_run_is_not_a_scan_that_found_nothing(state: str) -> None:
    decision = decide(**scan(state=state))
    assert "security.scan_unknown" in decision.deciding_rules
    assert "no network" in decision.reason


def test_where_evidence_is_required_its_absence_denies() -> None:
    rules = policy_with(
        (
            "  environments: [prod]\n  required_in: []\n  missing: deny",
            "  environments: [prod]\n  required_in: [prod]\n  missing: deny",
        ),
        ("signing: {required_in: []", "signing: {required_in: [prod]"),
        ("sbom: {required_in: []", "sbom: {required_in: [prod]"),
        ("  required_in: []\n  currency", "  required_in: [prod]\n  currency"),
        ("secrets: {found: deny, required_in: []", "secrets: {found: deny, required_in: [prod]"),
    )
    assert set(decide(rules).deciding_rules) == {
        "security.scan_missing",
        "signing.unknown",
        "sbom.unknown",
        "cost.unknown",
        "security.secrets_unknown",
    }
    known = facts(
        evidence=Evidence(
            scans=(Scan(tool="grype", state="done"),),
            signature=Signature(state="verified", by="release@acme"),
            sbom=Sbom(state="present", format="CycloneDX", components=12),
            cost=CostEstimate(currency="EUR", monthly=100, before=100),
        )
    )
    change = known.change.model_copy(update={"secret_scan": SecretScan()})
    decision = evaluate(rules, known.model_copy(update={"change": change}), WEDNESDAY)
    assert decision.deciding_rules == ("approval.required",)
    assert {"signing.verified", "sbom.present", "cost.within"} <= {
        one.rule for one in decision.rules
    }


def test_a_trusted_statement_with_a_justification_lets_a_finding_pass() -> None:
    said = {"finding": "cve-2026-1", "status": "not_affected", "by": "sec@acme.example"}
    good = VexStatement(**said, justification="vulnerable code is not in the execute path")
    decision = decide(TRUSTING, **scan(found()), vex=(good,))
    assert "security.cvss" not in [one.rule for one in decision.rules]
    told = next(one for one in decision.rules if one.rule == "security.vex")
    assert "not in the execute path" in told.reason


@pytest.mark.parametrize(
    "change",
    [
        {"justification": " "},
        {"status": "under_investigation"},
        {"by": "sec@elsewhere.example"},
        {"finding": "CVE-2026-2"},
        {"product": "zlib"},
    ],
)
def test_any_other_statement_lets_nothing_pass(change: dict[str, str]) -> None:
    said = {
        "finding": "CVE-2026-1",
        "status": "fixed",
        "by": "sec@acme.example",
        "justification": "backported",
    }
    decision = decide(
        TRUSTING, **scan(found()), vex=(VexStatement.model_validate({**said, **change}),)
    )
    assert "security.cvss" in decision.deciding_rules


def test_an_exception_holds_to_the_end_of_its_last_day_and_is_named_afterwards() -> None:
    rules = policy_with(("vex_trusted: []", EXCEPTION + "vex_trusted: []"))
    one = scan(found(aliases=("GHSA-XX",)))
    held = decide(rules, datetime(2026, 3, 25, 23, 59, tzinfo=UTC), **one)
    told = next(rule for rule in held.rules if rule.rule == "security.exception")
    assert "team-pay" in told.reason
    assert "never called" in told.reason
    over = decide(rules, datetime(2026, 3, 26, tzinfo=UTC), **one)
    assert "security.cvss" in over.deciding_rules
    assert "the exception of team-pay ended on 2026-03-25" in over.reason
    assert not list(ended_exceptions(rules, WEDNESDAY))
    assert "GHSA-xx of team-pay" in next(ended_exceptions(rules, datetime(2026, 4, 1, tzinfo=UTC)))


def test_an_exception_is_about_its_package_and_service_alone() -> None:
    rules = policy_with(("vex_trusted: []", EXCEPTION + "vex_trusted: []"))
    elsewhere = decide(rules, **scan(found(aliases=("GHSA-xx",), package="zlib")))
    assert "security.cvss" in elsewhere.deciding_rules


@pytest.mark.parametrize("more", ["", "services: ['*out'], "])
def test_exceptions_that_cover_the_same_are_refused_at_the_second(more: str) -> None:
    second = (
        f'    - {{finding: ghsa-XX, {more}owner: other, reason: "somebody else says so", '
        'expires: "2027-01-01"}\n  '
    )
    first = EXCEPTION.replace("[checkout]", "['check*']").rstrip()
    text = small_with(("vex_trusted: []", first + "\n" + second + "vex_trusted: []"))
    with pytest.raises(SourceError) as caught:
        load_policy(text, "p.yaml")
    (problem,) = caught.value.problems
    assert "another exception" in problem.message
    assert problem.line == text[: text.index("ghsa-XX")].count("\n") + 1


@pytest.mark.parametrize("key", ["owner: team-pay", 'reason: "the parser is never called"'])
def test_an_exception_of_blanks_names_nobody_and_gives_no_reason(key: str) -> None:
    blank = EXCEPTION.replace(key, f"{key.split(':')[0]}: '            '")
    with pytest.raises(SourceError):
        load_policy(small_with(("vex_trusted: []", blank + "vex_trusted: []")), "p.yaml")


def test_a_secret_in_the_change_is_named_by_place_and_rule_in_every_environment() -> None:
    hit = SecretHit(file="src/a.py", line=7, rule="aws-access-token", advice="revoke it in IAM")
    known = facts()
    change = known.change.model_copy(update={"secret_scan": SecretScan(hits=(hit,))})
    decision = evaluate(shipped(), known.model_copy(update={"change": change}), WEDNESDAY)
    assert decision.deciding_rules == ("security.secret",)
    assert "src/a.py:7 (aws-access-token)" in decision.reason
    assert "revoke it in IAM" in decision.rules[0].remedy


@pytest.mark.parametrize(
    ("cost", "rule"),
    [
        ({"monthly": 1101, "before": 1000}, "cost.over"),
        ({"monthly": 6000, "before": 6000}, "cost.over"),
        ({"monthly": 10, "before": 0}, "cost.over"),
        ({"monthly": None, "before": 10}, "cost.unknown"),
        ({"monthly": 10, "before": None}, "cost.unknown"),
        ({"monthly": 10, "before": 10, "unpriced": ("nat",)}, "cost.unpriced"),
        ({"monthly": 10, "before": 10, "currency": "USD"}, "cost.unpriced"),
    ],
)
def test_cost_above_a_limit_or_without_a_price(cost: dict[str, Any], rule: str) -> None:
    decision = decide(cost=CostEstimate(**{"currency": "EUR", **cost}))
    assert rule in decision.deciding_rules


def test_growth_within_the_limit_passes() -> None:
    decision = decide(cost=CostEstimate(currency="EUR", monthly=1100, before=1000))
    assert decision.deciding_rules == ("approval.required",)


@pytest.mark.parametrize(
    ("left", "title", "rule"),
    [
        (0.30, "feat: x", None),
        (0.24, "feat: x", "slo.budget_low"),
        (-0.01, "feat: x", "slo.budget_spent"),
        (-0.01, "Fix: x", "slo.budget_low"),
        (None, "fix: x", "slo.budget_unknown"),
    ],
)
def test_with_little_error_budget_only_fixes_go_out_and_they_are_asked_about(
    left: float | None, title: str, rule: str | None
) -> None:
    budgets = (
        ErrorBudget(sli="latency", remaining=0.9, window_seconds=2419200),
        ErrorBudget(sli="errors", remaining=left, window_seconds=2419200, reason="no answer"),
    )
    known = facts(error_budgets=budgets)
    change = known.change.model_copy(update={"title": title})
    decision = evaluate(shipped(), known.model_copy(update={"change": change}), WEDNESDAY)
    rules = {one.rule for one in decision.rules} - {"slo.budget_left"}
    assert {one for one in rules if one.startswith("slo.")} == ({rule} if rule else set())
    assert decision.outcome is (
        Outcome.DENY if rule == "slo.budget_spent" else Outcome.NEEDS_APPROVAL
    )


def test_a_plan_beyond_the_model_s_budget_or_with_foreign_tools_is_denied() -> None:
    over = decide(model=ModelUse(agent="conductor", turns=13, cost=None))
    assert over.deciding_rules == ("models.budget",)
    assert "13 turns of 12" in over.reason
    foreign = decide(model=ModelUse(agent="infra", tools=("terraform_apply",)))
    assert "models.tool" in foreign.deciding_rules
