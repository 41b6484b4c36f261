"""Words for people: pull request comments and notifications. Text from outside is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from domain.action import MetricsCheck
from domain.event import AlertGroup
from domain.plan import Change, Plan, Step
from domain.run import RunState
from domain.state import Outcome, State
from nodes.aftermath import Aftermath, facts, standing
from nodes.foresight import Foreseen

HEADLINES = {
    RunState.SUCCEEDED: "Released",
    RunState.ROLLED_BACK: "Rolled back",
    RunState.DENIED: "Denied",
    RunState.FAILED: "Failed",
    RunState.CANCELLED: "Cancelled",
    RunState.SUPERSEDED: "Superseded",
}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def plain(text: str, limit: int = 300) -> str:
    """Foreign text for Markdown: one line, specials escaped, mentions defused, bounded length."""
    line = " ".join(text.split())[:limit]
    return _SPECIAL.sub(r"\\\1", line).replace("@", "@\u200b")


@dataclass(frozen=True)
class Wording:
    """Renders what is said about a run. `base_url` is where the pages are reached."""

    base_url: str

    def run_url(self, run_id: str) -> str:
        """Page of a run."""
        return f"{self.base_url}/runs/{run_id}"

    def links(self, state: State) -> tuple[tuple[str, str], ...]:
        """Links that belong under every message about a run."""
        plan = state["plan"]
        links = [("Run", self.run_url(state["run_id"]))]
        if plan is not None and plan.change.url:
            links.append(("Change", plan.change.url))
        links.append(("What this means", f"{self.base_url}/docs/releases"))
        return tuple(links)

    def headline(self, state: State) -> str:
        """One line: how it ended, and what."""
        plan, outcome = state["plan"], state["outcome"]
        assert plan is not None
        assert outcome is not None
        word = HEADLINES[outcome.state]
        if plan.goal == "rollback" and outcome.state is RunState.SUCCEEDED:
            word = "Rolled back on request"
        return f"{word}: {plan.change.title}"

    def notification(self, state: State) -> str:
        """The reason, the numbers and where things stand now."""
        outcome = state["outcome"]
        assert outcome is not None
        return "\n".join([outcome.reason, *standing(state)])

    def buttons(self, state: State) -> tuple[tuple[str, str], ...]:
        """What may be done next, each a form on the run's page."""
        outcome = state["outcome"]
        if outcome is None or outcome.state is RunState.SUCCEEDED:
            return ()
        url = self.run_url(state["run_id"])
        return (("Retry", f"{url}#signal-retry"), ("Look at the run", url))

    def ending(self, state: State, after: Aftermath | None = None) -> str:
        """The sticky comment once the run is over; after a rollback with all that is known."""
        plan, outcome = state["plan"], state["outcome"]
        assert plan is not None
        assert outcome is not None
        lines = [f"### {HEADLINES[outcome.state]}", ""]
        if after is None:
            lines += [plain(outcome.reason, 1500), ""]
            lines += [f"- {plain(line)}" for line in standing(state)]
        else:
            lines += [f"**{label}**: {plain(said, 1500)}  " for label, said in facts(state, after)]
            lines += self._next_steps(state, after)
        lines += self._notes(plan)
        if outcome.state is RunState.DENIED:
            lines += [
                "",
                "`/retry` tries again; `/override <reason>` by an authorised role lifts a window.",
            ]
        return "\n".join([*lines, *self._footer(state["run_id"])])

    def _next_steps(self, state: State, after: Aftermath) -> list[str]:
        """The drawing, and what the reader may do now."""
        url = self.run_url(state["run_id"])
        lines = ["", f"![Rates of both versions]({after.picture})"] if after.picture else []
        lines += [
            "",
            f"`/retry` (or [the run page]({url}#signal-retry)) tries the same change again; "
            "`/hold` keeps the next one from going on by itself.",
        ]
        places = [f"[Path through the graph]({url}#graph)"]
        if after.runbook:
            places.append(f"[Runbook]({after.runbook})")
        return [*lines, "", " · ".join(places)]

    def progress(self, state: State) -> str:
        """The sticky comment while the run is under way: what is done and what comes next."""
        plan = state["plan"]
        assert plan is not None
        lines = [f"### Releasing {plain(plan.change.title)}", ""]
        planned = {one.id for one in plan.steps}
        done = state["steps"][: state["cursor"]]
        lines += self._steps(plan, sum(one.id in planned for one in done))
        lines += self._notes(plan)
        lines += ["", "Where policy asks for a person: `/approve` or `/reject`, or the run page."]
        return "\n".join([*lines, *self._footer(state["run_id"])])

    def next_up(self, state: State) -> str:
        """What is about to begin, and how to answer if policy asks."""
        done = [target.key for target in state["touched"]]
        first = f"Done so far: {', '.join(done)}. " if done else ""
        return (
            f"{first}Where policy asks for a person, the run page has the question; `/approve` and "
            "`/reject` on the pull request answer it, too."
        )

    def preview(self, change: Change, plan: Plan, foreseen: Sequence[Foreseen]) -> str:
        """What a merge would do, which gates it meets, and which approvals would be asked for."""
        lines = ["### If this is merged", ""]
        if not plan.steps:
            lines += ["Nothing is released."]
        lines += self._steps(plan, 0)
        lines += self._gates(foreseen)
        lines += self._notes(plan)
        return "\n".join([*lines, *self._footer(None)])

    def alert(self, group: AlertGroup) -> str:
        """What an alert group says, one alert a line."""
        lines = []
        for alert in group.alerts:
            text = alert.annotations.get("summary") or alert.annotations.get("description") or ""
            where = alert.labels.get("service") or alert.labels.get("instance") or ""
            lines.append(" ".join(f"[{alert.status}] {alert.name} {where}: {text}".split()))
        return "\n".join(lines)

    def unlocked(self, outcome: Outcome) -> str:
        """What became of an `/unlock`."""
        lines = [plain(outcome.reason, 1500), *self.answer_footer()]
        return "\n".join(lines)

    def answer_footer(self) -> list[str]:
        """Under every answer to a comment."""
        return self._footer(None)

    def _steps(self, plan: Plan, cursor: int) -> list[str]:
        lines: list[str] = []
        stage = None
        for index, step in enumerate(plan.steps):
            if step.only_speaks:
                continue
            if step.stage != stage:
                stage = step.stage
                lines.append(f"**{plain(stage)}**")
            lines.append(f"- [{'x' if index < cursor else ' '}] {plain(step.title)}{_limits(step)}")
        return lines

    def _gates(self, foreseen: Sequence[Foreseen]) -> list[str]:
        """What the gate would say to the first changing step of each target, if it were now."""
        lines = [
            f"| {plain(one.step.scope)} | {one.decision.risk.value} "
            f"| {one.decision.outcome.value} | {plain(one.decision.reason)} |"
            for one in foreseen
        ]
        if not lines:
            return []
        return ["", "| target | risk | gate, if it were now | why |", "|---|---|---|---|", *lines]

    def _notes(self, plan: Plan) -> list[str]:
        return ["", *(f"> {plain(note)}" for note in plan.notes)] if plan.notes else []

    def _footer(self, run_id: str | None) -> list[str]:
        run = f"[Run page]({self.run_url(run_id)}) · " if run_id else ""
        docs = f"[How releases work]({self.base_url}/docs/releases)"
        return ["", f"<sub>{run}{docs} · [Commands]({self.base_url}/docs/commands)</sub>"]


def _limits(step: Step) -> str:
    if isinstance(step.action, MetricsCheck) and step.action.phase != "pre":
        return f" (watched for {_duration(step.action.bake_seconds)})"
    return ""


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 120 else f"{seconds / 60:g} min"
