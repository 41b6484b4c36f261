"""What is told after a rollback: what, why, when, how many were hit, and what to do next. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from domain.impact import Impact
from domain.run import RunState
from domain.service import Service
from domain.state import State
from nodes.planning import deployed_image

CAME_BACK = frozenset({RunState.ROLLED_BACK, RunState.CANCELLED, RunState.FAILED})
"""Endings after which people ask how many were hit."""


@dataclass(frozen=True)
class Aftermath:
    """Facts of a change that went back. `picture` is the address of the drawing, '' without one."""

    impact: Impact | None
    picture: str = ""
    runbook: str = ""


def facts(state: State, after: Aftermath) -> tuple[tuple[str, str], ...]:
    """(label, sentence) pairs: what, why, when, blast radius, now."""
    plan, outcome = state["plan"], state["outcome"]
    assert plan is not None
    assert outcome is not None
    told: list[tuple[str, str]] = [("What", plan.change.title), ("Why", outcome.reason)]
    if after.impact is not None:
        told += [("When", _when(after.impact)), ("Blast radius", blast_radius(after.impact))]
    now = standing(state)
    if now:
        told.append(("Now", "; ".join(now)))
    return tuple(told)


def standing(state: State) -> list[str]:
    """What each touched target runs now, as far as this run knows."""
    plan, outcome = state["plan"], state["outcome"]
    lines: list[str] = []
    for target in state["touched"]:
        image = deployed_image(plan, target.key) if plan else None
        before = next((b.image for b in state["baselines"] if b.key == target.key), None)
        went_back = outcome is not None and outcome.state is not RunState.SUCCEEDED
        fell = state["touched"][-1].key
        last = target.key in (plan.companions(fell) if plan is not None else (fell,))
        last = last and target.key not in state.get("handed_over", ())
        lines.append(
            f"{target.key} is back on {before}"
            if went_back and last and before
            else f"{target.key} runs {image or before or 'nothing'}"
        )
    return lines


def blast_radius(impact: Impact) -> str:
    """`1,204 requests served by the new version (10% of the traffic), 98 errors, about 95 of them
    more than stable would have had`."""
    said = f"{_many(impact.requests, 'request')} served by the new version"
    if impact.share is not None:
        said += f" ({_part(impact.share)} of the traffic)"
    bad = f"{impact.bad:,.0f} bad in {impact.metric}"
    said += f", {_many(impact.bad, 'error') if impact.metric == 'errors' else bad}"
    if impact.caused is not None:
        said += f", about {impact.caused:,.0f} more than stable's rate explains"
    return said


def _many(count: float, noun: str) -> str:
    """`1 request`, `1,204 requests`."""
    said = f"{count:,.0f}"
    return f"{said} {noun}" if said == "1" else f"{said} {noun}s"


def _part(share: float) -> str:
    """Whole percents; a little traffic is not none, and nearly all of it not all."""
    if 0 < share < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < share < 1 else f"{share:.0%}"


def _when(impact: Impact) -> str:
    seconds = (impact.until - impact.since).total_seconds()
    lasted = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
    return (
        f"users saw it from {impact.since:%Y-%m-%d %H:%M:%S} to {impact.until:%H:%M:%S} UTC"
        f" ({lasted} watched)"
    )


def runbook_of(service: Service | None) -> str:
    """Where the service's people look first: its documentation page, '' when it names none."""
    return service.docs if service is not None else ""
