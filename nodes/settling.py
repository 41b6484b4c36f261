"""Settling: waits until the cluster, and after it the traffic, shows what a step asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.action import K8sDeploy, K8sRetire, K8sTraffic
from domain.clock import Clock
from domain.errors import Permanent, Temporary
from domain.state import Finding, Progress, State, Update
from domain.workload import WorkloadState
from nodes.baselines import as_of_now
from nodes.findings import given_up, gone_on, unsure
from nodes.passage import PassageRuntime
from nodes.readiness import Reading, Settled, reading_of
from nodes.share import PHASE, Share
from store.verdicts import Verdicts
from tools.ports import ClusterReader

POLL_SECONDS = 1.0
"""How often a roll-out is looked at, in real seconds; the first looks come sooner."""
GRACE_SECONDS = 5.0
"""What may come between two looks in real seconds without anybody having held the run up."""
MOST_DEADLINES = 2
"""Deadlines' worth of time, waiting and silence together, after which it is over."""


@dataclass(frozen=True)
class Settling:
    """Looks at the target's workload, and at its traffic where a weight was changed."""

    cluster: ClusterReader
    share: Share
    verdicts: Verdicts
    clock: Clock

    async def look(
        self, state: State, runtime: PassageRuntime, action: Settled, progress: Progress
    ) -> Update:
        """Go on, look again, or give up."""
        began, speed = self.clock.now(), self.clock.speed
        try:
            seen = await self.cluster.workload(action.target)
        except Temporary as error:
            progress = waited(progress, began, self.clock.now(), speed, answered=False)
            return again(self.clock, progress, str(error), error.retry_after)
        except Permanent as error:
            return Update(progress=progress, finding=given_up(state, str(error)))
        progress = waited(progress, began, self.clock.now(), speed, answered=True)
        reading = in_time(action, reading_of(action, seen), progress)
        match reading.kind:
            case "done" if isinstance(action, K8sTraffic):
                return await self._measure(state, runtime, action, seen, progress, reading.reason)
            case "done":
                update = gone_on(state, Finding(kind="done", reason=reading.reason))
                if isinstance(action, K8sDeploy) and action.track == "canary":
                    # The target is locked from here on: nobody else changes what stable runs.
                    update["baselines"] = as_of_now(state, action.target, seen)
                return update
            case "stalled" if isinstance(action, K8sRetire):
                # It gets no traffic any more: that its pods stay is no reason to undo anything.
                return gone_on(
                    state, Finding(kind="done", reason=f"its pods stay: {reading.reason}")
                )
            case "stalled":
                return Update(progress=progress, finding=given_up(state, reading.reason))
            case "unsure":
                return unsure(state, progress, reading.reason)
            case "settling":
                progress = progress.model_copy(update={"settled": None})
                return again(self.clock, progress, reading.reason, None)

    async def _measure(
        self,
        state: State,
        runtime: PassageRuntime,
        action: K8sTraffic,
        seen: WorkloadState,
        progress: Progress,
        reason: str,
    ) -> Update:
        """The weight is there; now the requests have to follow it, for as long as that may take."""
        now = self.clock.now()
        settled = progress.settled or now
        look = await self.share.look(action, seen, settled, now)
        said = f"{reason}; {look.verdict.reason}" if look.verdict is not None else reason
        if look.next_at is not None:
            return Update(
                # The cluster is not waited for meanwhile.
                progress=progress.model_copy(
                    update={"settled": settled, "laps": progress.laps + 1, "looked": None}
                ),
                finding=Finding(
                    kind="again",
                    reason=f"{said}; waiting for the traffic to follow",
                    not_before=look.next_at,
                ),
            )
        if look.verdict is not None:
            proposal = state["proposal"]
            assert proposal is not None
            lease = runtime.context.lease
            await self.verdicts.record(lease, proposal.step.id, PHASE, look.verdict, [], now=now)
        return gone_on(state, Finding(kind="done", reason=said, verdict=look.verdict))


def again(clock: Clock, progress: Progress, reason: str, after: float | None) -> Update:
    """Look again `after` real seconds; None: soon at first, then every second."""
    laps = progress.laps + 1
    seconds = after if after is not None else min(POLL_SECONDS, 0.1 * 2 ** min(laps, 6))
    at = clock.now() + timedelta(seconds=seconds * clock.speed)
    return Update(
        progress=progress.model_copy(update={"laps": laps, "pace": seconds}),
        finding=Finding(kind="again", reason=reason, not_before=at),
    )


def waited(
    progress: Progress, began: datetime, now: datetime, speed: float, *, answered: bool
) -> Progress:
    """The time since the last look counts as waiting, unless something held the run up.

    A look began at `began` and has ended now. Where it came much later than it was to it was a
    pause, an approval, a hold, a closed window or nobody there to look, and only what a look takes
    is counted. What passes before or after a look without an answer is counted apart: nobody knows
    what the pods did then. Between two such looks the cluster is away, which is counted by nobody.
    """
    update: dict[str, object] = {"looked": now, "answered": answered}
    if progress.looked is not None:
        idle = (began - progress.looked).total_seconds()
        most = (max(progress.pace, POLL_SECONDS) + GRACE_SECONDS) * speed
        passed = min(idle, most) + (now - began).total_seconds()
        if answered and progress.answered:
            update["waited"] = progress.waited + passed
        elif answered or progress.answered:
            update["silent"] = progress.silent + passed
        update["held"] = progress.held or idle > most
    return progress.model_copy(update=update)


def in_time(action: Settled, reading: Reading, progress: Progress) -> Reading:
    """What is not there by the deadline is stalled, what was held up gets its time.

    The cluster's own deadline knows nothing of pauses, nor of silence: once there was any, ours
    alone counts. Silence is nobody's fault, and yet a cluster that answers now and then must not
    make it last for ever.
    """
    limit = action.target.workload.progress_deadline_seconds
    if action.target.workload.executor != "kubernetes":
        return reading
    late = progress.waited >= limit
    longest = MOST_DEADLINES * limit
    too_long = progress.waited + progress.silent >= longest
    over = late or too_long
    disturbed = progress.held or progress.silent > 0
    if reading.kind == "stalled" and reading.by_time and disturbed and not over:
        return reading.model_copy(update={"kind": "settling"})
    if reading.kind == "settling" and over:
        within = f"within {limit if late else longest:g} s"
        if not late:
            within += f" ({progress.silent:.0f} s without an answer from the cluster)"
        if progress.held:
            within += ", pauses aside"
        reason = f"{_missing(action)} {within}: {reading.reason}"
        return reading.model_copy(update={"kind": "stalled", "reason": reason})
    return reading


def _missing(action: Settled) -> str:
    match action:
        case K8sTraffic():
            return "the weight did not come about"
        case K8sRetire():
            return "not gone"
        case _:
            return "not ready"
