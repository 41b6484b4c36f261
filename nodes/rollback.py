"""Rollback: lays out the way back to the explicit last known good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain.action import K8sDeploy, target_of
from domain.clock import Clock
from domain.configuration import Configuration, is_known
from domain.errors import Permanent, Temporary
from domain.plan import Plan, Step
from domain.run import RunState
from domain.service import Target
from domain.state import (
    Outcome,
    State,
    Update,
    baseline_config,
    baseline_of,
    companions_in_flight,
    target_in_flight,
)
from nodes.findings import left_undone
from nodes.passage import PassageRuntime
from nodes.planning import back_steps, deployed_config, deployed_image
from store.releases import Releases
from tools.toolbox import Readers

CALLED_OFF = (RunState.CANCELLED, RunState.SUPERSEDED)


@dataclass(frozen=True)
class Rollback:
    """Replaces the remaining steps by those that undo what was begun on the current target."""

    releases: Releases
    readers: Readers
    clock: Clock

    async def __call__(self, state: State, runtime: PassageRuntime) -> Update:
        reason = _why(state)
        if state["mode"] == "rollback" or _goes_straight_back(state):
            return _give_up(f"The way back failed as well: {reason}{left_undone(state)}")
        target, companions = _fallen(state)
        if target is None and not companions:
            return _give_up(reason)
        if target is not None and companions and not reason.startswith(target.key):
            reason = f"{target.key}: {reason}"
        steps: list[Step] = []
        stay: list[str] = []
        if target is not None:
            # First, so that what goes back is never what to go back to: a version is known as good
            # from its check after full rollout on, and may burn its budget later.
            await self._remember(state, runtime, target, reason)
        for one in _newest_first(state, target, companions):
            back, why_not = await self._back(state, one)
            steps += back
            if why_not:
                stay.append(why_not)
            elif one in companions:
                await self._withdraw(state, runtime, one, target)
        if stay:
            reason = " ".join((reason, *stay))
        if not steps:
            return _give_up(reason)
        return Update(
            steps=tuple(steps),
            cursor=0,
            mode="rollback",
            proposal=None,
            ruling=None,
            attempt=None,
            progress=None,
            finding=None,
            outcome=Outcome(state=_final_state(state), reason=reason),
        )

    async def _back(self, state: State, target: Target) -> tuple[tuple[Step, ...], str]:
        """The way back of one target, or why there is none. It is about what the run has touched,
        which services.yaml may by now call otherwise, or not name at all."""
        image, config, known = await self._to_restore(state, target)
        if not known:
            return (), (
                f"No version of {target.key} is known to be good, so there is nothing to go back "
                "to; a person has to act."
            )
        plan = state["plan"]
        had_canary = any(
            isinstance(step.action, K8sDeploy) and step.action.track == "canary"
            for step in (plan.steps if plan is not None else ())
            if step.scope == target.key
        )
        return back_steps(target, image, had_canary=had_canary, config=config), ""

    async def _remember(
        self, state: State, runtime: PassageRuntime, target: Target, reason: str
    ) -> None:
        """The version that failed is bad there from now on. One that somebody has called off, or
        that a newer one takes the place of, has not failed: it is only no longer there."""
        plan = state["plan"]
        image = deployed_image(plan, target.key) if plan is not None else None
        if plan is None or image is None or state["goal"] != "release":
            return
        config = await self._new_config(plan, target, image)
        if not config and target.workload.config and image == baseline_of(state, target.key):
            # Of a configuration that never came to be nothing is known; the image is not to blame.
            return
        await self.releases.record(
            runtime.context.lease,
            service=target.service,
            environment=target.environment,
            image=image,
            config=config,
            sha=plan.change.sha,
            status="withdrawn" if _final_state(state) in CALLED_OFF else "bad",
            reason=reason,
            at=self.clock.now(),
        )

    async def _new_config(self, plan: Plan, target: Target, image: str) -> Configuration:
        """The configuration that the new version has; () where there is none, or it is not known.

        Where the plan could not know it, what was deployed says it.
        """
        planned = deployed_config(plan, target.key)
        if planned or target.workload.config is None:
            return planned
        try:
            seen = await self.readers.cluster.workload(target)
        except (Temporary, Permanent):
            return ()
        tracks = (one for one in (seen.canary, seen.stable) if one is not None)
        known = (one.config for one in tracks if one.image == image and is_known(one.config))
        return next(known, ())

    async def _withdraw(
        self, state: State, runtime: PassageRuntime, target: Target, cause: Target | None
    ) -> None:
        """A companion's new version did nothing wrong, but it is no longer there."""
        plan, image = state["plan"], None
        if plan is not None:
            image = deployed_image(plan, target.key)
        if plan is None or image is None:
            return
        because = f"{cause.key} went back" if cause is not None else "the rest was not released"
        await self.releases.record(
            runtime.context.lease,
            service=target.service,
            environment=target.environment,
            image=image,
            config=await self._new_config(plan, target, image),
            sha=plan.change.sha,
            status="withdrawn",
            reason=f"taken back with its group: {because}",
            at=self.clock.now(),
        )

    async def _to_restore(
        self, state: State, target: Target
    ) -> tuple[str | None, Configuration | None, bool]:
        """(image to put back, or None to leave stable alone; the configuration it ran with, or None
        to leave that alone; whether this is known to be right)."""
        if not _stable_touched(state, target):
            return None, None, True
        plan, place = state["plan"], (target.service, target.environment)
        new = deployed_image(plan, target.key) if plan is not None else None
        new_config: Configuration = ()
        if plan is not None and new is not None:
            new_config = await self._new_config(plan, target, new)
        before, config = baseline_of(state, target.key), baseline_config(state, target.key)
        as_before = before is not None and not await self.releases.is_bad(*place, before, config)
        if as_before and before == new and target.workload.config and not new_config:
            # Of a new configuration that is not known, all that ran the image would be left out.
            return before, config or None, True
        good = await self.releases.last_good(*place, but=new, but_config=new_config)
        if good is not None:
            return good.image, good.config or None, True
        return (before, config or None, True) if as_before else (None, None, False)


def _fallen(state: State) -> tuple[Target | None, tuple[Target, ...]]:
    """What failed, or was at work, and what falls with it."""
    target, companions = target_in_flight(state), companions_in_flight(state)
    finding = state["finding"]
    key = finding.culprit if finding is not None else ""
    culprit = next((one for one in companions if one.key == key), None)
    if culprit is None or target is None:
        return target, companions
    return culprit, tuple(one for one in (*companions, target) if one.key != key)


def _newest_first(
    state: State, target: Target | None, companions: Sequence[Target]
) -> tuple[Target, ...]:
    """Everything that goes back, in the reverse of the order in which it was changed."""
    keys = {one.key for one in companions} | ({target.key} if target is not None else set())
    return tuple(one for one in reversed(state["touched"]) if one.key in keys)


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
