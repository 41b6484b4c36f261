"""Share: whether the traffic is where its weight sent it, by what the metrics count.

A weight that a gateway has accepted is not yet one that requests follow. So the bake begins when
the canary's measured share agrees with its weight, and its pods go when it has none left. The wait
is bounded: what cannot be measured, or does not come about, is written down and never blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.action import K8sTraffic
from domain.event import Frozen
from domain.service import SLI, Catalogue
from domain.verdict import Counts, Gap, Verdict, VerdictKind
from domain.workload import WorkloadState
from nodes.judge import JudgeConfig
from nodes.judge_words import shown_count, shown_rate
from nodes.planning import version_of
from tools.ports import MetricsReader

PHASE = "share"
"""What verdicts on a share are kept as, beside those of checks."""
SHORTEST_WAIT_SECONDS = 60.0
WAIT_WINDOWS = 2
NOT_MEASURED = "the share was not measured"


class ShareLook(Frozen):
    """What was found (None: nothing is asked for), and when to look again (None: that was all)."""

    verdict: Verdict | None
    next_at: datetime | None = None


@dataclass(frozen=True)
class Share:
    """Compares a weight with the requests that both versions had since it came about."""

    catalogue: Callable[[], Catalogue]
    metrics: MetricsReader
    config: JudgeConfig

    async def look(
        self, action: K8sTraffic, seen: WorkloadState, settled: datetime, now: datetime
    ) -> ShareLook:
        """The share as of `now`, for a weight that the cluster has shown since `settled`."""
        target = action.target
        service = self.catalogue().service(target.service)
        environment = service.environment(target.environment) if service is not None else None
        wait = target.workload.share_wait_seconds
        if target.workload.executor != "kubernetes" or wait == 0:
            return ShareLook(verdict=None)
        if service is None or environment is None or not service.slis:
            return _unmeasured(f"{target.service} has no indicator in services.yaml to count by")
        if why_not := _untellable(action, seen):
            return _unmeasured(why_not)
        interval = environment.interval_seconds
        bound = max(SHORTEST_WAIT_SECONDS, WAIT_WINDOWS * interval) if wait is None else wait
        elapsed = (now - settled).total_seconds()
        if elapsed < min(interval, bound):
            return ShareLook(
                verdict=None, next_at=settled + timedelta(seconds=min(interval, bound))
            )
        # What went to a canary before its weight was taken says nothing about after.
        seconds = min(elapsed, interval) if action.weight == 0 else elapsed
        verdict = await self._measured(service.slis, action, seen, now, seconds)
        if verdict.kind is VerdictKind.PASS or elapsed >= bound:
            return ShareLook(verdict=verdict)
        later = min(now + timedelta(seconds=interval), settled + timedelta(seconds=bound))
        return ShareLook(verdict=verdict, next_at=later)

    async def _measured(
        self,
        slis: tuple[SLI, ...],
        action: K8sTraffic,
        seen: WorkloadState,
        now: datetime,
        seconds: float,
    ) -> Verdict:
        """The share by the indicator that counted most of both versions together."""
        assert seen.stable is not None
        assert seen.canary is not None
        best: tuple[float, float] | None = None
        gap: Gap | None = None
        for sli in slis:
            versions = (version_of(one.image) for one in (seen.canary, seen.stable))
            canary, stable = await asyncio.gather(
                *(self.metrics.counts(sli, action.target, one, now, seconds) for one in versions)
            )
            found = _totals(canary, stable)
            if isinstance(found, Gap):
                gap = gap or found
            elif best is None or sum(found) > sum(best):
                best = found
        expected = _expected(action, seen)
        if best is None:
            assert gap is not None
            return Verdict(
                kind=gap.kind, reason=f"{NOT_MEASURED}: {gap.reason}", expected_share=expected
            )
        return judged_share(*best, expected, seconds, self.config)


def judged_share(
    canary: float, stable: float, expected: float, seconds: float, config: JudgeConfig
) -> Verdict:
    """Whether the canary's share of the requests is the one its weight stands for.

    Between 0 and 1 within the judge's `share_factor`, by odds, once there are enough requests to
    tell; for 0 and for 1 not a single request may have gone elsewhere.
    """
    total = canary + stable
    share = canary / total
    counted = (
        f"{shown_count(canary)} of {shown_count(total)} requests in {round(seconds, 1):g} s went "
        f"to the canary ({shown_rate(share)})"
    )
    wanted = f"its weight stands for {shown_rate(expected)}"
    if 0 < expected < 1:
        if total * min(expected, 1 - expected) < config.share_requests:
            kind, reason = VerdictKind.NODATA, f"{NOT_MEASURED}: {counted}, too few to tell"
            return Verdict(kind=kind, reason=reason, share=share, expected_share=expected)
        odds = share / max(1 - share, 1e-12) / (expected / (1 - expected))
        agrees = 1 / config.share_factor <= odds <= config.share_factor
    else:
        agrees = (canary if expected == 0 else stable) < 1
    return Verdict(
        kind=VerdictKind.PASS if agrees else VerdictKind.INCONCLUSIVE,
        reason=f"{counted}, {wanted}" + ("" if agrees else ": it does not agree"),
        share=share,
        expected_share=expected,
    )


def _untellable(action: K8sTraffic, seen: WorkloadState) -> str:
    """Why requests to canary and stable cannot be told apart here; '' when they can."""
    if action.weight == 0 and action.match is not None:
        return f"only requests with {action.match.words} reach the canary, however many there are"
    if seen.canary is None or seen.stable is None:
        return "there are no two versions"
    canary, stable = version_of(seen.canary.image), version_of(seen.stable.image)
    if canary == stable:
        return f"both tracks run {canary}, and metrics are told apart by version"
    return ""


def _expected(action: K8sTraffic, seen: WorkloadState) -> float:
    """The share that a weight stands for; where pods are the weight, theirs."""
    if seen.route is not None or action.weight in (0, 100):
        return action.weight / 100
    share = pods_share(seen)
    return action.weight / 100 if share is None else share


def pods_share(seen: WorkloadState) -> float | None:
    """The canary's share of the pods that serve; None where there are none."""
    if seen.stable is None or seen.canary is None:
        return None
    pods = seen.canary.available + seen.stable.available
    return seen.canary.available / pods if pods else None


def _totals(canary: Counts | Gap, stable: Counts | Gap) -> tuple[float, float] | Gap:
    """Requests of both versions. One that has none beside one that has some counts as 0."""
    for one in (canary, stable):
        if isinstance(one, Gap) and one.kind is not VerdictKind.NODATA:
            return one
    totals = tuple(0.0 if isinstance(one, Gap) else one.total for one in (canary, stable))
    if sum(totals) > 0:
        return totals[0], totals[1]
    reason = next((one.reason for one in (canary, stable) if isinstance(one, Gap)), "no requests")
    return Gap(kind=VerdictKind.NODATA, reason=f"there was no traffic at all ({reason})")


def _unmeasured(why: str) -> ShareLook:
    return ShareLook(verdict=Verdict(kind=VerdictKind.NODATA, reason=f"{NOT_MEASURED}: {why}"))
