"""Facts, requests and policies for the tests of policy: the ordinary case, with what differs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from domain.action import (
    Action,
    K8sDeploy,
    K8sRetire,
    K8sRollback,
    K8sTraffic,
    MetricsCheck,
    Notify,
)
from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.decision import Requirement
from domain.event import Actor
from domain.evidence import ErrorBudget
from domain.plan import Change, Step
from domain.service import Target, Workload
from domain.verdict import Verdict, VerdictKind
from policy.facts import Facts, RepositoryPolicy
from policy.rules import Rules, load_policy

SHIPPED = Path(__file__).parents[2] / "policy.yaml"
WEDNESDAY = datetime(2026, 3, 25, 11, 0, tzinfo=UTC)
"""A working day at noon in Berlin: no window of the shipped policy is closed."""
SATURDAY = datetime(2026, 3, 28, 11, 0, tzinfo=UTC)
DIGEST = "d" * 64

SMALL = """\
version: 1
environments:
  staging: {risk: low}
  prod: {risk: medium}
releases: {superseded_in_flight: finish, in_flight_window: finish}
rollback: {manual: allow}
risk: {unknown_paths: high, without_canary: high}
windows:
  timezone: Europe/Berlin
  when_closed: wait
  deny: []
approvals:
  author_may_approve: false
  merger_may_approve: true
  expires: 24h
  needed:
    - {environments: [staging], count: 0}
    - {environments: [prod], count: 1, roles: [release-manager]}
  otherwise: {count: 1, roles: [admin]}
canary: {max_first_weight: 10, required_in: [prod], missing: approve}
slo:
  pre: {fail: approve, inconclusive: approve, nodata: approve, error: approve}
  canary: {fail: deny, inconclusive: approve, nodata: approve, error: approve}
  post: {fail: deny, inconclusive: approve, nodata: approve, error: approve}
checks: {environments: [prod], required: []}
security:
  environments: [prod]
  required_in: []
  missing: deny
  cvss: {deny_from: 9.0, ask_from: 7.0, unscored: approve}
  known_exploited: deny
  vex_trusted: []
  secrets: {found: deny, required_in: [], missing: deny}
signing: {required_in: [], unverified: deny, unknown: deny}
sbom: {required_in: [], absent: deny, unknown: deny}
cost:
  environments: [prod]
  required_in: []
  currency: EUR
  most_monthly: 5000
  most_growth: 10
  over: approve
  unpriced: deny
  unknown: deny
models: {}
repositories:
  {own_policy: ignore, without_forge: ignore, required_in: ["*"], unknown: approve, broken: deny}
overrides: {roles: [sre-lead], min_reason: 10, max_duration: 2h}
autonomy:
  quarantine: {after: 2, within: 14d}
  flapping: {rollbacks: 3, within: 6h, then: approve}
  alerts: [critical]
  fast_rollback: 7d
manifests:
  rules:
    image-tag: deny
    image-digest: ignore
    image-registry: deny
    resources: deny
    network-policy: deny
    privileged: deny
    host-namespaces: deny
    host-path: deny
    non-root: deny
    privilege-escalation: deny
    probes: approve
  unreadable: approve
  adopted: image
"""
"""A policy without windows and samples, one line a section, to be changed by `policy_with`."""

EVERYTHING = tuple(
    sorted(
        set(
            re.findall(
                r'"([a-z]+\.[a-z_]+)"',
                "".join(
                    one.read_text(encoding="utf-8")
                    for one in (SHIPPED.parent / "policy" / "families").glob("*.py")
                ),
            )
        )
        | {f"slo.{p}.{k.value}" for p in ("pre", "canary", "post") for k in VerdictKind}
    )
)
"""Every rule's id: a request that asked about all of them was overtaken by no policy."""


@cache
def shipped() -> Rules:
    """The policy that ships at the top of the tree."""
    return load_policy(SHIPPED.read_text(encoding="utf-8"), "policy.yaml")


@cache
def policy_with(*changes: tuple[str, str]) -> Rules:
    """The small policy with pieces of its text replaced; each has to be there exactly once."""
    return load_policy(small_with(*changes), "small.yaml")


def small_with(*changes: tuple[str, str]) -> str:
    """The small policy's text with pieces replaced."""
    text = SMALL
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the small policy"
        text = text.replace(old, new)
    return text


def target(environment: str = "prod", service: str = "checkout") -> Target:
    """A service in an environment."""
    workload = Workload(deployment=service, container=service)
    return Target(
        service=service,
        environment=environment,
        namespace=environment,
        workload=workload,
        replicas=2,
    )


def deploy(environment: str = "prod", *, track: str = "canary", weight: int = 10) -> Action:
    """Bring a track to an image."""
    assert track in ("canary", "stable")
    return K8sDeploy(
        target=target(environment),
        track="canary" if track == "canary" else "stable",
        image="checkout:2",
        weight=weight,
    )


def traffic(weight: int) -> Action:
    """Shift traffic in production."""
    return K8sTraffic(target=target(), weight=weight)


def rollback() -> Action:
    """Bring production's stable back."""
    return K8sRollback(target=target(), image="checkout:1")


def retire() -> Action:
    """Take production's canary away."""
    return K8sRetire(target=target())


def check(environment: str = "prod") -> Action:
    """Look at the metrics."""
    return MetricsCheck(
        target=target(environment),
        phase="canary",
        version="2",
        baseline="1",
        weight=10,
        bake_seconds=60,
        interval_seconds=30,
    )


def notify() -> Action:
    """Tell people."""
    return Notify(channel="releases", severity="info", title="Told", text="Told")


def facts(action: Action | None = None, **more: Any) -> Facts:
    """A release of one file to production with a 10% canary, unless told otherwise.

    `paths` and `author` go into the change; `verdict` may be a kind.
    """
    action = action if action is not None else deploy()
    at = getattr(action, "target", None)
    change = Change(
        key="release:shop/checkout@abc",
        title="Faster checkout",
        sha="abc1234def",
        author=Actor(login=more.pop("author", "ann")),
        merged_by=Actor(login=more.pop("merged_by")) if more.get("merged_by") else None,
        paths=more.pop("paths", ("src/app.py",)),
    )
    kind = more.pop("verdict", None)
    if kind is not None:
        more["verdict"] = Verdict(kind=VerdictKind(kind), reason="7 of 90 requests were bad.")
        more.setdefault("verdict_phase", "canary")
    step = Step(
        id="s1", title="Step", agent="release", stage="prod", scope="checkout/prod", action=action
    )
    defaults: dict[str, Any] = {
        "goal": "release",
        "environment": at.environment if at else None,
        "service": at.service if at else None,
        "first_weight": 10 if at and at.environment == "prod" else None,
        "canary_planned": bool(at and at.environment == "prod"),
        "scope_digest": DIGEST,
        "repository": RepositoryPolicy(state="absent", where=".fermata/policy.yaml"),
        "error_budgets": (ErrorBudget(sli="availability", remaining=0.9, window_seconds=2419200),),
    }
    return Facts(step=step, change=change, **{**defaults, **more})


def vote(principal: str, *roles: str, decision: str = "approve", **more: Any) -> Vote:
    """A vote, ten minutes after the request of `request()`."""
    return Vote(
        principal=principal,
        roles=roles,
        decision=decision,
        comment=more.get("comment", ""),
        teams=more.get("teams", ()),
        via="api",
        at=more.get("at", WEDNESDAY - timedelta(minutes=50)),
    )


def request(*votes: Vote, state: str = "approved", **more: Any) -> ApprovalRequest:
    """A request an hour old, open for 24 hours, with votes."""
    values: dict[str, Any] = {
        "id": UUID(int=1),
        "run_id": UUID(int=2),
        "step_id": "s1",
        "scope": "checkout/prod",
        "digest": DIGEST,
        "policy_digest": "p",
        "environment": "prod",
        "risk": "critical",
        "question": "Go on?",
        "author": "ann",
        "requirement": Requirement(
            count=1, roles=("release-manager",), expires_seconds=86400, asks=EVERYTHING
        ),
        "requested_at": WEDNESDAY - timedelta(hours=1),
        "expires_at": WEDNESDAY + timedelta(hours=23),
        "state": ApprovalState(state),
        "votes": votes,
    }
    return ApprovalRequest(**{**values, **more})
