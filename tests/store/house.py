"""The parts of the store put together, and the events, plans and decisions that tests feed them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.action import K8sDeploy, action_digest
from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.decision import Decision, MatchedRule, Outcome, Requirement
from domain.digest import digest_of
from domain.event import Actor, CheckResult, Event, EventBody, Pushed
from domain.intake import Intake, StartRun
from domain.plan import Change, Plan, RiskClass, Step
from domain.service import Target, Workload
from store.approvals import Approvals
from store.database import Database
from store.decisions import Decisions
from store.effects import Effects
from store.events import EventLog
from store.leases import Leases
from store.locks import Locks
from store.overrides import Overrides
from store.queries import Queries
from store.records import Lease, Receipt
from store.releases import Releases
from store.runs import Runs
from store.signals import Signals
from store.verdicts import Verdicts

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
DANA = Actor(login="dana")


@dataclass
class House:
    """Everything on one database."""

    db: Database
    worker: UUID
    leases: Leases
    runs: Runs
    log: EventLog
    signals: Signals
    decisions: Decisions
    approvals: Approvals
    effects: Effects
    verdicts: Verdicts
    locks: Locks
    releases: Releases
    overrides: Overrides
    queries: Queries

    @classmethod
    async def on(cls, db: Database) -> House:
        leases = Leases(db)
        return cls(
            db=db,
            worker=await leases.register("test", ttl_seconds=60),
            leases=leases,
            runs=Runs(db),
            log=EventLog(db),
            signals=Signals(db),
            decisions=Decisions(db),
            approvals=Approvals(db),
            effects=Effects(db),
            verdicts=Verdicts(db),
            locks=Locks(db),
            releases=Releases(db),
            overrides=Overrides(db),
            queries=Queries(db),
        )

    async def started(self, **changes: Any) -> Receipt:
        """A queued run of a change of its own."""
        sha = uuid4().hex
        intake = start(sha).model_copy(update=changes)
        return await self.log.accept(event(pushed(sha)), [intake], b"{}")

    async def leased(self, **changes: Any) -> Lease:
        """A run that this house's worker holds."""
        receipt = await self.started(**changes)
        assert receipt.run_id is not None
        return await self.taken(receipt.run_id)

    async def taken(self, run_id: UUID, worker: UUID | None = None) -> Lease:
        """The lease of a run that has to be due."""
        lease = await self.leases.take(run_id, worker or self.worker, NOW)
        assert lease is not None
        return lease

    async def robbed(self, lease: Lease) -> Lease:
        """The lease of another worker that has taken the run over since."""
        await self.db.count(
            "UPDATE workers SET until = clock_timestamp() - interval '1 s' WHERE id = %s",
            (lease.worker_id,),
        )
        return await self.taken(lease.run_id, await self.leases.register("other", 60))

    async def decided(
        self,
        lease: Lease,
        outcome: Outcome = Outcome.ALLOW,
        approval_id: UUID | None = None,
        step: Step | None = None,
    ) -> UUID:
        """A recorded decision on the step of `plan()`."""
        one = step or plan().steps[0]
        recorded = await self.decisions.record(
            lease,
            step=one,
            action_digest=action_digest(one.action),
            scope_digest=SCOPE,
            plan_digest=plan().digest,
            decision=decision(outcome),
            facts={"step": one.id},
            approval_id=approval_id,
        )
        return recorded.decision_id

    async def asked(self, lease: Lease, digest: str | None = None, count: int = 1) -> UUID:
        """The id of a pending question."""
        recorded = await self.decisions.record(
            lease,
            step=plan().steps[0],
            action_digest=action_digest(plan().steps[0].action),
            scope_digest=digest or SCOPE,
            plan_digest=plan().digest,
            decision=decision(Outcome.NEEDS_APPROVAL, count),
            facts={},
            ask=question(lease.run_id, digest or SCOPE, count),
        )
        assert recorded.approval_id is not None
        return recorded.approval_id


SCOPE = digest_of("scope")


def event(body: EventBody, **changes: Any) -> Event:
    """An event with ids of its own."""
    one = Event(
        id=uuid4(),
        source="github",
        delivery_id=str(uuid4()),
        body_digest=digest_of(str(uuid4())),
        received_at=NOW,
        body=body,
    )
    return one.model_copy(update=changes)


def pushed(sha: str, repo: str = "acme/shop") -> Pushed:
    """A push to main."""
    return Pushed(
        repo=repo,
        branch="main",
        default_branch="main",
        sha=sha,
        before="0" * 40,
        author=DANA,
        paths=("a.py",),
    )


def checked(sha: str, conclusion: Any = "success", name: str = "build") -> CheckResult:
    """A CI result."""
    return CheckResult(
        source="check_run", repo="acme/shop", sha=sha, name=name, conclusion=conclusion
    )


def start(sha: str, **changes: Any) -> StartRun:
    """The intake of a release."""
    one = StartRun(
        change_key=f"release:acme/shop@{sha}",
        title=f"Release {sha[:7]}",
        goal="release",
        author=DANA,
        repo="acme/shop",
        sha=sha,
    )
    return one.model_copy(update=changes)


def plan(service: str = "checkout", image: str = "registry.example/checkout:1") -> Plan:
    """A plan of one step."""
    target = Target(
        service=service,
        environment="prod",
        namespace="prod",
        workload=Workload(deployment=service, container=service),
        replicas=2,
    )
    step = Step(
        id=f"{service}.prod.stable",
        title="Roll out",
        agent="release",
        stage="full",
        scope=f"{service}/prod",
        action=K8sDeploy(target=target, track="stable", image=image),
    )
    change = Change(key="release:acme/shop@1", title="A change", author=DANA, repo="acme/shop")
    return Plan(change=change, goal="release", steps=(step,))


def requirement(count: int = 1) -> Requirement:
    """So many approvers, one hour."""
    return Requirement(count=count, expires_seconds=3600)


def decision(outcome: Outcome, count: int = 1) -> Decision:
    """A decision with one rule."""
    return Decision(
        outcome=outcome,
        risk=RiskClass.HIGH,
        rules=(MatchedRule(rule="test", outcome=outcome, reason="because"),),
        policy_digest="p",
        at=NOW,
        requirement=requirement(count) if outcome is Outcome.NEEDS_APPROVAL else None,
    )


def question(run_id: UUID, digest: str, count: int = 1) -> ApprovalRequest:
    """A request for approval."""
    return ApprovalRequest(
        id=uuid4(),
        run_id=run_id,
        step_id=plan().steps[0].id,
        scope="checkout/prod",
        digest=digest,
        policy_digest="p",
        environment="prod",
        risk="high",
        question="Go on?",
        author="dana",
        requirement=requirement(count),
        requested_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        state=ApprovalState.PENDING,
    )


def vote(principal: str, decision: str = "approve") -> Vote:
    """A vote."""
    return Vote(
        principal=principal, roles=("admin",), decision=decision, comment="", via="api", at=NOW
    )


def fine(request: ApprovalRequest, one: Vote, digest: str) -> str | None:
    """A judge that only compares the digest."""
    return None if digest == request.digest else "it is about something else"


Intakes = list[Intake]
