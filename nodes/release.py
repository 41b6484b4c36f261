"""Release agent: works out the plan's next step on a target against what runs there now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from domain.action import K8sPrune, MetricsCheck
from domain.clock import Clock
from domain.plan import Step
from domain.state import Progress, Proposal, State, Update, baseline_of, current_step
from nodes.planning import compared_with
from store.releases import Releases


@dataclass(frozen=True)
class Release:
    """Proposes the current step: at once, or at the time its next look is due."""

    clock: Clock
    releases: Releases

    async def __call__(self, state: State) -> Update:
        step = current_step(state)
        assert step is not None
        step = await self._as_of_now(step, state)
        progress = state["progress"] or Progress(since=self.clock.now(), seen_seq=state["seen_seq"])
        proposal = self._proposal(step, progress, state)
        return Update(proposal=proposal, progress=progress, ruling=None, attempt=None, finding=None)

    async def _as_of_now(self, step: Step, state: State) -> Step:
        """A change may have waited for others of its target since it was planned: what they have
        proven is kept as well, or there would be no way back to it, and its canary is compared with
        what they have brought in."""
        action = step.action
        if isinstance(action, MetricsCheck):
            running = baseline_of(state, action.target.key)
            if action.phase != "canary" or action.weight == 100 or running is None:
                return step
            baseline = compared_with(action.version, running)
            return step.model_copy(
                update={"action": action.model_copy(update={"baseline": baseline})}
            )
        if not isinstance(action, K8sPrune) or action.target.workload.config is None:
            return step
        target, count = action.target, action.target.workload.config.keep
        proven = await self.releases.kept(target.service, target.environment, count)
        keep = tuple(dict.fromkeys((*action.keep, *proven)))
        return step.model_copy(update={"action": action.model_copy(update={"keep": keep})})

    def _proposal(self, step: Step, progress: Progress, state: State) -> Proposal:
        finding = state["finding"]
        if finding is not None and finding.kind == "again" and finding.not_before is not None:
            return Proposal(
                step=step, not_before=finding.not_before, not_before_reason=finding.reason
            )
        action = step.action
        if isinstance(action, MetricsCheck) and action.phase != "pre":
            first = progress.since + timedelta(seconds=first_look_seconds(action))
            return Proposal(
                step=step,
                not_before=first,
                not_before_reason=f"baking: first look after {first_look_seconds(action):g} s",
            )
        return Proposal(step=step)


def first_look_seconds(check: MetricsCheck) -> float:
    """Seconds until the first window of a check is over."""
    return min(check.interval_seconds, check.bake_seconds)
