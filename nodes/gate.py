"""Gate: gathers what is known, lets policy decide, and writes the decision down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from domain.action import (
    READ_ONLY_KINDS,
    K8sTraffic,
    LockRelease,
    MetricsCheck,
    Pause,
    action_digest,
    target_of,
)
from domain.approval import ApprovalRequest, ApprovalState
from domain.clock import Clock
from domain.decision import Decision, Outcome
from domain.digest import digest_of
from domain.event import Actor, CommandName
from domain.plan import Plan
from domain.state import (
    Proposal,
    Ruling,
    State,
    Update,
    baseline_config,
    baseline_of,
    companions_in_flight,
    target_in_flight,
)
from nodes.ballots import Ballots
from nodes.burning import has_paged, watched_places
from nodes.happenings import Happenings
from nodes.inquiry import Found, Inquiry
from nodes.manifests import Manifests
from nodes.passage import Passage, PassageRuntime
from policy.evaluate import evaluate
from policy.facts import AlertFact, CheckFact, Commander, Facts, OverrideFact
from policy.rules import Rules
from store.decisions import Decisions
from store.locks import Locks
from store.records import RunFacts, SignalRow
from store.runs import Runs
from store.signals import Signals


@dataclass(frozen=True)
class Gate:
    """The only place where a step is allowed, and the only writer of decisions."""

    rules: Callable[[], Rules]
    runs: Runs
    decisions: Decisions
    locks: Locks
    signals: Signals
    ballots: Ballots
    happenings: Happenings
    manifests: Manifests
    inquiry: Inquiry
    clock: Clock

    async def __call__(self, state: State, runtime: PassageRuntime) -> Update:
        passage = runtime.context
        proposal = _proposal(state)
        known = await self.runs.facts(passage.lease.run_id)
        # What comes in from here on has not been counted: it has to wake the run once more.
        seen = max((signal.seq for signal in known.signals), default=0)
        if await self.ballots.count(passage.lease, known, after=state["seen_seq"]):
            known = await self.runs.facts(passage.lease.run_id)
        proposal = await self._yielding(proposal, state, known)
        now = self.clock.now()
        known = await self._without_expired(passage, known, now)
        rules = self.rules()
        commander = await self.ballots.commander(state["event"], known)
        steering = self.ballots.steering(known)
        found = await self._found(state, proposal, rules)
        rules = found.rules
        facts = _facts(state, proposal, known, steering, commander).model_copy(
            update={
                "head_moved": await self._head_moved(state),
                "lock_alive": await self._lock_alive(proposal),
                "history": await self.happenings.history(proposal.step.action),
                "alerts": await self._alerts(state, known),
                "replaces_bad": await self._replaces_bad(state, proposal),
                **await self.manifests.facts(rules.manifests, proposal.step.action),
                **found.facts,
            }
        )
        decision = evaluate(rules, facts, now)
        if decision.outcome is Outcome.ALLOW and _takes_lock(proposal):
            holder = await self._lock(passage, proposal, state, known)
            if holder is not None:
                facts = facts.model_copy(update={"lock_holder": holder})
                decision = evaluate(rules, facts, now)
        ruling = await self._record(passage, state, proposal, facts, decision, now)
        return Update(proposal=proposal, ruling=ruling, seen_seq=max(seen, state["seen_seq"]))

    async def _alerts(self, state: State, known: RunFacts) -> tuple[AlertFact, ...]:
        """On the way forward only: the way back is not stopped by what made it necessary."""
        if state["mode"] != "forward":
            return ()
        return await self.happenings.alerts(known.run.id, known.signals, target_in_flight(state))

    async def _replaces_bad(self, state: State, proposal: Proposal) -> bool:
        """Asked for what begins or goes on in spite of a check; the rest does not depend on it."""
        action = proposal.step.action
        target = target_of(action)
        if target is None or state["mode"] != "forward":
            return False
        if isinstance(action, MetricsCheck) and proposal.concern is None:
            return False
        return await self.happenings.replaces_bad(
            action, baseline_of(state, target.key), baseline_config(state, target.key)
        )

    async def _found(self, state: State, proposal: Proposal, rules: Rules) -> Found:
        """What has to be asked outside; the way back and the closing words need none of it."""
        plan = state["plan"]
        if plan is None or state["mode"] != "forward":
            return Found(rules, {})
        in_flight = target_in_flight(state) is not None
        return await self.inquiry.about(
            plan, proposal.step, state["baselines"], rules, in_flight=in_flight
        )

    async def _without_expired(self, passage: Passage, known: RunFacts, now: datetime) -> RunFacts:
        """Close questions whose time is over, so that what is asked next is a new one."""
        over = [
            one
            for one in known.approvals
            if one.state is ApprovalState.PENDING and one.expires_at <= now
        ]
        for one in over:
            await self.ballots.approvals.expire(passage.lease, one.id)
        return await self.runs.facts(passage.lease.run_id) if over else known

    async def _head_moved(self, state: State) -> bool | None:
        """Whether a pull request has moved on since its head was taken for a `/deploy`.

        None: it could not be read. Releases of merged commits have no head to move.
        """
        plan = state["plan"]
        if plan is None or has_paged(state):
            return False
        concerned, head = await self.ballots.heads.now(state["event"], plan.goal)
        if not concerned:
            return False
        return None if head is None else head != plan.change.sha

    async def _yielding(self, proposal: Proposal, state: State, known: RunFacts) -> Proposal:
        """A watch over burn rates, and the question that a page has put in its place, make way at
        once for a newer change of the target: it may be the fix."""
        places = watched_places(proposal.step)
        if not places or state["mode"] != "forward":
            return proposal
        newer = known.run.superseded_by
        wanted = f"run {str(newer)[:8]}" if newer is not None else ""
        if not wanted:
            lines = [await self.locks.next_in_line(one) for one in places]
            waiting = next((one for one in lines if one is not None), None)
            if waiting is None:
                return proposal
            wanted = f"{waiting.title} (run {str(waiting.run_id)[:8]})"
        return Proposal(step=proposal.step, yields_to=wanted)

    async def _lock_alive(self, proposal: Proposal) -> bool | None:
        """For a step that frees a lock: whether the run it is about holds it and is under way."""
        action = proposal.step.action
        if not isinstance(action, LockRelease):
            return None
        holder = await self.locks.holder(action.key)
        return holder.alive if holder is not None and holder.run_id == action.holder else None

    async def _lock(
        self, passage: Passage, proposal: Proposal, state: State, known: RunFacts
    ) -> str | None:
        """Take the target's lock; the title of who holds it when it is not free.

        A rollback asked for by a person does not stand in line behind the release it is about:
        the holder is told to cancel, which sends it back the safe way. One that is asked for twice
        does: a way back is not broken off for another.
        """
        target = target_of(proposal.step.action)
        assert target is not None
        holder = await self.locks.acquire(passage.lease, target.key)
        if holder is None:
            return None
        if state["goal"] == "rollback":
            before = await self.runs.get(holder.run_id)
            if before is not None and before.goal == "rollback":
                return f"{holder.title} (run {str(holder.run_id)[:8]})"
            await self.signals.send(
                holder.run_id,
                CommandName.CANCEL.value,
                {
                    "author": known.run.author,
                    "authorised": True,
                    "why": f"superseded by {known.run.title}",
                },
            )
        elif holder.joined:
            # A watch that only looks on makes way; anybody else finishes.
            await self.signals.send(
                holder.run_id,
                "lock_wanted",
                {"key": target.key, "by": str(known.run.id), "title": known.run.title},
            )
        place = f"; {holder.ahead} before this one in line" if holder.ahead else ""
        return f"{holder.title} (run {str(holder.run_id)[:8]}){place}"

    async def _record(
        self,
        passage: Passage,
        state: State,
        proposal: Proposal,
        facts: Facts,
        decision: Decision,
        now: datetime,
    ) -> Ruling:
        plan = state["plan"]
        assert plan is not None
        ask = (
            _ask(passage, plan, proposal, facts, decision, now)
            if decision.outcome is Outcome.NEEDS_APPROVAL
            else None
        )
        approval = facts.approval
        granted = (
            approval.id
            if approval is not None
            and decision.outcome is Outcome.ALLOW
            and approval.state in (ApprovalState.APPROVED, ApprovalState.SPENT)
            else None
        )
        digest = action_digest(proposal.step.action)
        recorded = await self.decisions.record(
            passage.lease,
            step=proposal.step,
            action_digest=digest,
            scope_digest=facts.scope_digest,
            plan_digest=plan.digest,
            decision=decision,
            facts=_facts_for_the_record(facts),
            approval_id=granted,
            ask=ask,
        )
        if ask is not None and decision.until is None:
            decision = decision.model_copy(update={"until": ask.expires_at})
        return Ruling(
            decision=decision,
            decision_id=recorded.decision_id,
            approval_id=granted,
            asked_id=recorded.approval_id if ask is not None else None,
            scope_digest=facts.scope_digest,
            action_digest=digest,
        )


def _proposal(state: State) -> Proposal:
    """The agent's proposal; after an `ask`, the same step with the verdict to be accepted."""
    proposal = state["proposal"]
    assert proposal is not None
    finding = state["finding"]
    if finding is not None and finding.kind == "ask":
        return proposal.model_copy(
            update={"concern": finding.verdict, "not_before": None, "not_before_reason": ""}
        )
    return proposal


def _takes_lock(proposal: Proposal) -> bool:
    action = proposal.step.action
    return target_of(action) is not None and action.kind not in READ_ONLY_KINDS


def _scope_digest(plan: Plan, proposal: Proposal) -> str:
    """What an approval would cover: the scope's steps, the acceptance of a verdict, or a pause."""
    if proposal.concern is not None:
        return digest_of(
            {
                "plan": plan.digest,
                "step": proposal.step.id,
                "accept": proposal.concern.kind.value,
            }
        )
    if isinstance(proposal.step.action, Pause):
        return digest_of({"plan": plan.digest, "step": proposal.step.id, "go on": True})
    return plan.scope_digest(proposal.step.scope)


def _facts(
    state: State,
    proposal: Proposal,
    known: RunFacts,
    steering: tuple[SignalRow, ...],
    commander: Commander | None,
) -> Facts:
    plan = state["plan"]
    assert plan is not None
    step = proposal.step
    target = target_of(step.action)
    digest = _scope_digest(plan, proposal)
    asked = [one for one in known.approvals if one.digest == digest]
    weights = [
        one.action.weight
        for one in plan.steps
        if one.scope == step.scope and isinstance(one.action, K8sTraffic) and one.action.weight
    ]
    check = step.action if isinstance(step.action, MetricsCheck) else None
    # People steer the way forward; the way back and the closing words follow from it, and a
    # /cancel or a rejection that led there must not stop them.
    forward = state["mode"] == "forward"
    return Facts(
        step=step,
        change=plan.change,
        goal=plan.goal,
        environment=target.environment if target else None,
        service=target.service if target else None,
        first_weight=weights[0] if weights else None,
        canary_planned=bool(weights),
        in_flight=target_in_flight(state) is not None,
        group_begun=bool(companions_in_flight(state)),
        rolling_back=state["mode"] == "rollback",
        scope_digest=digest,
        approval=max(asked, key=lambda one: one.requested_at, default=None) if forward else None,
        overrides=tuple(
            OverrideFact(
                principal=one.principal,
                roles=one.roles,
                reason=one.reason,
                at=one.at,
                expires_at=one.expires_at,
            )
            for one in known.overrides
        ),
        checks=tuple(CheckFact(name=one.name, conclusion=one.conclusion) for one in known.ci),
        not_before=proposal.not_before,
        not_before_reason=proposal.not_before_reason,
        yields_to=proposal.yields_to,
        held_by=_held_by(steering) if forward else None,
        resumed_by=_resumed_by(steering, state) if forward else None,
        cancelled_by=_cancelled_by(steering) if forward else None,
        superseded_by=str(known.run.superseded_by) if forward and known.run.superseded_by else None,
        commander=commander,
        verdict=proposal.concern,
        verdict_phase=_phase(check) if proposal.concern is not None else None,
    )


def _phase(check: MetricsCheck | None) -> Literal["pre", "canary", "post"]:
    """What policy knows a check as: the watch over burn rates is one after full rollout. What an
    executor is unsure of while a change is under way (no check of ours) is its canary."""
    if check is None:
        return "canary"
    return "post" if check.phase == "burn" else check.phase


def _held_by(signals: tuple[SignalRow, ...]) -> Actor | None:
    """Who holds the run: the last /hold that no /resume has followed."""
    held: Actor | None = None
    for signal in sorted(signals, key=lambda one: one.seq):
        if signal.kind == CommandName.HOLD:
            held = _actor(signal)
        elif signal.kind == CommandName.RESUME:
            held = None
    return held


def _resumed_by(signals: tuple[SignalRow, ...], state: State) -> Actor | None:
    """Who said /resume since the current step was first proposed."""
    progress = state["progress"]
    if progress is None:
        return None
    since = [
        signal
        for signal in signals
        if signal.kind == CommandName.RESUME and signal.seq > progress.seen_seq
    ]
    return _actor(since[-1]) if since else None


def _cancelled_by(signals: tuple[SignalRow, ...]) -> Actor | None:
    cancels = [signal for signal in signals if signal.kind == CommandName.CANCEL]
    return _actor(cancels[0]) if cancels else None


def _actor(signal: SignalRow) -> Actor:
    author = signal.payload.get("author") or "unknown"
    return Actor(login=str(author), is_bot=bool(signal.payload.get("is_bot")))


def _ask(
    passage: Passage,
    plan: Plan,
    proposal: Proposal,
    facts: Facts,
    decision: Decision,
    now: datetime,
) -> ApprovalRequest:
    assert decision.requirement is not None
    return ApprovalRequest(
        id=uuid4(),
        run_id=passage.lease.run_id,
        step_id=proposal.step.id,
        scope=proposal.step.scope,
        digest=facts.scope_digest,
        policy_digest=decision.policy_digest,
        environment=facts.environment or "",
        risk=decision.risk.value,
        question=_question(plan, proposal, decision),
        author=plan.change.author.login,
        requirement=decision.requirement,
        requested_at=now,
        expires_at=now + timedelta(seconds=decision.requirement.expires_seconds),
        state=ApprovalState.PENDING,
        plan_digest=plan.digest,
        head=plan.change.sha,
        base=plan.change.base_sha,
        authors=tuple(one.login for one in (plan.change.opened_by,) if one is not None),
    )


def _question(plan: Plan, proposal: Proposal, decision: Decision) -> str:
    if proposal.concern is not None:
        return f"{proposal.step.title}: {proposal.concern.reason} Go on all the same?"
    if isinstance(proposal.step.action, Pause):
        return f"{plan.change.title}: {proposal.step.action.question}"
    return f"{plan.change.title}: go on in {proposal.step.scope}? {decision.reason}"


def _facts_for_the_record(facts: Facts) -> dict[str, Any]:
    """What the decision rested on, without what is stored beside it anyway."""
    record: dict[str, Any] = facts.model_dump(
        mode="json", exclude={"step", "change", "approval"}, exclude_defaults=True
    )
    record["step"] = {"id": facts.step.id, "title": facts.step.title, "stage": facts.step.stage}
    return record
