"""Builds the rows of one run, as the engine would have left them behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_DNS, UUID, uuid5

from domain.action import MetricsCheck, action_digest
from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.decision import Decision, MatchedRule, Outcome, Requirement
from domain.effect import Applied, EffectState
from domain.event import (
    Actor,
    Event,
    PullRequestChanged,
)
from domain.plan import Change, Plan, RiskClass, Step
from domain.run import FINAL, RunState, thread_id_of
from domain.service import SLI, Catalogue, Environment, Service, Workload
from domain.strategy import CanaryStep
from domain.verdict import MetricVerdict, Verdict, VerdictKind
from nodes.planning import release_plan
from store.records import (
    DecisionRow,
    EffectRow,
    RunDetail,
    RunRow,
    SignalRow,
    VerdictRow,
)

NOW = datetime(2026, 5, 5, 14, 30, tzinfo=UTC)
POLICY = "9a41c7" + "0" * 58
OLD = "ghcr.io/acme/checkout:1f00aa4"
SHA = "4f2c1a9be07d35c8a6f1e2d3c4b5a69788776655"
HOSTILE = '<script>alert(1)</script> & "quotes" [x](javascript:alert(1))'


def _service(name: str, repo: str, *paths: str) -> Service:
    return Service(
        name=name,
        repo=repo,
        paths=paths or ("**",),
        image=f"ghcr.io/acme/{name}:{{sha}}",
        owners=(f"team-{name}",),
        description=f"Example service {name}.",
        workload=Workload(deployment=name, container="app", route=name),
        environments=(
            Environment(name="staging", namespace=f"{name}-staging"),
            Environment(
                name="prod",
                namespace=f"{name}-prod",
                canary=tuple(CanaryStep(weight=w, bake_seconds=300) for w in (10, 50, 100)),
                replicas=4,
            ),
        ),
        slis=(
            SLI(name="errors", kind="errors", bad="b", total="t", objective=0.99),
            SLI(name="latency", kind="latency", bad="b", total="t", objective=0.95),
        ),
    )


CATALOGUE = Catalogue(
    services=(
        _service("checkout", "acme/checkout"),
        _service("payments", "acme/platform", "services/payments/**"),
        _service("search", "acme/platform", "services/search/**"),
    )
)


def run_id(name: str) -> UUID:
    """The id of a scene's run."""
    return uuid5(NAMESPACE_DNS, f"run.{name}")


def made_id(*parts: object) -> UUID:
    """An id that is the same every time."""
    return uuid5(NAMESPACE_DNS, ".".join(map(str, parts)))


def merged(number: int, title: str, author: str = "ada") -> PullRequestChanged:
    """A merged pull request of the checkout service."""
    return PullRequestChanged(
        action="closed",
        merged=True,
        repo="acme/checkout",
        number=number,
        title=title,
        author=Actor(login=author),
        head_sha="9c0d8e7f6a5b4c3d2e1f00112233445566778899",
        head_ref="topic",
        base_sha="0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        base_ref="main",
        default_branch="main",
        merge_sha=SHA,
        merged_by=Actor(login="grace"),
    )


def checkout_plan(number: int, title: str, author: str = "ada") -> Plan:
    """Staging, then 10, 50 and 100 percent of production, then full."""
    change = Change(
        key=f"release:acme/checkout@{SHA}",
        title=title,
        repo="acme/checkout",
        number=number,
        sha=SHA,
        author=Actor(login=author),
        merged_by=Actor(login="grace"),
        paths=("basket/totals.py",),
        url=f"https://github.com/acme/checkout/pull/{number}",
    )
    running: dict[str, str | None] = {"checkout/staging": OLD, "checkout/prod": OLD}
    return release_plan(change, CATALOGUE.services[:1], running, announce=True)


class Scene:
    """Collects the rows of one run as its steps go by, a minute a step."""

    def __init__(self, name: str, plan: Plan | None, body: Any, hours_ago: float) -> None:
        self.id = run_id(name)
        self.name = name
        self.plan = plan
        self.at = NOW - timedelta(hours=hours_ago)
        self.began = self.at
        self.event = Event(
            id=made_id("event", name),
            source="github",
            delivery_id=str(made_id("delivery", name)),
            body_digest="d" * 64,
            received_at=self.at,
            body=body,
        )
        self.decisions: list[DecisionRow] = []
        self.effects: list[EffectRow] = []
        self.verdicts: list[VerdictRow] = []
        self.signals: list[SignalRow] = []
        self.approvals: list[ApprovalRequest] = []
        self.path: list[tuple[str, datetime]] = [("conductor", self.at)]

    def tick(self, seconds: float = 60) -> datetime:
        self.at += timedelta(seconds=seconds)
        return self.at

    def walk(self, *nodes: str) -> None:
        self.path += [(node, self.at) for node in nodes]

    def decide(
        self,
        step: Step,
        outcome: Outcome,
        *rules: tuple[str, Outcome, str, str],
        approval: UUID | None = None,
        rolling_back: bool = False,
        risk: RiskClass = RiskClass.MEDIUM,
    ) -> DecisionRow:
        seq = len(self.decisions) + 1
        facts: dict[str, Any] = {"step": {"id": step.id, "title": step.title, "stage": step.stage}}
        if rolling_back:
            facts["rolling_back"] = True
        row = DecisionRow(
            id=made_id("decision", self.name, seq),
            run_id=self.id,
            seq=seq,
            step_id=step.id,
            action_kind=step.action.kind,
            action_digest=action_digest(step.action),
            scope=step.scope,
            scope_digest=self.plan.scope_digest(step.scope) if self.plan else "0" * 64,
            decision=Decision(
                outcome=outcome,
                risk=risk,
                rules=tuple(
                    MatchedRule(rule=r, outcome=o, reason=why, remedy=fix)
                    for r, o, why, fix in rules
                ),
                policy_digest=POLICY,
                at=self.tick(2),
            ),
            facts=facts,
            approval_id=approval,
            at=self.at,
        )
        self.decisions.append(row)
        self.walk("gate")
        return row

    def allow(self, step: Step, *, approval: UUID | None = None, back: bool = False) -> DecisionRow:
        rules = [("windows.open", Outcome.ALLOW, "Tuesday 14:30 is inside the change window.", "")]
        if step.only_speaks:
            rules = [("comms.allowed", Outcome.ALLOW, "The step only speaks.", "")]
        elif back:
            rules = [("rollback.always", Outcome.ALLOW, "The way back is always open.", "")]
        elif approval is not None:
            said = "grace (release-manager) approved exactly this."
            rules.append(("approval.granted", Outcome.ALLOW, said, ""))
        return self.decide(
            step,
            Outcome.ALLOW,
            *rules,
            approval=approval,
            rolling_back=back,
            risk=RiskClass.LOW if step.only_speaks else RiskClass.MEDIUM,
        )

    def act(
        self,
        step: Step,
        *,
        approval: UUID | None = None,
        back: bool = False,
        state: EffectState = EffectState.APPLIED,
        error: str = "",
        tries: int = 1,
        body: str = "",
    ) -> None:
        decision = self.allow(step, approval=approval, back=back)
        self.walk("execute", "observe")
        done = state is EffectState.APPLIED
        action = step.action.model_dump(mode="json")
        if body:
            action["body"] = body
        self.effects.append(
            EffectRow(
                id=made_id("effect", self.name, len(self.effects)),
                run_id=self.id,
                step_id=step.id,
                action_kind=step.action.kind,
                digest=action_digest(step.action),
                scope_digest=decision.scope_digest,
                decision_id=decision.id,
                approval_id=approval,
                state=state,
                action=action,
                result=Applied(
                    summary=_summary(step), data={"body": body} if body else {}, simulated=True
                )
                if done
                else None,
                error=error,
                tries=tries,
                started_at=self.at,
                finished_at=self.tick(8) if done else None,
            )
        )

    def judge(
        self,
        step: Step,
        kind: VerdictKind,
        reason: str,
        rates: Sequence[tuple[float, float]],
        evidence: float | None = None,
    ) -> None:
        """One verdict a pair of (canary, stable) error rates; the last has `kind`."""
        assert isinstance(step.action, MetricsCheck)
        self.allow(step)
        for index, (canary, stable) in enumerate(rates):
            last = index == len(rates) - 1
            said = kind if last else VerdictKind.INCONCLUSIVE
            seen = 260.0 * (index + 1)
            self.tick(30)
            self.walk("execute", "observe", "release", "gate", "wait", "gate")
            self.verdicts.append(
                VerdictRow(
                    run_id=self.id,
                    seq=len(self.verdicts) + 1,
                    step_id=step.id,
                    phase=step.action.phase,
                    verdict=Verdict(
                        kind=said,
                        reason=reason if last else "Too little traffic so far.",
                        metrics=(
                            _metric("errors", said, canary, stable, 0.01, seen, evidence),
                            _metric("latency", said, 0.021, 0.019, 0.05, seen, 0.9),
                        ),
                        share=0.101 if step.action.phase == "canary" else None,
                    ),
                    at=self.at,
                )
            )

    def ask(self, step: Step, state: ApprovalState, *votes: Vote) -> ApprovalRequest:
        assert self.plan is not None
        needs = Requirement(
            count=1, roles=("release-manager",), expires_seconds=14400, escalate_seconds=3600
        )
        reason = "A release to production at medium risk needs 1 approval by a release-manager."
        self.decide(
            step,
            Outcome.NEEDS_APPROVAL,
            ("approvals.prod", Outcome.NEEDS_APPROVAL, reason, "/approve by a release-manager"),
            ("windows.open", Outcome.ALLOW, "Tuesday 14:30 is inside the change window.", ""),
        )
        self.walk("approve")
        request = ApprovalRequest(
            id=made_id("approval", self.name, len(self.approvals)),
            run_id=self.id,
            step_id=step.id,
            scope=step.scope,
            digest=self.plan.scope_digest(step.scope),
            policy_digest=POLICY,
            environment="prod",
            risk="medium",
            question=f"{self.plan.change.title}: go on in {step.scope}? {reason}",
            author=self.plan.change.author.login,
            requirement=needs,
            requested_at=self.at,
            expires_at=self.at + timedelta(hours=4),
            state=state,
            votes=votes,
        )
        self.approvals.append(request)
        return request

    def signal(self, kind: str, **payload: Any) -> None:
        self.signals.append(
            SignalRow(
                run_id=self.id,
                seq=len(self.signals) + 1,
                kind=kind,
                payload=payload,
                event_id=None,
                at=self.tick(5),
            )
        )

    def done(
        self,
        state: RunState,
        reason: str,
        *,
        step: Step | None = None,
        title: str = "",
        due: datetime | None = None,
        goal: str = "release",
        superseded_by: UUID | None = None,
    ) -> RunDetail:
        change = self.plan.change if self.plan else None
        key = change.key if change else f"pr:acme/checkout#{self.name}"
        targets = dict.fromkeys(one.scope for one in self.plan.steps) if self.plan else {}
        run = RunRow(
            id=self.id,
            thread_id=thread_id_of(f"{key}.{self.name}"),
            change_key=key,
            goal=goal,
            title=title or (change.title if change else self.name),
            repo="acme/checkout",
            number=change.number if change else None,
            sha=change.sha if change else None,
            author=change.author.login if change else "ada",
            state=state,
            reason=reason,
            targets=tuple(one for one in targets if "/" in one),
            event_id=self.event.id,
            plan=self.plan,
            plan_digest=self.plan.digest if self.plan else None,
            step_id=step.id if step else None,
            due_at=due,
            created_at=self.began,
            updated_at=self.at,
            finished_at=self.at if state in FINAL else None,
            superseded_by=superseded_by,
        )
        return RunDetail(
            run=run,
            event=self.event,
            decisions=tuple(self.decisions),
            approvals=tuple(self.approvals),
            effects=tuple(self.effects),
            verdicts=tuple(self.verdicts),
            signals=tuple(self.signals),
            path=tuple(self.path) if self.plan else (),
        )


def _metric(
    name: str,
    kind: VerdictKind,
    canary: float,
    stable: float,
    allowed: float,
    seen: float,
    evidence: float | None,
) -> MetricVerdict:
    over = name == "errors" and kind is VerdictKind.FAIL
    return MetricVerdict(
        metric=name,
        verdict=VerdictKind.FAIL if over else (VerdictKind.PASS if name == "latency" else kind),
        canary_rate=canary,
        stable_rate=stable,
        allowed_rate=allowed,
        canary_total=seen,
        stable_total=seen * 9,
        evidence=evidence,
        reason=f"{canary:.1%} against {stable:.1%} on stable" if over else "",
    )


def _summary(step: Step) -> str:
    match step.action.kind:
        case "git_comment_pr":
            return "dry run: comment on acme/checkout#42 rendered"
        case "notify":
            return "dry run: message to team-checkout rendered"
        case _:
            return f"{step.title}: done in the emulator"


def deliver_event() -> Event:
    """A delivery like any other."""
    return Event(
        id=made_id("any"),
        source="github",
        delivery_id="any",
        body_digest="f" * 64,
        received_at=NOW,
        body=merged(1, "Anything"),
    )
