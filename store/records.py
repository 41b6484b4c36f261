"""Rows as the rest of the house sees them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from domain.approval import ApprovalRequest
from domain.configuration import Configuration
from domain.decision import Decision
from domain.effect import Applied, EffectState
from domain.event import Event, Frozen
from domain.plan import Plan
from domain.run import RunState
from domain.verdict import Verdict


class Receipt(Frozen):
    """What became of a delivery. `reason` says why it was ignored."""

    event_id: UUID
    status: Literal["accepted", "duplicate", "ignored"]
    run_id: UUID | None = None
    thread_id: UUID | None = None
    run_ids: tuple[UUID, ...] = ()
    reason: str = ""


class RunRow(Frozen):
    """A run as the API and the pages show it. Times are aware UTC."""

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
    reason: str
    """Why it is in this state: what it waits for, what denied it, what failed."""
    targets: tuple[str, ...]
    """`service/environment` keys its plan touches."""
    event_id: UUID
    plan: Plan | None
    plan_digest: str | None
    step_id: str | None
    """The step it is at."""
    due_at: datetime | None
    """When its timer wakes it (in the time of the world it operates)."""
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    superseded_by: UUID | None = None


class Lease(Frozen):
    """The right to advance a run, until another worker takes a higher fence."""

    run_id: UUID
    thread_id: UUID
    fence: int
    worker_id: UUID
    event: Event
    goal: str
    state: RunState
    started: bool
    """Whether the graph has been entered before (a checkpoint may exist)."""
    waiting_seq: int
    """Highest signal number that the gate had read when the run last went to sleep."""
    due_at: datetime | None


class SignalRow(Frozen):
    """Something a run was told. `seq` grows within a run."""

    run_id: UUID
    seq: int
    kind: str
    payload: dict[str, Any]
    event_id: UUID | None
    at: datetime


class DecisionRow(Frozen):
    """A decision of the gate as stored."""

    id: UUID
    run_id: UUID
    seq: int
    step_id: str
    action_kind: str
    action_digest: str
    scope: str
    scope_digest: str
    decision: Decision
    facts: dict[str, Any]
    approval_id: UUID | None
    """The approval that made it allow, where one was needed."""
    at: datetime


class EffectRow(Frozen):
    """One effect on the outside world."""

    id: UUID
    run_id: UUID
    step_id: str
    action_kind: str
    digest: str
    scope_digest: str
    decision_id: UUID
    approval_id: UUID | None
    state: EffectState
    action: dict[str, Any]
    result: Applied | None
    error: str
    tries: int
    started_at: datetime
    finished_at: datetime | None


class Claim(Frozen):
    """Answer to claiming an effect.

    `fresh`: nobody has tried; do it. `applied`: `result` is what happened; do not do it again.
    `unknown`: it was started and not finished; read the world back first.
    `retry`: an earlier try is known to have changed nothing; do it.
    """

    effect_id: UUID
    status: Literal["fresh", "applied", "unknown", "retry"]
    result: Applied | None = None
    tries: int = 1


class VerdictRow(Frozen):
    """A verdict as stored."""

    run_id: UUID
    seq: int
    step_id: str
    phase: str
    verdict: Verdict
    at: datetime


class ReleaseRow(Frozen):
    """An image that was proven in an environment (`good`), rolled back (`bad`), or taken back with
    its group though nothing was wrong with it (`withdrawn`)."""

    service: str
    environment: str
    image: str
    sha: str | None
    run_id: UUID
    status: Literal["good", "bad", "withdrawn"]
    reason: str
    at: datetime
    config: Configuration = ()
    """The configuration it ran with; () where none is versioned."""


class OverrideRow(Frozen):
    """A break-glass override for one run's change: who, why, until when."""

    id: UUID
    run_id: UUID
    change_key: str
    principal: str
    roles: tuple[str, ...]
    reason: str
    at: datetime
    expires_at: datetime


class RunFacts(Frozen):
    """What the gate reads about a run in one go."""

    run: RunRow
    signals: tuple[SignalRow, ...]
    approvals: tuple[ApprovalRequest, ...]
    overrides: tuple[OverrideRow, ...]
    """Those of the change (by change_key), also from an earlier run of it."""
    refused: tuple[int, ...] = ()
    """Numbers of the signals that were refused when they were first read."""
    ci: tuple[CiFact, ...]
    """Latest result of each check on the run's commit."""


class CiFact(Frozen):
    """Latest word of one CI check on a commit."""

    name: str
    source: str
    conclusion: str | None
    url: str


class RunDetail(Frozen):
    """Everything about one run, for its page and for `GET /api/runs/{id}`."""

    run: RunRow
    event: Event
    decisions: tuple[DecisionRow, ...]
    approvals: tuple[ApprovalRequest, ...]
    effects: tuple[EffectRow, ...]
    verdicts: tuple[VerdictRow, ...]
    shares: tuple[VerdictRow, ...] = ()
    """What was measured of the traffic after each change of weight; not a verdict on a version."""
    signals: tuple[SignalRow, ...]
    path: tuple[tuple[str, datetime], ...]
    """Nodes passed, in order, with when."""


RunFacts.model_rebuild()
