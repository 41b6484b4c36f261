"""A decision of the gate's evaluator, and the same one asked of OPA over loopback.

Both decide the shipped policy's samples, as far as OPA's policy covers them, and have to agree on
every one before anything is timed. Then they take turns, some rounds of all cases at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.figures import Figure, Section, Target, percentile
from bench.ground import ROOT, BenchError
from bench.opa_server import Asked, built, serving, version
from domain.yaml_source import load, validate
from policy.evaluate import evaluate
from policy.facts import Facts
from policy.raw import RawPolicy
from policy.raw_samples import RawSample
from policy.rules import Rules, load_policy
from policy.samples import facts_of
from server import settle_memory

TURNS = 150
"""How often each case is decided by each side."""
ROUNDS = 15
"""How often in a row, before it is the other side's turn: each with its caches warm."""
COVERED = frozenset(
    {
        "environment.unknown",
        "windows.closed",
        "override.accepted",
        "canary.first_weight",
        "canary.missing",
        "checks.failed",
        "approval.required",
        "approval.incomplete",
        "approval.granted",
        "policy.clear",
        "slo.budget_spent",
        "slo.budget_low",
        "security.cvss",
        "security.unscored",
        "security.secret",
        "signing.unverified",
        "cost.over",
        "cost.unpriced",
    }
)
"""Samples that OPA's policy can decide, by the rule they name."""


@dataclass(frozen=True)
class Case:
    """One question to both."""

    name: str
    facts: Facts
    at: datetime
    body: bytes


async def measure_policy(tell: Callable[[str], None]) -> Section:
    """Agreement first, then the times."""
    begun = time.monotonic()
    text = (ROOT / "policy.yaml").read_text(encoding="utf-8")
    rules = load_policy(text, "policy.yaml")
    raw = validate(RawPolicy, load(text, "policy.yaml"))
    cases = [_case(rules, one) for one in raw.samples if _covered(one)]
    settle_memory()  # as `serve` and `worker` do before they decide anything
    everything = [
        _spent(evaluate, rules, facts, at)
        for facts, at in [(facts_of(rules, one), one.at) for one in raw.samples]
        for _ in range(TURNS)
    ]
    alone = Figure(
        "evaluate(), p50 over all samples of policy.yaml",
        percentile(everything, 0.5) * 1e6,
        "µs",
        Target("at most", 200.0),
        f"{len(raw.samples)} samples, {TURNS} turns each; "
        f"p95 {percentile(everything, 0.95) * 1e6:.0f} µs",
    )
    figures = [alone]
    try:
        binary = built(tell)
    except BenchError as error:
        tell(f"not compared with OPA: {error}")
    else:
        async with serving(binary) as asked:
            figures += _compared(rules, cases, asked, tell)
    return Section("Policy decisions", tuple(figures), time.monotonic() - begun)


def _compared(
    rules: Rules, cases: list[Case], asked: Asked, tell: Callable[[str], None]
) -> list[Figure]:
    for one in cases:
        ours, theirs = evaluate(rules, one.facts, one.at), asked.decide(one.body)
        if (ours.outcome.value, ours.risk.value) != (theirs["outcome"], theirs["risk"]):
            raise BenchError(
                f"OPA decides {one.name!r} otherwise: {theirs}, where it is {ours.outcome.value} "
                f"at risk {ours.risk.value} by {', '.join(ours.deciding_rules)}"
            )
    tell(f"both agree on {len(cases)} cases")
    mine: list[float] = []
    opa: list[float] = []
    for turn in range(1 + TURNS // ROUNDS):
        here = [_spent(evaluate, rules, one.facts, one.at) for one in cases * ROUNDS]
        there = [_spent(asked.decide, one.body) for one in cases * ROUNDS]
        if turn:  # the first turn warms both up
            mine += here
            opa += there
    p50, opa50 = percentile(mine, 0.5), percentile(opa, 0.5)
    return [
        Figure(
            f"p50 of OPA {version()} over loopback, against evaluate()",
            opa50 / p50,
            "x",
            Target("at least", 10.0),
            f"{opa50 * 1e6:.0f} µs against {p50 * 1e6:.0f} µs on the same {len(cases)} cases in "
            f"turns; p95 {percentile(opa, 0.95) * 1e6:.0f} against "
            f"{percentile(mine, 0.95) * 1e6:.0f} µs",
        )
    ]


def _spent(call: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin


def _covered(sample: RawSample) -> bool:
    facts = sample.facts
    return (
        sample.rule in COVERED
        and facts.action == "k8s_deploy"
        and facts.manifests == ()
        and facts.verdict is None
    )


def _case(rules: Rules, sample: RawSample) -> Case:
    facts = facts_of(rules, sample)
    body = json.dumps({"input": _input(sample, facts)}).encode()
    return Case(sample.name, facts, sample.at, body)


def _input(sample: RawSample, facts: Facts) -> dict[str, Any]:
    """The facts as OPA's policy reads them."""
    short, approval = sample.facts, facts.approval
    evidence = short.evidence
    return {
        "at": _nanoseconds(sample.at),
        "environment": short.environment,
        "service": short.service,
        "title": short.title,
        "author": short.author,
        "paths": short.paths,
        "lines": short.lines,
        "services": short.services,
        "replicas": short.replicas,
        "first_install": short.first_install,
        "first_weight": short.first_weight,
        "in_flight": short.in_flight,
        "budget_left": short.error_budget_left,
        "checks": short.checks,
        "overrides": [
            {
                "by": one.principal,
                "roles": one.roles,
                "reason": one.reason,
                "at": _nanoseconds(one.at),
                "expires": _nanoseconds(one.expires_at),
            }
            for one in facts.overrides
        ],
        "votes": [
            {
                "by": one.principal,
                "roles": one.roles,
                "decision": one.decision,
                "at": _nanoseconds(one.at),
            }
            for one in (approval.votes if approval else ())
        ],
        "expires": _nanoseconds(approval.expires_at) if approval else 0,
        "vulnerabilities": [one.model_dump() for one in evidence.scan.findings]
        if evidence.scan
        else [],
        "secrets": evidence.secrets or [],
        "signature": evidence.signature,
        "cost": evidence.cost.model_dump() if evidence.cost else {"unpriced": []},
    }


def _nanoseconds(at: datetime) -> int:
    return round(at.timestamp()) * 1_000_000_000
