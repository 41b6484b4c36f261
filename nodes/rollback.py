"""Rollback: lays out the way back to the explicit last known good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from domain.action import K8sDeploy, target_of
from domain.clock import Clock
from domain.plan import Step
from domain.run import RunState
from domain.service import Catalogue, Target
from domain.state import Outcome, State, Update, baseline_of, target_in_flight
from nodes.passage import PassageRuntime
from nodes.planning import deployed_image, image_for, way_back
from store.releases import Releases
from tools.toolbox import Readers


@dataclass(frozen=True)
class Rollback:
    """Replaces the remaining steps by those that undo what was begun on the current target."""

    catalogue: Callable[[], Catalogue]
    releases: Releases
    readers: Readers
    clock: Clock

    async def __call__(self, state: State, runtime: PassageRuntime) -> Update:
        reason = _why(state)
        if state["mode"] == "rollback" or _goes_straight_back(state):
            return _give_up(f"The way back failed as well: {reason}")
        target = target_in_flight(state)
        if target is None:
            return _give_up(reason)
        service = self.catalogue().service(target.service)
        environment = service.environment(target.environment) if service else None
        if service is None or environment is None:
            return _give_up(f"{target.key} is no longer in services.yaml. {reason}")
        steps = state["plan"].steps if state["plan"] else ()
        # First, so that what goes back is never what to go back to: a version is known as good from
        # its check after full rollout on, and may burn its budget later.
        if state["plan"] is not None and state["goal"] == "release":
            bad = image_for(service, state["plan"].change)
            await self.releases.record(
                runtime.context.lease,
                service=service.name,
                environment=environment.name,
                image=bad,
                sha=state["plan"].change.sha,
                status="bad",
                reason=reason,
                at=self.clock.now(),
            )
        image, known = await self._image_to_restore(state, target)
        if not known:
            return _give_up(
                f"{reason} No version of {target.key} is known to be good, so there is nothing to "
                "go back to; a person has to act."
            )
        had_canary = any(
            isinstance(step.action, K8sDeploy) and step.action.track == "canary"
            for step in steps
            if step.scope == target.key
        )
        return Update(
            steps=way_back(service, environment, image, had_canary=had_canary),
            cursor=0,
            mode="rollback",
            proposal=None,
            ruling=None,
            attempt=None,
            progress=None,
            finding=None,
            outcome=Outcome(state=_final_state(state), reason=reason),
        )

    async def _image_to_restore(self, state: State, target: Target) -> tuple[str | None, bool]:
        """(image to put back, or None to leave stable alone; whether that is known to be right)."""
        if not _stable_touched(state, target):
            return None, True
        new = deployed_image(state["plan"], target.key) if state["plan"] is not None else None
        good = await self.releases.last_good(target.service, target.environment, but=new)
        if good is not None:
            return good.image, True
        before = baseline_of(state, target.key)
        if before is not None and not await self.releases.is_bad(
            target.service, target.environment, before
        ):
            return before, True
        return None, False


def _goes_straight_back(state: State) -> bool:
    """Whether the plan is a way back itself; one through a canary can be taken back, too."""
    return state["goal"] == "rollback" and not any(
        isinstance(step.action, K8sDeploy) for step in state["steps"]
    )


def _stable_touched(state: State, target: Target) -> bool:
    """Whether the run has got as far as changing the stable Deployment of the target."""
    done: Sequence[Step] = state["steps"][: state["cursor"] + 1]
    return any(
        isinstance(step.action, K8sDeploy)
        and step.action.track == "stable"
        and (at := target_of(step.action)) is not None
        and at.key == target.key
        for step in done
    )


def _why(state: State) -> str:
    ruling, finding = state["ruling"], state["finding"]
    if finding is not None and finding.kind in ("breach", "failed"):
        return finding.reason
    if ruling is not None:
        return ruling.decision.reason
    return "the change could not go on"


def _final_state(state: State) -> RunState:
    """A person's cancel ends as cancelled, everything else that goes back as rolled_back."""
    ruling, finding = state["ruling"], state["finding"]
    if finding is None and ruling is not None:
        if "run.cancelled" in ruling.decision.deciding_rules:
            return RunState.CANCELLED
        if "run.superseded" in ruling.decision.deciding_rules:
            return RunState.SUPERSEDED
    return RunState.ROLLED_BACK


def _give_up(reason: str) -> Update:
    return Update(
        steps=(),
        cursor=0,
        mode="rollback",
        proposal=None,
        ruling=None,
        finding=None,
        progress=None,
        outcome=Outcome(state=RunState.FAILED, reason=reason),
    )
