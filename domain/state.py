"""What a run carries from node to node. Every key is a channel of the graph and is checkpointed.

Only frozen domain types and plain values may stand here: the checkpointer's strict msgpack admits
exactly the types that these annotations name.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

# Pydantic cannot read typing.TypedDict before Python 3.12, and LangGraph's schemas need it to.
from typing_extensions import TypedDict

from domain.action import target_of
from domain.configuration import Configuration
from domain.decision import Decision
from domain.effect import Attempt
from domain.event import Event, Frozen
from domain.plan import Plan, Step
from domain.run import RunState
from domain.service import Target
from domain.verdict import MetricWindow, Verdict

Mode = Literal["forward", "rollback", "closing"]


class Baseline(Frozen):
    """The image a target ran when the run began: what to compare with and to come back to."""

    key: str
    image: str | None
    """None: nothing ran there, so this is a first install."""
    config: Configuration = ()
    """The configuration it ran with, where any is versioned."""


class Proposal(Frozen):
    """What an agent wants done next. `concern` is a check that did not pass outright, when the
    proposal is to go on in spite of it."""

    step: Step
    not_before: datetime | None = None
    not_before_reason: str = ""
    concern: Verdict | None = None
    yields_to: str = ""
    """A newer change that a watch over burn rates, or the question in its place, makes way for; ''
    for none."""


class Ruling(Frozen):
    """The gate's decision as recorded, with the approval that carried it, if one was needed."""

    decision: Decision
    decision_id: UUID
    approval_id: UUID | None
    asked_id: UUID | None
    """The request for approval that is now pending, for needs_approval."""
    scope_digest: str
    action_digest: str


class Finding(Frozen):
    """What `observe` saw after a step.

    `done`: go on. `again`: look again at `not_before` (baking, not ready yet, to be retried).
    `ask`: it did not pass outright; a person has to say. `breach`: go back. `failed`: give up.
    """

    kind: Literal["done", "again", "ask", "breach", "failed"]
    reason: str
    not_before: datetime | None = None
    verdict: Verdict | None = None
    culprit: str = ""
    """The target (`service/environment`) that a breach is about, where it is not the step's."""


class Progress(Frozen):
    """How far the current step has come."""

    since: datetime
    """When the step was first proposed; for a check, when its bake began."""
    laps: int = 0
    failures: int = 0
    """Tries in a row that a backend answered with an error."""
    windows: tuple[MetricWindow, ...] = ()
    seen_seq: int = 0
    """The newest signal that was known when the step was first proposed."""
    settled: datetime | None = None
    """When the cluster first showed what the step asked for, while its traffic is measured."""
    looked: datetime | None = None
    """When what a step asked for, and is not there yet, was last looked for."""
    pace: float = 0.0
    """Real seconds after that at which the next look was to come."""
    answered: bool = True
    """Whether there was an answer to that look."""
    waited: float = 0.0
    """Seconds for which it has been waited for; pauses, approvals and closed windows aside."""
    silent: float = 0.0
    """Seconds beside these from an answer to a look without one, or back."""
    held: bool = False
    """Whether anything of the kind has come in between."""


class Outcome(Frozen):
    """How the run ends, and the sentence that says why."""

    state: RunState
    reason: str


class State(TypedDict):
    """Channels of the graph. `steps` is the list being worked on: the plan's own, then, after a
    breach, the way back, and last the closing words. Sequences come back from a checkpoint as
    lists: msgpack knows no tuples."""

    run_id: str
    event: Event
    goal: str
    plan: Plan | None
    baselines: Sequence[Baseline]
    steps: Sequence[Step]
    cursor: int
    mode: Mode
    touched: Sequence[Target]
    proposal: Proposal | None
    ruling: Ruling | None
    attempt: Attempt | None
    progress: Progress | None
    finding: Finding | None
    outcome: Outcome | None
    seen_seq: int
    handed_over: Sequence[str]
    """Targets whose watch made way for a newer change: they are no longer this run's to change."""


class Update(TypedDict, total=False):
    """What a node changes: any of the channels."""

    plan: Plan | None
    baselines: Sequence[Baseline]
    steps: Sequence[Step]
    cursor: int
    mode: Mode
    touched: Sequence[Target]
    proposal: Proposal | None
    ruling: Ruling | None
    attempt: Attempt | None
    progress: Progress | None
    finding: Finding | None
    outcome: Outcome | None
    seen_seq: int
    handed_over: Sequence[str]


def initial(run_id: UUID, event: Event, goal: str) -> State:
    """The state a run starts with; it sets every channel, so an earlier run leaves no trace."""
    return State(
        run_id=str(run_id),
        event=event,
        goal=goal,
        plan=None,
        baselines=(),
        steps=(),
        cursor=0,
        mode="forward",
        touched=(),
        proposal=None,
        ruling=None,
        attempt=None,
        progress=None,
        finding=None,
        outcome=None,
        seen_seq=0,
        handed_over=(),
    )


def current_step(state: State) -> Step | None:
    """The step the cursor stands at, or None past the end."""
    steps, cursor = state["steps"], state["cursor"]
    return steps[cursor] if cursor < len(steps) else None


def target_in_flight(state: State) -> Target | None:
    """The target of the current step, when this run has already begun to change it. Words that
    are said in between belong to the step that they come before.

    A target that was finished earlier (staging, when production is next) is not in flight: a
    denial there must not undo what was proven here.
    """
    target = _target_ahead(state)
    if target is None or all(one.key != target.key for one in state["touched"]):
        return None
    return target


def _target_ahead(state: State) -> Target | None:
    """The target that the run is at, or goes to next."""
    ahead = (target_of(step.action) for step in state["steps"][state["cursor"] :])
    return next((one for one in ahead if one is not None), None)


def companions_in_flight(state: State) -> tuple[Target, ...]:
    """Other targets that this run has changed and that fall with the one it is at, or goes to next.

    Oldest first. A target whose watch made way for a newer change is no longer among them.
    """
    plan, target = state["plan"], _target_ahead(state)
    if plan is None or target is None:
        return ()
    handed = state.get("handed_over", ())
    keys = [key for key in plan.companions(target.key) if key != target.key and key not in handed]
    return tuple(one for one in state["touched"] if one.key in keys)


def baseline_of(state: State, key: str) -> str | None:
    """The image a target ran when the run began."""
    return next((one.image for one in state["baselines"] if one.key == key), None)


def baseline_config(state: State, key: str) -> Configuration:
    """The configuration a target ran with when the run began."""
    return next((tuple(one.config) for one in state["baselines"] if one.key == key), ())
