"""Runs in every state, and what else stands on the pages."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from domain.action import MetricsCheck
from domain.approval import ApprovalState, Vote
from domain.decision import Outcome
from domain.effect import EffectState
from domain.event import (
    Actor,
    Alert,
    AlertGroup,
    CheckResult,
    Command,
    Commanded,
    CommandName,
    Event,
    Unhandled,
)
from domain.plan import Plan, Step
from domain.run import RunState
from domain.verdict import Counts, MetricWindow, VerdictKind
from nodes.planning import notify_step, way_back
from store.locks import Holder, LockRow
from store.queries import EventRow
from store.records import (
    ReleaseRow,
    RunDetail,
)
from tests.web.scene import (
    CATALOGUE,
    HOSTILE,
    NOW,
    OLD,
    SHA,
    Scene,
    checkout_plan,
    made_id,
    merged,
    run_id,
)

if TYPE_CHECKING:
    from tests.web.desk_twin import MemoryStore

COMMENT = (
    "### Releasing Faster basket totals\n\n**checkout/prod canary 10%**\n- [ ] Canary pods\n"
    f"<!-- fermata:release -->\n{HOSTILE}"
)


def _until(
    scene: Scene, plan: Plan, stop: str, *, approval: UUID | None = None
) -> tuple[Step, ...]:
    """Take the plan's steps up to, but not including, the step whose id ends with `stop`."""
    for index, step in enumerate(plan.steps):
        if step.id.endswith(stop):
            return plan.steps[index:]
        scene.walk("release" if step.agent == "release" else "conductor")
        held = approval if step.scope == "checkout/prod" else None
        if isinstance(step.action, MetricsCheck):
            good = [(0.004, 0.003), (0.0035, 0.0032), (0.003, 0.0031)]
            scene.judge(step, VerdictKind.PASS, "0.3% errors against 0.3% on stable.", good, 0.7)
        else:
            speaks = step.action.kind == "git_comment_pr"
            scene.act(step, approval=held, body=COMMENT if speaks else "")
    return ()


def asking() -> RunDetail:
    """Staging is done; production waits for a release manager."""
    plan = checkout_plan(42, "Faster basket totals")
    scene = Scene("asking", plan, merged(42, "Faster basket totals"), 0.6)
    rest = _until(scene, plan, "prod.canary-10.pods")
    scene.walk("release")
    scene.ask(rest[0], ApprovalState.PENDING)
    reason = "A release to production at medium risk needs 1 approval by a release-manager."
    return scene.done(RunState.NEEDS_APPROVAL, reason, step=rest[0], due=scene.at)


def _granted(scene: Scene, step: Step, by: Literal["page", "comment"] = "page") -> UUID:
    vote = Vote(
        principal="grace",
        roles=("release-manager",),
        decision="approve",
        comment="Looked at staging, go.",
        via=by,
        at=scene.at + timedelta(seconds=90),
    )
    request = scene.ask(step, ApprovalState.SPENT, vote)
    scene.tick(100)
    scene.signal("vote", principal="grace", decision="approve", state="approved")
    return request.id


def baking() -> RunDetail:
    """The canary has 10% and is being watched."""
    plan = checkout_plan(43, "Cache exchange rates", author="linus")
    scene = Scene("baking", plan, merged(43, "Cache exchange rates", "linus"), 0.4)
    rest = _until(scene, plan, "prod.canary-10.pods")
    approval = _granted(scene, rest[0])
    for step in rest[:2]:
        scene.act(step, approval=approval)
    check = rest[2]
    rates = [(0.011, 0.004), (0.007, 0.0035), (0.0052, 0.0033)]
    scene.judge(check, VerdictKind.INCONCLUSIVE, "Too little traffic so far.", rates, 1.4)
    scene.walk("wait")
    reason = "baking: 0.5% errors (4 of 780) against 0.3% on stable; too little traffic so far"
    return scene.done(
        RunState.WAITING, reason, step=check, due=NOW + timedelta(minutes=3, seconds=20)
    )


def succeeded() -> RunDetail:
    """All the way to full."""
    plan = checkout_plan(40, "Show delivery estimate in the basket", author="margaret")
    scene = Scene("succeeded", plan, merged(40, "Show delivery estimate", "margaret"), 26)
    rest = _until(scene, plan, "prod.canary-10.pods")
    approval = _granted(scene, rest[0], "comment")
    for step in rest:
        scene.walk("release")
        if isinstance(step.action, MetricsCheck):
            good = [(0.006, 0.003), (0.004, 0.0032), (0.0033, 0.0031), (0.003, 0.003)]
            scene.judge(step, VerdictKind.PASS, "0.3% errors against 0.3% on stable.", good, 0.4)
        else:
            scene.act(step, approval=approval)
    scene.walk("report")
    word = notify_step("report.notify", "Released", "checkout", "team-checkout", "info")
    scene.act(word, body="checkout/prod runs 4f2c1a9")
    scene.walk("report")
    reason = "release of checkout/staging, checkout/prod is complete"
    return scene.done(RunState.SUCCEEDED, reason)


def rolled_back() -> RunDetail:
    """The canary breached its SLO at 10%, and everything went back."""
    plan = checkout_plan(41, "New tax engine")
    scene = Scene("rolled-back", plan, merged(41, "New tax engine"), 3)
    rest = _until(scene, plan, "prod.canary-10.pods")
    approval = _granted(scene, rest[0])
    for step in rest[:2]:
        scene.act(step, approval=approval)
    why = (
        "checkout canary 8.1% errors (41 of 506) against 0.2% on stable (9 of 4,554); "
        "allowed 1.0%; evidence 4.1e7 ≥ 200"
    )
    rates = [(0.031, 0.003), (0.062, 0.0024), (0.081, 0.002)]
    scene.judge(rest[2], VerdictKind.FAIL, why, rates, 4.1e7)
    scene.walk("rollback")
    service = CATALOGUE.services[0]
    for step in way_back(service, service.environments[1], OLD, had_canary=True):
        scene.walk("release")
        scene.act(step, back=True)
    scene.walk("report")
    word = notify_step("report.notify", "Rolled back", "checkout", "team-checkout", "critical")
    scene.act(word, body="checkout/prod is back on 1f00aa4")
    scene.walk("report")
    return scene.done(RunState.ROLLED_BACK, f"checkout/prod went back: {why}")


def measured(detail: RunDetail, suffix: str) -> dict[str, tuple[MetricWindow, ...]]:
    """Windows of 30 seconds of a check whose canary gets worse while stable stays as it is."""
    plan = detail.run.plan
    assert plan is not None
    step = next(one for one in plan.steps if one.id.endswith(suffix))
    windows = []
    for index, bad in enumerate((8, 17, 26, 29, 31)):
        start = detail.run.created_at + timedelta(seconds=30 * index)
        for metric, kind, seen, base in (
            ("errors", "errors", bad, 9),
            ("latency", "latency", 12 + index, 100),
        ):
            windows.append(
                MetricWindow(
                    start=start,
                    seconds=30,
                    metric=metric,
                    kind=kind,
                    canary=Counts(bad=seen, total=506),
                    stable=Counts(bad=base, total=4554),
                )
            )
    return {step.id: tuple(windows)}


def denied() -> RunDetail:
    """Outside the change window."""
    plan = checkout_plan(39, "Friday evening hotfix")
    scene = Scene("denied", plan, merged(39, "Friday evening hotfix"), 90)
    rest = _until(scene, plan, "prod.canary-10.pods")
    reason = "Production is frozen from Fri 18:00 to Mon 08:00 (Europe/Berlin)."
    scene.decide(
        rest[0],
        Outcome.DENY,
        ("windows.weekend", Outcome.DENY, reason, "Opens Mon 4 May 08:00; or /override <reason>."),
        ("approvals.prod", Outcome.NEEDS_APPROVAL, "Needs 1 approval by a release-manager.", ""),
    )
    scene.walk("report")
    return scene.done(RunState.DENIED, f"[windows.weekend] {reason}", step=rest[0])


def failed() -> RunDetail:
    """A backend refused for good before anything had begun in production."""
    plan = checkout_plan(38, HOSTILE)
    scene = Scene("failed", plan, merged(38, HOSTILE), 50)
    first = next(step for step in plan.steps if step.action.kind == "k8s_deploy")
    error = "deployments.apps is forbidden: token=hunter2secret may not patch in checkout-staging"
    scene.act(first, state=EffectState.REFUSED, error=error, tries=3)
    scene.walk("report")
    return scene.done(RunState.FAILED, error, step=first)


def queued() -> RunDetail:
    """Just came in."""
    scene = Scene("queued", None, merged(44, "Rename a button"), 0.01)
    return scene.done(RunState.QUEUED, "", title="Rename a button")


def superseded() -> RunDetail:
    """A newer merge took its place."""
    plan = checkout_plan(37, "Log basket size")
    scene = Scene("superseded", plan, merged(37, "Log basket size"), 27)
    first = plan.steps[0]
    newer = run_id("succeeded")
    why = "A newer change has taken its place."
    scene.decide(first, Outcome.DENY, ("run.superseded", Outcome.DENY, why, ""))
    scene.signal("superseded", by=str(newer), key="release:acme/checkout@newer")
    scene.walk("report")
    return scene.done(RunState.SUPERSEDED, why, step=first, superseded_by=newer)


def _seen(name: str, minutes: float, body: Any, status: str, reason: str, *runs: UUID) -> EventRow:
    at = NOW - timedelta(minutes=minutes)
    source: Literal["github", "alertmanager"] = (
        "alertmanager" if isinstance(body, AlertGroup) else "github"
    )
    event = Event(
        id=made_id("seen", name),
        source=source,
        delivery_id=str(made_id("seen-delivery", name)),
        body_digest="e" * 64,
        received_at=at,
        body=body,
    )
    return EventRow(
        event=event,
        status=status,
        reason=reason,
        thread_id=None,
        run_ids=runs,
        stored_at=at,
    )


def deliveries() -> list[EventRow]:
    """What came in lately, some of it ignored."""
    alert = Alert(
        name="CheckoutErrorsHigh",
        status="firing",
        fingerprint="f00d",
        labels={"service": "x"},
        annotations={},
        starts_at=NOW,
    )
    group = AlertGroup(group_key="g", status="firing", receiver="fermata", alerts=(alert,))
    hold = Commanded(
        commands=(Command(name=CommandName.HOLD, args=("please", HOSTILE)),),
        author=Actor(login="dana"),
        repo="acme/checkout",
        number=42,
    )
    check = CheckResult(
        source="check_run", repo="acme/checkout", sha=SHA, name="unit", conclusion="success"
    )
    foreign = "no service in services.yaml has repo acme/website; add one to have it released"
    return [
        _seen("queued", 0.6, merged(44, "Rename a button"), "accepted", "", run_id("queued")),
        _seen("alert", 4, group, "ignored", "the alert names no service of services.yaml"),
        _seen("hold", 9, hold, "accepted", "", run_id("asking")),
        _seen(
            "star",
            12,
            Unhandled(what="star events are not used", repo="acme/checkout"),
            "ignored",
            "star events are not used",
        ),
        _seen("check", 31, check, "accepted", "", run_id("asking")),
        _seen("foreign", 55, Unhandled(what="push", repo="acme/website"), "ignored", foreign),
    ]


def _release(
    environment: str, tag: str, status: Literal["good", "bad"], hours: float, by: str
) -> ReleaseRow:
    return ReleaseRow(
        service="checkout",
        environment=environment,
        image=f"ghcr.io/acme/checkout:{tag}",
        sha=SHA,
        run_id=run_id(by),
        status=status,
        reason="post check",
        at=NOW - timedelta(hours=hours),
    )


def fill(store: MemoryStore) -> None:
    """Put every scene into a store."""
    store.add(
        asking(), baking(), succeeded(), rolled_back(), denied(), failed(), queued(), superseded()
    )
    store.rows = deliveries()
    store.releases = [
        _release("prod", "4f2c1a9be07d", "bad", 2.5, "rolled-back"),
        _release("prod", "1f00aa4", "good", 25, "succeeded"),
        _release("staging", "4f2c1a9be07d", "good", 0.5, "asking"),
    ]
    back = store.details[run_id("rolled-back")]
    store.measured[back.run.id] = measured(back, "prod.canary-10.check")
    holder = Holder(
        key="checkout/prod",
        run_id=run_id("asking"),
        title="Faster basket totals",
        since=NOW - timedelta(minutes=12),
    )
    store.locks = [
        LockRow(
            key="checkout/prod",
            run_id=run_id("baking"),
            title="Cache exchange rates",
            since=NOW - timedelta(minutes=20),
            waiting=(holder,),
        )
    ]
