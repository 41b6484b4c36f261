"""Where a run goes next: pure functions of the state, nothing else decides."""

from __future__ import annotations

from typing import Literal, assert_never

from domain.decision import Outcome
from domain.plan import Step
from domain.state import State, companions_in_flight, current_step, target_in_flight

Agent = Literal["conductor", "release"]


def agent_of(step: Step) -> Agent:
    """The node that works the step out."""
    match step.agent:
        case "release":
            return "release"
        case "conductor":
            return "conductor"
        case _:
            assert_never(step.agent)


def after_conductor(state: State) -> Literal["release", "gate", "report"]:
    """To the agent of the first step, or straight to the gate with words the conductor proposes."""
    step = current_step(state)
    ended = state["outcome"] is not None and state["mode"] != "closing"
    if step is None or ended:
        return "report"
    match agent_of(step):
        case "release":
            return "release"
        case "conductor":
            return "gate"


def after_gate(state: State) -> Literal["execute", "approve", "wait", "rollback", "report"]:
    """Follow the decision. A denial in the middle of a change goes back instead of stopping."""
    ruling = state["ruling"]
    if ruling is None:
        return "report"
    match ruling.decision.outcome:
        case Outcome.ALLOW:
            return "execute"
        case Outcome.NEEDS_APPROVAL:
            return "approve"
        case Outcome.WAIT:
            return "wait"
        case Outcome.DENY:
            begun = target_in_flight(state) is not None or bool(companions_in_flight(state))
            return "rollback" if state["mode"] == "forward" and begun else "report"
        case _:
            assert_never(ruling.decision.outcome)


def after_observe(state: State) -> Literal["conductor", "release", "gate", "rollback", "report"]:
    """Next step, another look, a question to people, the way back, or the end."""
    finding = state["finding"]
    if finding is None:
        return "report"
    match finding.kind:
        case "ask":
            return "gate"
        case "breach":
            return "rollback"
        case "failed":
            return "report"
        case "done" | "again":
            step = current_step(state)
            return "report" if step is None else agent_of(step)
        case _:
            assert_never(finding.kind)


def after_rollback(state: State) -> Literal["release", "report"]:
    """Work the way back, or report that there is none."""
    return "report" if current_step(state) is None else "release"


def after_report(state: State) -> Literal["gate", "__end__"]:
    """Say the closing words, each through the gate, then end."""
    return "__end__" if state["proposal"] is None else "gate"
