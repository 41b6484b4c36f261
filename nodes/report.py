"""Report: how the run ends, and the closing words, each of which passes the gate like any step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from domain.action import GitCommentPr, Notify
from domain.decision import Outcome as Ruled
from domain.event import Commanded
from domain.plan import Step
from domain.run import RunState
from domain.service import Catalogue, Service
from domain.state import Outcome, Proposal, State, Update, current_step
from nodes.aftermath import CAME_BACK, Aftermath, facts, runbook_of
from nodes.findings import left_undone
from nodes.impact import impact_of
from nodes.planning import comment_step, words_step
from nodes.wording import Wording
from store.verdicts import Verdicts

ENDINGS = {
    "run.cancelled": RunState.CANCELLED,
    "run.superseded": RunState.SUPERSEDED,
}
SPEAKING = ("preview", "notify", "answer")
"""Goals of runs whose plan says all there is to say."""
SEVERITY: dict[RunState, Literal["info", "warning", "critical"]] = {
    RunState.SUCCEEDED: "info",
    RunState.SUPERSEDED: "info",
    RunState.CANCELLED: "warning",
    RunState.DENIED: "warning",
    RunState.ROLLED_BACK: "critical",
    RunState.FAILED: "critical",
}


@dataclass(frozen=True)
class Report:
    """Settles the outcome on the way in, adds the closing steps, and ends when they are said."""

    catalogue: Callable[[], Catalogue]
    wording: Wording
    verdicts: Verdicts
    picture: Callable[[str], str]
    """Address of the drawing of a run's rates, for people who may not be signed in."""

    async def __call__(self, state: State) -> Update:
        if state["mode"] == "closing":
            return self._next_word(state)
        outcome = _outcome(state)
        settled: State = {**state, "outcome": outcome}
        steps = self._closing_steps(settled, await self._aftermath(settled))
        return Update(
            outcome=outcome,
            mode="closing",
            steps=steps,
            cursor=0,
            proposal=Proposal(step=steps[0]) if steps else None,
            ruling=None,
            attempt=None,
            finding=None,
            progress=None,
        )

    def _next_word(self, state: State) -> Update:
        """Past the last word the run ends; a word that the gate denied is left out."""
        cursor = state["cursor"] + (1 if current_step(state) is not None else 0)
        steps = state["steps"]
        proposal = Proposal(step=steps[cursor]) if cursor < len(steps) else None
        return Update(cursor=cursor, proposal=proposal, ruling=None, finding=None)

    async def _aftermath(self, state: State) -> Aftermath | None:
        """What a change that went back did to users; None for one that never reached them."""
        plan, outcome = state["plan"], state["outcome"]
        if plan is None or outcome is None or outcome.state not in CAME_BACK:
            return None
        if not state["touched"]:
            return None
        windows = await self.verdicts.windows(UUID(state["run_id"]))
        impact = impact_of(plan.steps, windows, state["touched"][-1].key)
        return Aftermath(
            impact=impact,
            picture=self.picture(state["run_id"]) if impact is not None else "",
            runbook=runbook_of(self._service(state["touched"][-1].service)),
        )

    def _closing_steps(self, state: State, after: Aftermath | None) -> tuple[Step, ...]:
        plan, outcome = state["plan"], state["outcome"]
        if plan is None or outcome is None or plan.goal in SPEAKING:
            return ()
        steps: list[Step] = []
        if plan.goal == "unlock":
            steps += self._unlocked(state, outcome)
        if plan.change.number is not None and plan.change.repo is not None:
            body = self.wording.ending(state, after)
            steps.append(comment_step(plan.change, "report.comment", "Say how it ended", body))
        if plan.goal != "nothing":
            links = self.wording.links(state)
            if after is not None and after.runbook:
                links = (*links, ("Runbook", after.runbook))
            notice = Notify(
                channel=self._channel(state),
                severity=SEVERITY[outcome.state],
                title=self.wording.headline(state),
                text=self.wording.notification(state),
                links=links,
                facts=facts(state, after) if after is not None else (),
                buttons=self.wording.buttons(state),
                picture=after.picture if after is not None else "",
            )
            steps.append(words_step("report.notify", notice))
        return tuple(steps)

    def _unlocked(self, state: State, outcome: Outcome) -> Iterator[Step]:
        """Tell whoever asked for a lock to be freed what became of it."""
        body = state["event"].body
        if not isinstance(body, Commanded) or body.comment_id is None:
            return
        if body.repo is not None and body.number is not None:
            reply = GitCommentPr(
                repo=body.repo,
                number=body.number,
                marker=f"outcome:{body.comment_id}",
                body=self.wording.unlocked(outcome),
            )
            yield words_step("report.reply", reply)

    def _service(self, name: str) -> Service | None:
        return self.catalogue().service(name)

    def _channel(self, state: State) -> str:
        """The owners of the first service concerned."""
        plan = state["plan"]
        for step in plan.steps if plan else ():
            service = self._service(step.scope.partition("/")[0])
            if service is not None and service.owners:
                return service.owners[0]
        return "releases"


def _outcome(state: State) -> Outcome:
    """Final state and reason, from how the run got here."""
    ruling, finding = state["ruling"], state["finding"]
    if ruling is not None and ruling.decision.outcome is Ruled.DENY:
        ending = next(
            (ENDINGS[rule] for rule in ruling.decision.deciding_rules if rule in ENDINGS),
            RunState.DENIED,
        )
        if state["mode"] == "rollback":
            ending = RunState.FAILED
        return Outcome(state=ending, reason=_denial(state))
    if finding is not None and finding.kind == "failed":
        before = state["outcome"].reason + " " if state["outcome"] else ""
        left = left_undone(state) if state["mode"] == "rollback" else ""
        return Outcome(state=RunState.FAILED, reason=before + finding.reason + left)
    if state["outcome"] is not None:
        return state["outcome"]
    plan = state["plan"]
    if plan is not None and plan.goal in (*SPEAKING, "unlock") and finding is not None:
        return Outcome(state=RunState.SUCCEEDED, reason=finding.reason)
    targets = list(dict.fromkeys(t.key for t in state["touched"]))
    return Outcome(
        state=RunState.SUCCEEDED,
        reason=f"{plan.goal if plan else 'run'} of {', '.join(targets) or 'nothing'} is complete",
    )


def _denial(state: State) -> str:
    ruling = state["ruling"]
    assert ruling is not None
    deciding = [r for r in ruling.decision.rules if r.outcome is Ruled.DENY]
    return " ".join(
        f"[{rule.rule}] {rule.reason}" + (f" {rule.remedy}" if rule.remedy else "")
        for rule in deciding
    )
