"""Observe: looks at the world after a step and says whether it is done. Changes nothing outside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from domain.action import (
    GitCommentPr,
    GitReact,
    K8sDeploy,
    K8sPrune,
    K8sRetire,
    K8sRollback,
    LockRelease,
    MetricsCheck,
    Notify,
    Pause,
)
from domain.clock import Clock
from domain.configuration import Configuration, for_the_record
from domain.effect import Attempt, EffectState
from domain.errors import Permanent, Temporary
from domain.service import Catalogue, Target
from domain.state import (
    Finding,
    Progress,
    State,
    Update,
    baseline_config,
    baseline_of,
    current_step,
)
from domain.verdict import VerdictKind
from nodes.announcement import announced
from nodes.baselines import as_of_now
from nodes.burning import Burning
from nodes.findings import given_up, gone_on, unsure
from nodes.passage import PassageRuntime
from nodes.planning import version_of
from nodes.readiness import Reading, interrupted
from nodes.settling import Settling, again
from nodes.share import pods_share
from nodes.watch import Watch
from store.releases import Releases
from store.verdicts import Verdicts
from tools.toolbox import Readers

MOST_FAILURES = 8
"""Tries in a row that a backend may fail before a step that has changed nothing gives up."""
MOST_COMMENT_FAILURES = 5
JUDGING_EXECUTORS = frozenset({"argo-rollouts"})
"""Executors that may give a canary up, or halt it, by themselves while it bakes."""


@dataclass(frozen=True)
class Observe:
    """Reads workloads and metrics, judges checks, and moves the cursor on when a step is done."""

    catalogue: Callable[[], Catalogue]
    readers: Readers
    watch: Watch
    settling: Settling
    burning: Burning
    verdicts: Verdicts
    releases: Releases
    clock: Clock

    async def __call__(self, state: State, runtime: PassageRuntime) -> Update:
        step, proposal, attempt = current_step(state), state["proposal"], state["attempt"]
        assert step is not None
        assert proposal is not None
        assert attempt is not None
        progress = state["progress"] or Progress(since=self.clock.now())
        if attempt.state is not EffectState.APPLIED:
            return self._after_failure(state, attempt, progress)
        match proposal.step.action:
            case GitCommentPr() | GitReact() | LockRelease() | Notify() | K8sPrune():
                return gone_on(state, Finding(kind="done", reason=_summary(attempt)))
            case Pause() if proposal.yields_to:
                return await self.burning.made_way(state, runtime, proposal)
            case Pause():
                return gone_on(state, Finding(kind="done", reason="a person said that it goes on"))
            case MetricsCheck(phase="burn") as check:
                now = self.clock.now()
                return await self.burning.observe(state, runtime, proposal, check, progress, now)
            case MetricsCheck(phase="pre") as check:
                return await self._check_before(state, runtime, check, progress)
            case MetricsCheck() as check:
                return await self._check(state, runtime, check, progress)
            case action:
                settled = await self.settling.look(state, runtime, action, progress)
                arrived = settled.get("finding")
                if isinstance(action, K8sRollback) and arrived and arrived.kind == "done":
                    await self._withdraw(state, runtime, action.target, action.image)
                return announced(state, settled, self.catalogue())

    def _after_failure(self, state: State, attempt: Attempt, progress: Progress) -> Update:
        step = current_step(state)
        assert step is not None
        failures = progress.failures + 1
        progress = progress.model_copy(update={"failures": failures})
        if step.only_speaks and (attempt.retry_at is None or failures >= MOST_COMMENT_FAILURES):
            # Words must never stop a change: what could not be said is on the run page.
            return gone_on(
                state, Finding(kind="done", reason=f"could not be said: {attempt.error}")
            )
        hopeless = attempt.retry_at is None or failures >= MOST_FAILURES
        if isinstance(step.action, K8sPrune) and hopeless:
            # The release is out; what is left over is on the run page.
            return gone_on(state, Finding(kind="done", reason=f"not tidied up: {attempt.error}"))
        if isinstance(step.action, K8sRetire) and failures >= (attempt.most_tries or math.inf):
            # It gets no traffic any more: that its pods stay is no reason to undo anything.
            return gone_on(state, Finding(kind="done", reason=f"its pods stay: {attempt.error}"))
        most = min(MOST_FAILURES, attempt.most_tries or MOST_FAILURES)
        if attempt.retry_at is not None and (
            failures < most or state["mode"] == "rollback" or step.only_speaks
        ):
            reason = f"{attempt.error} (try {attempt.tries}, trying again)"
            return Update(
                progress=progress,
                finding=Finding(kind="again", reason=reason, not_before=attempt.retry_at),
            )
        reason = f"{step.title}: {attempt.error}"
        if attempt.remedy:
            reason += f" What would help: {attempt.remedy}"
        return Update(progress=progress, finding=given_up(state, reason))

    async def _check_before(
        self, state: State, runtime: PassageRuntime, check: MetricsCheck, progress: Progress
    ) -> Update:
        """What is looked at before a change, and is proven by it, is what runs now."""
        try:
            seen = await self.readers.cluster.workload(check.target)
        except Temporary as error:
            return again(self.clock, progress, str(error), error.retry_after)
        except Permanent:
            # The step that changes something will say so.
            return await self._check(state, runtime, check, progress)
        baselines = as_of_now(state, check.target, seen)
        state = {**state, "baselines": baselines}
        if (running := baseline_of(state, check.target.key)) is not None:
            check = check.model_copy(update={"version": version_of(running)})
        update = await self._check(state, runtime, check, progress)
        return {**update, "baselines": baselines}

    async def _check(
        self, state: State, runtime: PassageRuntime, check: MetricsCheck, progress: Progress
    ) -> Update:
        proposal = state["proposal"]
        assert proposal is not None
        if proposal.concern is not None:
            # The gate has let it pass in spite of the verdict: a person took it on.
            who = "accepted at the gate: " + proposal.concern.reason
            done = Finding(kind="done", reason=who)
            return await self._passed(state, runtime, check, progress, done)
        try:
            check = await self._as_spread(check)
        except Temporary as error:
            return again(self.clock, progress, str(error), error.retry_after)
        look = await self.watch.look(check, progress, self.clock.now())
        await self.verdicts.record(
            runtime.context.lease,
            proposal.step.id,
            check.phase,
            look.verdict,
            list(look.windows),
            now=self.clock.now(),
        )
        progress = progress.model_copy(
            update={"windows": look.windows, "laps": progress.laps + 1, "since": look.since}
        )
        verdict = look.verdict
        try:
            halted = await self._halted(check)
        except Temporary as error:
            return again(self.clock, progress, str(error), error.retry_after)
        if halted is not None and halted.kind == "stalled":
            return Update(progress=progress, finding=given_up(state, halted.reason))
        if halted is not None and verdict.kind is VerdictKind.PASS:
            return unsure(state, progress, halted.reason)
        if verdict.kind is VerdictKind.PASS:
            done = Finding(kind="done", reason=verdict.reason, verdict=verdict)
            return await self._passed(state, runtime, check, progress, done)
        if verdict.kind is VerdictKind.FAIL and check.phase != "pre":
            return Update(
                progress=progress,
                finding=Finding(kind="breach", reason=verdict.reason, verdict=verdict),
            )
        if look.next_at is not None and check.phase != "pre":
            return Update(
                progress=progress,
                finding=Finding(
                    kind="again",
                    reason=f"baking: {verdict.reason}",
                    not_before=look.next_at,
                    verdict=verdict,
                ),
            )
        return Update(
            progress=progress, finding=Finding(kind="ask", reason=verdict.reason, verdict=verdict)
        )

    async def _as_spread(self, check: MetricsCheck) -> MetricsCheck:
        """Where pods are the weight, the share of the traffic is that of the pods there are: with
        three stable pods no canary has less than a quarter, whatever was asked for."""
        workload = check.target.workload
        if check.phase != "canary" or workload.route or workload.executor != "kubernetes":
            return check
        try:
            share = pods_share(await self.readers.cluster.workload(check.target))
        except Permanent:
            return check
        if share is None or check.weight in (0, 100):
            return check
        return check.model_copy(update={"weight": round(100 * share)})

    async def _halted(self, check: MetricsCheck) -> Reading | None:
        """What an executor with analyses of its own has found of the canary in the meantime."""
        if check.phase != "canary" or check.target.workload.executor not in JUDGING_EXECUTORS:
            return None
        try:
            return interrupted(await self.readers.cluster.workload(check.target))
        except Permanent as error:
            return Reading(kind="stalled", reason=str(error))

    async def _passed(
        self,
        state: State,
        runtime: PassageRuntime,
        check: MetricsCheck,
        progress: Progress,
        finding: Finding,
    ) -> Update:
        """A passed post check makes the new version the target's last known good, a passed check
        before the change the version that was running: a way back exists from the first run on."""
        plan = state["plan"]
        proven = finding.verdict is not None and finding.verdict.kind is VerdictKind.PASS
        if plan is not None and state["mode"] == "forward" and check.phase != "canary":
            image = (
                _image_of(state, check)
                if check.phase == "post"
                else baseline_of(state, check.target.key)
                if proven
                else None
            )
            if image is not None:
                try:
                    config = await self._config(state, check)
                except Temporary as error:
                    return again(self.clock, progress, str(error), error.retry_after)
                if check.phase == "post":
                    await self._withdraw(state, runtime, check.target, image)
                await self.releases.record(
                    runtime.context.lease,
                    service=check.target.service,
                    environment=check.target.environment,
                    image=image,
                    config=config,
                    sha=plan.change.sha if check.phase == "post" else None,
                    status="good",
                    reason=finding.reason,
                    at=self.clock.now(),
                )
        return gone_on(state, finding)

    async def _withdraw(
        self, state: State, runtime: PassageRuntime, target: Target, image: str | None
    ) -> None:
        """What somebody has had taken back is nothing to go back to, however good it was found."""
        plan, before = state["plan"], baseline_of(state, target.key)
        if state["mode"] != "forward" or plan is None or plan.goal != "rollback":
            return
        if before is None or image is None or before == image:
            return
        await self.releases.record(
            runtime.context.lease,
            service=target.service,
            environment=target.environment,
            image=before,
            config=for_the_record(baseline_config(state, target.key)),
            sha=None,
            status="withdrawn",
            reason=f"{plan.change.author.login} asked for it to be taken back",
            at=self.clock.now(),
        )

    async def _config(self, state: State, check: MetricsCheck) -> Configuration:
        """The configuration that a version proved itself with. Raises Temporary."""
        if check.target.workload.config is None:
            return ()
        if check.phase != "post":
            return baseline_config(state, check.target.key)
        try:
            seen = await self.readers.cluster.workload(check.target)
        except Permanent:
            # It has passed all the same; which configuration it had is then not known.
            return ()
        return seen.stable.config if seen.stable is not None else ()


def _summary(attempt: Attempt) -> str:
    return attempt.applied.summary if attempt.applied else ""


def _image_of(state: State, check: MetricsCheck) -> str | None:
    """The image that was rolled out on the check's target in this plan."""
    for step in reversed(state["steps"]):
        action = step.action
        if (
            isinstance(action, K8sDeploy | K8sRollback)
            and action.target.key == check.target.key
            and action.image
        ):
            return action.image
    return None
