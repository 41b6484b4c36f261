"""How far a run has come: a status for each step, read from what was recorded. Pure.

The cursor lives in the checkpoint; what is shown here follows from decisions, effects and
verdicts alone, so that the page says nothing the database cannot prove.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from domain.decision import Outcome
from domain.effect import EffectState
from domain.plan import Plan
from domain.run import RunState
from domain.verdict import VerdictKind
from store.records import DecisionRow, EffectRow, RunDetail, VerdictRow

StepStatus = Literal[
    "done", "current", "waiting", "asked", "failed", "denied", "skipped", "pending"
]
Phase = Literal["plan", "rollback", "closing"]


@dataclass(frozen=True)
class StepProgress:
    """One step and how it went. `phase` tells the plan's own steps from the way back and the
    closing words, which are not in the plan."""

    id: str
    title: str
    stage: str
    scope: str
    kind: str
    status: StepStatus
    note: str
    """What there is to say about it: the effect's summary, the verdict, or why it stands."""
    phase: Phase
    action: dict[str, Any] | None
    decision: DecisionRow | None
    effect: EffectRow | None
    verdict: VerdictRow | None


@dataclass(frozen=True)
class Stage:
    """Steps that belong together, with the status they have as a whole."""

    name: str
    phase: Phase
    status: StepStatus
    steps: tuple[StepProgress, ...]


def steps_of(detail: RunDetail) -> tuple[StepProgress, ...]:
    """The plan's steps, then those of the way back and the closing words as far as they began."""
    known = _Known(detail)
    plan = detail.run.plan
    own = tuple(_planned(plan, known)) if plan is not None else ()
    return (*own, *_beyond(plan, known))


def stages_of(steps: Sequence[StepProgress]) -> tuple[Stage, ...]:
    """Consecutive steps of one stage, grouped."""
    groups: list[list[StepProgress]] = []
    for step in steps:
        if groups and (groups[-1][0].stage, groups[-1][0].phase) == (step.stage, step.phase):
            groups[-1].append(step)
        else:
            groups.append([step])
    return tuple(
        Stage(group[0].stage, group[0].phase, _overall(group), tuple(group)) for group in groups
    )


class _Known:
    """Latest rows by step, and where the run stands."""

    def __init__(self, detail: RunDetail) -> None:
        self.run = detail.run
        self.decisions = {row.step_id: row for row in sorted(detail.decisions, key=_seq)}
        self.effects = {
            row.step_id: row for row in sorted(detail.effects, key=lambda one: one.started_at)
        }
        self.verdicts = {row.step_id: row for row in sorted(detail.verdicts, key=_seq)}
        self.shares = {row.step_id: row for row in sorted(detail.shares, key=_seq)}

    def began(self, step_id: str) -> bool:
        """Whether the gate was ever asked about the step."""
        return step_id in self.decisions or step_id == self.run.step_id

    def is_current(self, step_id: str) -> bool:
        return step_id == self.run.step_id and not self.run.state.is_final


def _seq(row: DecisionRow | VerdictRow) -> int:
    return row.seq


def _planned(plan: Plan, known: _Known) -> Iterable[StepProgress]:
    ids = [step.id for step in plan.steps]
    furthest = max((i for i, one in enumerate(ids) if known.began(one)), default=-1)
    left = known.run.state.is_final or known.run.step_id not in {None, *ids}
    for index, step in enumerate(plan.steps):
        status = _status(step.id, index, furthest, left, known)
        yield _progress(
            step.id,
            step.title,
            step.stage,
            step.scope,
            step.action.kind,
            status,
            "plan",
            step.action.model_dump(mode="json"),
            known,
        )


def _status(step_id: str, index: int, furthest: int, left: bool, known: _Known) -> StepStatus:
    """Steps are taken in order: before the furthest one all are done, after it none has begun."""
    if index < furthest:
        return "done"
    if index > furthest:
        return "skipped" if left else "pending"
    if known.is_current(step_id):
        return _standing(known.run.state)
    if not left:
        return "current"
    return _ended(step_id, known)


def _standing(state: RunState) -> StepStatus:
    if state is RunState.NEEDS_APPROVAL:
        return "asked"
    return "waiting" if state is RunState.WAITING else "current"


def _ended(step_id: str, known: _Known) -> StepStatus:
    """How the last step that began came out, once the run has left it."""
    decision, effect = known.decisions.get(step_id), known.effects.get(step_id)
    verdict = known.verdicts.get(step_id)
    if decision is not None and decision.decision.outcome is Outcome.DENY:
        return "denied"
    if known.run.state is RunState.SUCCEEDED:
        return "done"
    if effect is not None and effect.state is not EffectState.APPLIED:
        return "failed"
    if verdict is not None and verdict.verdict.kind is VerdictKind.PASS:
        return "done"
    return "failed"


def _beyond(plan: Plan | None, known: _Known) -> Iterable[StepProgress]:
    """Steps that were decided on and are not in the plan: the way back, the closing words."""
    planned = {step.id for step in plan.steps} if plan is not None else set()
    for step_id, row in known.decisions.items():
        if step_id in planned:
            continue
        told = row.facts.get("step") or {}
        status = _standing(known.run.state) if known.is_current(step_id) else _past(row, known)
        yield _progress(
            step_id,
            str(told.get("title") or step_id),
            str(told.get("stage") or row.scope),
            row.scope,
            row.action_kind,
            status,
            "rollback" if row.facts.get("rolling_back") else "closing",
            None,
            known,
        )


def _past(row: DecisionRow, known: _Known) -> StepStatus:
    if row.decision.outcome is Outcome.DENY:
        return "denied"
    effect = known.effects.get(row.step_id)
    if effect is not None:
        return "done" if effect.state is EffectState.APPLIED else "failed"
    verdict = known.verdicts.get(row.step_id)
    if verdict is not None:
        return "done" if verdict.verdict.kind is VerdictKind.PASS else "failed"
    return "done" if row.decision.outcome is Outcome.ALLOW else "skipped"


def _progress(
    step_id: str,
    title: str,
    stage: str,
    scope: str,
    kind: str,
    status: StepStatus,
    phase: Phase,
    action: dict[str, Any] | None,
    known: _Known,
) -> StepProgress:
    decision = known.decisions.get(step_id)
    effect, verdict = known.effects.get(step_id), known.verdicts.get(step_id)
    return StepProgress(
        id=step_id,
        title=title,
        stage=stage,
        scope=scope,
        kind=kind,
        status=status,
        note=_note(step_id, status, known),
        phase=phase,
        action=action if action is not None else (effect.action if effect else None),
        decision=decision,
        effect=effect,
        verdict=verdict,
    )


def _note(step_id: str, status: StepStatus, known: _Known) -> str:
    decision, effect = known.decisions.get(step_id), known.effects.get(step_id)
    verdict = known.verdicts.get(step_id)
    if known.is_current(step_id) and known.run.reason:
        return known.run.reason
    if status == "denied" and decision is not None:
        return decision.decision.reason
    if verdict is not None:
        return verdict.verdict.reason
    if effect is not None:
        said = effect.result.summary if effect.result is not None else effect.error
        share = known.shares.get(step_id)
        return said if share is None else f"{said}; {share.verdict.reason}"
    return ""


_WORST: tuple[StepStatus, ...] = ("denied", "failed", "asked", "waiting", "current")


def _overall(steps: Sequence[StepProgress]) -> StepStatus:
    statuses = {step.status for step in steps}
    for status in _WORST:
        if status in statuses:
            return status
    if statuses == {"done"}:
        return "done"
    if "pending" in statuses:
        return "current" if "done" in statuses else "pending"
    return "skipped"
