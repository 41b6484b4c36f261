"""Burning: what `observe` does with a watch over burn rates after full rollout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from domain.action import K8sDeploy, MetricsCheck, Pause, Watched
from domain.configuration import Configuration, for_the_record
from domain.plan import Step
from domain.service import Catalogue
from domain.state import Finding, Progress, Proposal, State, Update
from domain.verdict import Verdict, VerdictKind
from nodes.burn import BurnRates
from nodes.passage import PassageRuntime
from nodes.planning import notify_step, version_of
from policy.rules import Rules
from store.locks import Locks
from store.releases import Releases
from store.verdicts import Verdicts

KEEP = ".burn.keep"
"""What the question ends with in whose place a watch was that a page has ended."""


def has_paged(state: State) -> bool:
    """Whether what is left is to tell people of a version that burns, and to ask them: it is out,
    and what is pushed to its pull request by now neither hides that nor answers for them."""
    return any(one.id.endswith(KEEP) for one in state["steps"])


def watched_places(step: Step) -> tuple[str, ...]:
    """Keys of the targets that a step only watches after they are out, or asks about."""
    match step.action:
        case MetricsCheck(phase="burn") as check:
            return tuple(one.target.key for one in check.watched)
        case Pause(target=target) if step.id.endswith(KEEP):
            return (target.key,)
        case _:
            return ()


@dataclass(frozen=True)
class Burning:
    """Looks, and follows `slo.burn`: back to the last known good, or a page and a question.

    A watch that is no longer needed hands the lock over and ends as if it had passed.
    """

    catalogue: Callable[[], Catalogue]
    rules: Callable[[], Rules]
    rates: BurnRates
    verdicts: Verdicts
    releases: Releases
    locks: Locks

    async def observe(
        self,
        state: State,
        runtime: PassageRuntime,
        proposal: Proposal,
        check: MetricsCheck,
        progress: Progress,
        now: datetime,
    ) -> Update:
        """One look at the burn rates."""
        if proposal.yields_to:
            return await self.made_way(state, runtime, proposal)
        if proposal.concern is not None:
            return _done(state, "accepted at the gate: " + proposal.concern.reason, None)
        burn = await self.rates.look(check, progress, now)
        look, verdict = burn.look, burn.look.verdict
        await self.verdicts.record(
            runtime.context.lease, proposal.step.id, check.phase, verdict, [], now=now
        )
        progress = progress.model_copy(update={"laps": progress.laps + 1})
        if verdict.kind is VerdictKind.FAIL:
            await self._remember(state, runtime, burn.culprit, verdict, now)
            if self.rules().slo_burn == "page":
                return self._page(state, burn.culprit, verdict)
            finding = Finding(
                kind="breach",
                reason=verdict.reason,
                verdict=verdict,
                culprit=burn.culprit.target.key,
            )
            return Update(progress=progress, finding=finding)
        if look.next_at is not None:
            finding = Finding(
                kind="again",
                reason=f"watching the error budget: {verdict.reason}",
                not_before=look.next_at,
                verdict=verdict,
            )
            return Update(progress=progress, finding=finding)
        if verdict.kind is VerdictKind.PASS:
            return _done(state, verdict.reason, verdict)
        finding = Finding(kind="ask", reason=verdict.reason, verdict=verdict)
        return Update(progress=progress, finding=finding)

    async def made_way(self, state: State, runtime: PassageRuntime, proposal: Proposal) -> Update:
        """The places are the newer change's from now on."""
        keys = watched_places(proposal.step)
        for key in keys:
            await self.locks.give(runtime.context.lease, key)
        names = " and ".join(keys)
        reason = f"the watch over {names} ends: {proposal.yields_to} takes over"
        handed = (*state.get("handed_over", ()), *keys)
        return {**_done(state, reason, None), "handed_over": handed}

    async def _remember(
        self,
        state: State,
        runtime: PassageRuntime,
        culprit: Watched,
        verdict: Verdict,
        now: datetime,
    ) -> None:
        """The version is bad from now on: nothing goes back to it, and its fix is not held up."""
        plan, target = state["plan"], culprit.target
        for step in plan.steps if plan is not None else ():
            action = step.action
            if (
                isinstance(action, K8sDeploy)
                and action.target.key == target.key
                and version_of(action.image) == culprit.version
            ):
                await self.releases.record(
                    runtime.context.lease,
                    service=target.service,
                    environment=target.environment,
                    image=action.image,
                    config=await self._proven(runtime, action),
                    sha=plan.change.sha if plan is not None else None,
                    status="bad",
                    reason=verdict.reason,
                    at=now,
                )
                return

    async def _proven(self, runtime: PassageRuntime, action: K8sDeploy) -> Configuration:
        """The configuration that the version was found good with in this run, however it was
        planned."""
        target, run_id = action.target, runtime.context.lease.run_id
        for row in await self.releases.history(target.service, target.environment, 10):
            if row.image == action.image and row.run_id == run_id and row.status == "good":
                return row.config
        return for_the_record(action.config)

    def _page(self, state: State, culprit: Watched, verdict: Verdict) -> Update:
        """The rest of this watch becomes a critical notification and a question."""
        target = culprit.target
        service = self.catalogue().service(target.service)
        channel = service.owners[0] if service is not None and service.owners else "on-call"
        title = f"{target.key} burns its error budget with {culprit.version}"
        said = f"{verdict.reason}. It stays as it is until somebody answers."
        cursor, steps = state["cursor"], state["steps"]
        keep = Step(
            id=f"{target.key}{KEEP}",
            title="Ask whether a version that burns its error budget stays",
            agent="release",
            stage=f"{target.key} full",
            scope=target.key,
            action=Pause(
                target=target,
                question=f"{title}: {verdict.reason}. Approve to keep it, reject to go back.",
            ),
        )
        page = notify_step(f"{target.key}.burn.page", title, said, channel, "critical")
        return Update(
            steps=(*steps[:cursor], page, keep, *steps[cursor + 1 :]),
            progress=None,
            proposal=None,
            ruling=None,
            finding=Finding(kind="done", reason=verdict.reason, verdict=verdict),
        )


def _done(state: State, reason: str, verdict: Verdict | None) -> Update:
    return Update(
        finding=Finding(kind="done", reason=reason, verdict=verdict),
        cursor=state["cursor"] + 1,
        progress=None,
        proposal=None,
        ruling=None,
    )
