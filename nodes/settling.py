"""Settling: waits until the cluster, and after it the traffic, shows what a step asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.action import K8sDeploy, K8sRollback, K8sTraffic
from domain.clock import Clock
from domain.errors import Permanent, Temporary
from domain.state import Finding, Progress, State, Update
from domain.workload import WorkloadState
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
        try:
            seen = await self.cluster.workload(action.target)
        except Temporary as error:
            return again(self.clock, progress, str(error), error.retry_after)
        except Permanent as error:
            return Update(progress=progress, finding=given_up(state, str(error)))
        reading, now = reading_of(action, seen), self.clock.now()
        if isinstance(action, K8sDeploy | K8sRollback):
            progress = waited(progress, now, self.clock.speed)
            reading = _in_time(action, reading, progress)
        match reading.kind:
            case "done" if isinstance(action, K8sTraffic):
                return await self._measure(state, runtime, action, seen, progress, reading.reason)
            case "done":
                return gone_on(state, Finding(kind="done", reason=reading.reason))
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
                progress=progress.model_copy(
                    update={"settled": settled, "laps": progress.laps + 1}
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
        progress=progress.model_copy(update={"laps": laps}),
        finding=Finding(kind="again", reason=reason, not_before=at),
    )


def waited(progress: Progress, now: datetime, speed: float) -> Progress:
    """The time since the last look counts as waiting, unless something held the run up.

    Looks come a second apart. Where much more lies between two of them it was a pause, an approval,
    a hold, a closed window or nobody there to look, and only what a look takes is counted.
    """
    if progress.looked is None:
        return progress.model_copy(update={"looked": now})
    passed = (now - progress.looked).total_seconds()
    most = (POLL_SECONDS + GRACE_SECONDS) * speed
    return progress.model_copy(
        update={
            "looked": now,
            "waited": progress.waited + min(passed, most),
            "held": progress.held or passed > most,
        }
    )


def _in_time(action: K8sDeploy | K8sRollback, reading: Reading, progress: Progress) -> Reading:
    """A roll-out that is not there by the deadline is stalled, one that was held up gets its time.

    The cluster's own deadline knows nothing of pauses: once there was one, ours alone counts.
    """
    limit = action.target.workload.progress_deadline_seconds
    if action.target.workload.executor != "kubernetes":
        return reading
    if reading.kind == "stalled" and reading.by_time and progress.held and progress.waited < limit:
        return reading.model_copy(update={"kind": "settling"})
    if reading.kind == "settling" and progress.waited >= limit:
        aside = ", pauses aside" if progress.held else ""
        reason = f"not ready within {limit:g} s{aside}: {reading.reason}"
        return reading.model_copy(update={"kind": "stalled", "reason": reason})
    return reading
