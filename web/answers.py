"""What the read API answers: the shapes behind `/openapi.json`, built from stored rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from domain.approval import ApprovalRequest, Vote
from domain.event import Event
from domain.plan import Plan
from domain.refusal import Refusal
from domain.run import RunState
from domain.service import Service
from domain.verdict import MetricWindow
from store.locks import Holder, LockRow
from store.queries import EventRow
from store.records import (
    DecisionRow,
    EffectRow,
    ReleaseRow,
    RunDetail,
    RunRow,
    SignalRow,
    VerdictRow,
)
from tools.toolbox import Backend
from web.progress import StepProgress, StepStatus, steps_of
from web.receive import Refused


class Answer(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(frozen=True)


class BackendAnswer(Answer):
    """One backend and whether it is real."""

    name: str
    mode: Literal["real", "simulated", "dry_run"]
    detail: str

    @classmethod
    def of(cls, backend: Backend) -> BackendAnswer:
        """From the toolbox."""
        return cls(name=backend.name, mode=backend.mode, detail=backend.detail)


class RunSummary(Answer):
    """A run as lists show it. Times are UTC."""

    id: UUID
    thread_id: UUID
    change_key: str
    goal: str
    title: str
    repo: str | None
    number: int | None
    sha: str | None
    author: str
    state: RunState
    reason: str = Field(description="What it waits for, what denied it, what failed")
    targets: tuple[str, ...] = Field(description="`service/environment` keys its plan touches")
    step_id: str | None = Field(description="The step it is at")
    due_at: datetime | None = Field(
        description="When its timer wakes it, in the time of the world it operates"
    )
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    superseded_by: UUID | None

    @classmethod
    def of(cls, run: RunRow) -> RunSummary:
        """From the stored row, without its plan."""
        return cls.model_validate(run.model_dump(exclude={"plan", "plan_digest", "event_id"}))


class RunList(Answer):
    """A page of runs, newest first. `next` is what to give as `before` for the page after."""

    runs: tuple[RunSummary, ...]
    next: UUID | None


class StepAnswer(Answer):
    """A step and how far it is. Steps of the way back and closing words follow the plan's own."""

    id: str
    title: str
    stage: str
    scope: str
    kind: str = Field(description="Kind of action")
    phase: Literal["plan", "rollback", "closing"]
    status: StepStatus
    note: str
    decision_id: UUID | None = Field(description="The latest decision on it")
    effect_id: UUID | None

    @classmethod
    def of(cls, step: StepProgress) -> StepAnswer:
        """From the step's progress."""
        return cls(
            id=step.id,
            title=step.title,
            stage=step.stage,
            scope=step.scope,
            kind=step.kind,
            phase=step.phase,
            status=step.status,
            note=step.note,
            decision_id=step.decision.id if step.decision else None,
            effect_id=step.effect.id if step.effect else None,
        )


class PathEntry(Answer):
    """A node of the graph that the run passed, and when."""

    node: str
    at: datetime


class RunAnswer(RunSummary):
    """Everything about one run."""

    event: Event
    plan: Plan | None
    plan_digest: str | None
    steps: tuple[StepAnswer, ...]
    decisions: tuple[DecisionRow, ...]
    approvals: tuple[ApprovalRequest, ...]
    effects: tuple[EffectRow, ...]
    verdicts: tuple[VerdictRow, ...]
    shares: tuple[VerdictRow, ...] = Field(
        description="Whether the measured share of the traffic agreed with each weight"
    )
    signals: tuple[SignalRow, ...]
    path: tuple[PathEntry, ...]
    backends: tuple[BackendAnswer, ...]
    simulated: dict[str, bool] = Field(description="Per backend: true when nothing real is touched")

    @classmethod
    def from_detail(cls, detail: RunDetail, backends: Sequence[Backend]) -> RunAnswer:
        """From everything stored about the run."""
        return cls(
            **RunSummary.of(detail.run).model_dump(),
            event=detail.event,
            plan=detail.run.plan,
            plan_digest=detail.run.plan_digest,
            steps=tuple(StepAnswer.of(step) for step in steps_of(detail)),
            decisions=detail.decisions,
            approvals=detail.approvals,
            effects=detail.effects,
            verdicts=detail.verdicts,
            shares=detail.shares,
            signals=detail.signals,
            path=tuple(PathEntry(node=node, at=at) for node, at in detail.path),
            backends=tuple(BackendAnswer.of(one) for one in backends),
            simulated={one.name: one.mode != "real" for one in backends},
        )


class WindowList(Answer):
    """Measured windows by step id."""

    steps: dict[str, tuple[MetricWindow, ...]]


class ApprovalList(Answer):
    """Requests for approval, newest first."""

    approvals: tuple[ApprovalRequest, ...]


class RefusedVote(Answer):
    """A vote that does not count, and why."""

    vote: Vote
    reason: str


class ApprovalAnswer(Answer):
    """One request: what a yes says in full, the votes, and every attempt that was refused."""

    request: ApprovalRequest
    may_answer: tuple[str, ...] = Field(description="Roles, teams and code owners; empty: any role")
    refused: tuple[RefusedVote, ...]
    refusals: tuple[Refusal, ...] = Field(
        description="Commands to the run that were refused before they became votes"
    )


class RefusalList(Answer):
    """Commands that changed nothing, newest first, each with the reason."""

    refusals: tuple[Refusal, ...]


class Ballot(BaseModel):
    """A vote on a request."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["approve", "reject"]
    digest: str = Field(
        min_length=1,
        max_length=64,
        description="The request's `digest`: the vote counts for exactly that and nothing else",
    )
    comment: str = Field(default="", max_length=2000)


SignalName = Literal["hold", "resume", "cancel", "retry", "override"]


class SignalBody(BaseModel):
    """Something to tell a run."""

    model_config = ConfigDict(extra="forbid")

    kind: SignalName
    reason: str = Field(default="", max_length=2000, description="Required for `override`")


class SignalAnswer(Answer):
    """What it led to. `started`: a new run of the same change was begun (retry, override)."""

    run_id: UUID
    status: Literal["signalled", "started"]


class EventAnswer(Answer):
    """A delivery and what became of it."""

    id: UUID
    source: str
    kind: str
    delivery_id: str
    received_at: datetime
    status: str
    reason: str
    thread_id: UUID | None
    run_ids: tuple[UUID, ...]
    stored_at: datetime

    @classmethod
    def of(cls, seen: EventRow) -> EventAnswer:
        """From the stored row."""
        return cls(
            id=seen.event.id,
            source=seen.event.source,
            kind=seen.event.body.kind,
            delivery_id=seen.event.delivery_id,
            received_at=seen.event.received_at,
            status=seen.status,
            reason=seen.reason,
            thread_id=seen.thread_id,
            run_ids=seen.run_ids,
            stored_at=seen.stored_at,
        )


class EventList(Answer):
    """Deliveries, newest first."""

    events: tuple[EventAnswer, ...]


class LockAnswer(Answer):
    """A lock that is held, and the runs in line for it."""

    key: str
    run_id: UUID
    title: str
    since: datetime
    waiting: tuple[Holder, ...]

    @classmethod
    def of(cls, held: LockRow) -> LockAnswer:
        """From the stored row."""
        return cls(
            key=held.key,
            run_id=held.run_id,
            title=held.title,
            since=held.since,
            waiting=held.waiting,
        )


class LockList(Answer):
    """All locks that are held."""

    locks: tuple[LockAnswer, ...]


class LiveAnswer(Answer):
    """An environment of a service and the version last known to be good there."""

    environment: str
    namespace: str
    live: ReleaseRow | None = Field(description="The last known good version, if any is known")
    lock: LockAnswer | None


class ServiceAnswer(Answer):
    """A service of the catalogue with what is live where."""

    name: str
    repo: str
    description: str
    owners: tuple[str, ...]
    tags: tuple[str, ...]
    docs: str
    environments: tuple[LiveAnswer, ...]

    @classmethod
    def of(cls, service: Service, environments: Sequence[LiveAnswer]) -> ServiceAnswer:
        """From the catalogue and what is known of each environment."""
        return cls(
            name=service.name,
            repo=service.repo,
            description=service.description,
            owners=service.owners,
            tags=service.tags,
            docs=service.docs,
            environments=tuple(environments),
        )


class ServiceList(Answer):
    """The service catalogue."""

    services: tuple[ServiceAnswer, ...]


REFUSALS: dict[int, str] = {
    401: "Not authenticated",
    403: "Not allowed; `error` says why",
    404: "There is no such thing",
    409: "No longer possible; `error` says what changed",
    422: "Wrong shape; `path` names the field",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI."""
    return {one: {"model": Refused, "description": REFUSALS[one]} for one in statuses}
