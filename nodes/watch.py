"""Watch: reads the windows of a check that are over, and has them judged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.action import MetricsCheck
from domain.event import Frozen
from domain.service import SLI, Catalogue, Service, Target
from domain.state import Progress
from domain.verdict import Counts, Gap, MetricWindow, Verdict, VerdictKind
from nodes.judge import JudgeConfig, judge
from tools.ports import MetricsReader


class Look(Frozen):
    """All windows so far, what the judge says, and when to look again (None: it is over)."""

    windows: tuple[MetricWindow, ...]
    verdict: Verdict
    next_at: datetime | None
    since: datetime


@dataclass(frozen=True)
class Watch:
    """Reads counts window by window, each exactly once, however late the look comes."""

    catalogue: Callable[[], Catalogue]
    metrics: MetricsReader
    config: JudgeConfig

    async def look(self, check: MetricsCheck, progress: Progress, now: datetime) -> Look:
        """Judge a check as of `now`. A `pre` check looks back instead of waiting."""
        service = self.catalogue().service(check.target.service)
        if service is None or not service.slis:
            verdict = Verdict(
                kind=VerdictKind.NODATA,
                reason=f"{check.target.service} has no SLIs in services.yaml to be judged by",
            )
            return Look(windows=(), verdict=verdict, next_at=None, since=progress.since)
        total = window_count(check)
        since = (
            now - timedelta(seconds=total * check.interval_seconds)
            if check.phase == "pre"
            else progress.since
        )
        elapsed = (now - since).total_seconds()
        over = total if check.phase == "pre" else min(total, int(elapsed // check.interval_seconds))
        seen = {window.start for window in progress.windows}
        windows = list(progress.windows)
        for index in range(over):
            start = since + timedelta(seconds=index * check.interval_seconds)
            if start not in seen:
                windows += await self._read(service, check, start)
        final = over >= total
        verdict = judge(
            windows,
            objectives={sli.name: sli.objective for sli in service.slis},
            config=self.config,
            final=final,
            planned=total,
            weight=check.weight if check.baseline and check.phase == "canary" else None,
        )
        next_at = None if final else since + timedelta(seconds=(over + 1) * check.interval_seconds)
        return Look(windows=tuple(windows), verdict=verdict, next_at=next_at, since=since)

    async def _read(
        self, service: Service, check: MetricsCheck, start: datetime
    ) -> list[MetricWindow]:
        return [
            await read_window(
                self.metrics,
                sli,
                check.target,
                check.version,
                check.baseline,
                start,
                check.interval_seconds,
            )
            for sli in service.slis
        ]


async def read_window(
    metrics: MetricsReader,
    sli: SLI,
    target: Target,
    version: str,
    baseline: str | None,
    start: datetime,
    seconds: float,
) -> MetricWindow:
    """One SLI over one window, for a version and the baseline where there is one."""
    end = start + timedelta(seconds=seconds)
    canary = await metrics.counts(sli, target, version, end, seconds)
    stable: Counts | Gap | None = None
    if baseline:
        stable = await metrics.counts(sli, target, baseline, end, seconds)
    gap = canary if isinstance(canary, Gap) else stable if isinstance(stable, Gap) else None
    return MetricWindow(
        start=start,
        seconds=seconds,
        metric=sli.name,
        kind=sli.kind,
        canary=canary if isinstance(canary, Counts) else None,
        stable=stable if isinstance(stable, Counts) else None,
        gap=gap,
    )


def window_count(check: MetricsCheck) -> int:
    """How many windows fit into the bake; at least one."""
    return max(1, math.floor(check.bake_seconds / check.interval_seconds))
