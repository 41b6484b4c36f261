"""Adding a deny rule never allows more, whatever the policy was; nor does a repository's own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.decision import Decision, Outcome
from domain.evidence import (
    CostEstimate,
    ErrorBudget,
    Evidence,
    ModelUse,
    OwnedPath,
    Sbom,
    Scan,
    Signature,
    VexStatement,
    Vulnerability,
)
from policy.evaluate import evaluate
from policy.facts import Facts, RepositoryPolicy
from policy.own import own_rules, tightened
from policy.rules import Rules, load_policy
from tests.policy.counting import counted
from tests.policy.making import SMALL
from tests.policy.test_properties import MINUTES, cases

ANSWERS = st.sampled_from(["approve", "deny"])
PLACES = st.sampled_from([[], ["prod"], ["staging", "prod"]])
SOMEWHERE = st.sampled_from([["prod"], ["staging", "prod"]])
WINDOWS = st.sampled_from(
    [
        {"from": "Mon 00:00", "to": "Sun 23:59"},
        {"from": "Wed 08:00", "to": "Wed 18:00"},
        {"from": "Sat 12:00", "to": "Tue 12:00"},
        {"cron": "0 9 * * 1-5", "lasts": "8h"},
        {"cron": "30 2 * * *", "lasts": "30m"},
        {"cron": "0 0 1 * *", "lasts": "2d"},
        {"holidays": "DE"},
    ]
)


@st.composite
def policies(draw: st.DrawFn) -> dict[str, Any]:
    """A whole policy file, as data: the small one with every answer and limit drawn anew."""
    data: dict[str, Any] = yaml.safe_load(SMALL)
    risk = st.sampled_from(["low", "medium", "high", "critical"])
    data["environments"] = {"staging": {"risk": draw(risk)}, "prod": {"risk": draw(risk)}}
    data["rollback"]["manual"] = draw(st.sampled_from(["allow", "approve"]))
    data["releases"] = {
        "superseded_in_flight": draw(st.sampled_from(["finish", "stop"])),
        "in_flight_window": draw(st.sampled_from(["finish", "hold"])),
    }
    data["windows"]["when_closed"] = draw(st.sampled_from(["wait", "deny"]))
    data["windows"]["allow"] = [
        {"id": f"a{n}", "environments": ["*"], **one}
        for n, one in enumerate(draw(st.lists(WINDOWS, max_size=2)))
        if "holidays" not in one
    ]
    data["windows"]["deny"] = [
        {"id": f"d{n}", "environments": draw(SOMEWHERE), **one}
        for n, one in enumerate(draw(st.lists(WINDOWS, max_size=2)))
    ]
    count = draw(st.integers(0, 2))
    row: dict[str, Any] = {"environments": ["staging"], "count": count}
    if count:
        row |= {"roles": ["admin"], "code_owners": draw(st.booleans())}
    prod = {
        "environments": ["prod"],
        "count": draw(st.integers(1, 2)),
        "roles": ["release-manager"],
        "teams": draw(st.sampled_from([[], ["acme/release"]])),
        "code_owners": draw(st.booleans()),
    }
    data["approvals"] |= {"needed": [row, prod], "unknown_owners": draw(ANSWERS)}
    data["canary"] |= {"max_first_weight": draw(st.integers(1, 60)), "missing": draw(ANSWERS)}
    data["security"] |= {
        "environments": ["staging", "prod"],
        "required_in": draw(PLACES),
        "missing": draw(ANSWERS),
        "known_exploited": draw(ANSWERS),
        "vex_trusted": draw(st.sampled_from([[], ["*"]])),
        "epss": draw(st.none() | st.just({"at_least": 0.5, "answer": "deny"})),
        "cvss": {"deny_from": 9.0, "ask_from": draw(st.sampled_from([4, 7])), "unscored": "deny"},
    }
    for name in ("signing", "sbom"):
        data[name]["required_in"] = draw(PLACES)
    data["cost"] |= {"environments": ["staging", "prod"], "required_in": draw(PLACES)}
    data["cost"]["over"] = draw(ANSWERS)
    if draw(st.booleans()):
        data["slo"]["error_budget"] = {
            "environments": draw(SOMEWHERE),
            "window": "28d",
            "ask_below": 25,
            "deny_below": draw(st.sampled_from([0, 10])),
            "unknown": draw(ANSWERS),
        }
    data["repositories"] |= {"own_policy": "tighten", "unknown": draw(ANSWERS)}
    return data


FINDINGS = st.builds(
    Vulnerability,
    id=st.sampled_from(["CVE-2026-1", "CVE-2026-2"]),
    package=st.sampled_from(["openssl", "zlib"]),
    cvss=st.sampled_from([None, 3.0, 7.5, 9.9]),
    epss=st.sampled_from([None, 0.9]),
    known_exploited=st.sampled_from([None, False, True]),
)
EVIDENCE = st.builds(
    Evidence,
    scans=st.lists(
        st.builds(
            Scan,
            tool=st.just("s"),
            state=st.sampled_from(["done", "done", "skipped", "failed"]),
            findings=st.lists(FINDINGS, max_size=3).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    vex=st.lists(
        st.builds(
            VexStatement,
            finding=st.just("CVE-2026-1"),
            status=st.sampled_from(["not_affected", "under_investigation"]),
            justification=st.sampled_from(["", "not reachable"]),
        ),
        max_size=1,
    ).map(tuple),
    signature=st.none()
    | st.builds(Signature, state=st.sampled_from(["verified", "unverified", "unknown"])),
    sbom=st.none() | st.builds(Sbom, state=st.sampled_from(["present", "absent", "unknown"])),
    cost=st.none()
    | st.builds(
        CostEstimate,
        currency=st.sampled_from(["EUR", "USD"]),
        monthly=st.sampled_from([None, 100.0, 9000.0]),
        before=st.sampled_from([None, 0.0, 100.0]),
        unpriced=st.sampled_from([(), ("a",)]),
    ),
    model=st.none() | st.builds(ModelUse, agent=st.just("conductor"), turns=st.integers(0, 2)),
)


@st.composite
def known(draw: st.DrawFn) -> Facts:
    """Facts with evidence, owners, budgets and a repository, of all kinds."""
    facts = draw(cases())
    if draw(st.booleans()):
        return facts
    left = draw(st.sampled_from([None, -0.5, 0.05, 0.2, 0.9]))
    return facts.model_copy(
        update={
            "evidence": draw(EVIDENCE),
            "services": draw(st.integers(1, 9)),
            "first_install": draw(st.sampled_from([None, False, True])),
            "owned": draw(
                st.sampled_from([None, (), (OwnedPath(path="a.py", owners=("@rita",)),)])
            ),
            "error_budgets": (ErrorBudget(sli="a", remaining=left, window_seconds=1.0),),
            "repository": RepositoryPolicy(
                state=draw(st.sampled_from(["absent", "read", "no_forge", "unknown", "broken"]))
            ),
        }
    )


SEVERAL = st.lists(known(), min_size=4, max_size=4)


def rules_of(data: dict[str, Any]) -> Rules:
    return load_policy(yaml.safe_dump(data, sort_keys=False), "drawn.yaml")


def never_more(before: Decision, after: Decision) -> None:
    """What was denied stays denied, and what was not allowed is not allowed now."""
    if after.outcome is Outcome.ALLOW:
        assert before.outcome is Outcome.ALLOW
    if before.outcome is Outcome.DENY:
        assert after.outcome is Outcome.DENY


@st.composite
def denials(draw: st.DrawFn) -> tuple[str, Any]:
    """Something that denies more, and how it is put into a policy."""
    kind = draw(
        st.sampled_from(
            ["window", "checks", "canary", "scan", "signing", "sbom", "cost", "cvss", "owners"]
        )
    )
    return kind, draw(WINDOWS)


def with_denial(data: dict[str, Any], denial: tuple[str, Any]) -> dict[str, Any]:
    kind, window = denial
    more: dict[str, Any] = yaml.safe_load(yaml.safe_dump(data))
    match kind:
        case "window":
            more["windows"]["deny"].append({"id": "added", "environments": ["*"], **window})
        case "checks":
            more["checks"]["environments"] = ["staging", "prod"]
        case "canary":
            more["canary"] |= {"max_first_weight": 1, "missing": "deny"}
        case "scan":
            more["security"] |= {"required_in": ["staging", "prod"], "missing": "deny"}
        case "signing":
            more["signing"] = {"required_in": ["*"], "unverified": "deny", "unknown": "deny"}
        case "sbom":
            more["sbom"] = {"required_in": ["*"], "absent": "deny", "unknown": "deny"}
        case "cost":
            more["cost"] |= {"most_monthly": 1, "most_growth": 0, "over": "deny"}
        case "cvss":
            more["security"]["cvss"] = {"deny_from": 0, "ask_from": 0, "unscored": "deny"}
        case "owners":
            more["approvals"]["unknown_owners"] = "deny"
    return more


@settings(max_examples=150, deadline=None)
@given(data=policies(), denial=denials(), facts=SEVERAL, now=MINUTES)
def test_adding_a_deny_rule_to_any_policy_never_allows_more(
    data: dict[str, Any], denial: tuple[str, Any], facts: list[Facts], now: datetime
) -> None:
    before, after = rules_of(data), rules_of(with_denial(data, denial))
    for one in facts:
        never_more(evaluate(before, one, now), evaluate(after, one, now))
        counted("adding a deny rule never allows more")


@settings(max_examples=150, deadline=None)
@given(data=policies(), facts=SEVERAL, now=MINUTES)
def test_no_decision_of_any_policy_is_without_an_explanation(
    data: dict[str, Any], facts: list[Facts], now: datetime
) -> None:
    rules = rules_of(data)
    for one in facts:
        decision = evaluate(rules, one, now)
        assert "engine.error" not in decision.deciding_rules
        assert decision.deciding_rules
        assert decision.policy_digest == rules.digest
        assert all(rule.reason.strip() for rule in decision.rules)
        for rule in decision.rules:
            assert rule.remedy or rule.outcome is Outcome.ALLOW
        counted("no decision without an explanation")


OWN = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "windows": st.lists(WINDOWS, min_size=1, max_size=2).map(
            lambda windows: {
                "timezone": "UTC",
                "deny": [
                    {"id": f"o{n}", "environments": ["*"], **one} for n, one in enumerate(windows)
                ],
            }
        ),
        "risk": st.sampled_from(
            [[{"id": "r", "paths": ["**"], "to": one}] for one in ("low", "high", "critical")]
        ),
        "approvals": st.builds(
            lambda where, count, owners: [
                {"environments": where, "at_least": count, "code_owners": owners}
            ],
            SOMEWHERE,
            st.integers(1, 3),
            st.booleans(),
        ),
        "canary": st.integers(1, 100).map(lambda weight: {"max_first_weight": weight}),
        "checks": st.just({"required": ["unit"]}),
    },
)


@settings(max_examples=150, deadline=None)
@given(data=policies(), own=OWN, facts=SEVERAL, now=MINUTES)
def test_a_repository_s_own_policy_never_allows_more(
    data: dict[str, Any], own: dict[str, Any], facts: list[Facts], now: datetime
) -> None:
    rules = rules_of(data)
    text = yaml.safe_dump(own, sort_keys=False)
    tighter = tightened(rules, own_rules(text, "own.yaml", tuple(rules.risk.environments)))
    assert tighter.digest != rules.digest
    for one in facts:
        before, after = evaluate(rules, one, now), evaluate(tighter, one, now)
        if after.outcome is Outcome.ALLOW:
            assert before.outcome is Outcome.ALLOW
        counted("a repository's own policy never allows more")
