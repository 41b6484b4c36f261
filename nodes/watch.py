"""Watch: reads the windows of a check that are over, and has them judged."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from domain.action import MetricsCheck
from domain.event import Frozen
from domain.metric import Metric
from domain.service import SLI, Catalogue, Target
from domain.state import Progress
from domain.verdict import Counts, Gap, Measured, MetricWindow, Verdict, VerdictKind
from nodes.gauges import KIND, joined, judge_gauge
from nodes.judge import JudgeConfig, judge, warmup_of
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
        slis = _chosen(service.slis, check) if service is not None else ()
        metrics = (
            judgeable(_chosen(service.metrics, check), compared=check.baseline is not None)
            if service is not None
            else ()
        )
        if not slis and not metrics:
            verdict = Verdict(
                kind=VerdictKind.NODATA,
                reason=f"{check.target.service} has nothing in services.yaml to be judged by here",
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
                windows += await self._read(slis, metrics, check, start)
        final = over >= total
        verdict = self._judged(slis, metrics, check, windows, final=final)
        next_at = None if final else since + timedelta(seconds=(over + 1) * check.interval_seconds)
        return Look(windows=tuple(windows), verdict=verdict, next_at=next_at, since=since)

    def _judged(
        self,
        slis: Sequence[SLI],
        metrics: Sequence[Metric],
        check: MetricsCheck,
        windows: Sequence[MetricWindow],
        *,
        final: bool,
    ) -> Verdict:
        total = window_count(check)
        return judge_all(
            windows,
            objectives={sli.name: sli.objective for sli in slis},
            metrics=metrics,
            compared=check.baseline is not None,
            config=self.config,
            final=final,
            planned=total,
            seconds=check.interval_seconds,
            weight=check.weight if check.baseline and check.phase == "canary" else None,
        )

    async def _read(
        self,
        slis: Sequence[SLI],
        metrics: Sequence[Metric],
        check: MetricsCheck,
        start: datetime,
    ) -> list[MetricWindow]:
        counted = (
            read_window(
                self.metrics,
                sli,
                check.target,
                check.version,
                check.baseline,
                start,
                check.interval_seconds,
            )
            for sli in slis
        )
        measured = (
            read_gauge(
                self.metrics,
                metric,
                check.target,
                check.version,
                check.baseline,
                start,
                check.interval_seconds,
            )
            for metric in metrics
        )
        return list(await asyncio.gather(*counted, *measured))


Named = TypeVar("Named", SLI, Metric)
Number = TypeVar("Number", Counts, float)


def _chosen(named: Sequence[Named], check: MetricsCheck) -> tuple[Named, ...]:
    """Those that the check names; all where it names none."""
    return tuple(one for one in named if check.metrics is None or one.name in check.metrics)


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
    canary, stable, gap = await _of_both(
        lambda one: metrics.counts(sli, target, one, end, seconds), version, baseline
    )
    return MetricWindow(
        start=start,
        seconds=seconds,
        metric=sli.name,
        kind=sli.kind,
        canary=canary if isinstance(canary, Counts) else None,
        stable=stable if isinstance(stable, Counts) else None,
        gap=gap,
    )


async def read_gauge(
    metrics: MetricsReader,
    metric: Metric,
    target: Target,
    version: str,
    baseline: str | None,
    start: datetime,
    seconds: float,
) -> MetricWindow:
    """A service's own number over one window, of both versions where both are compared."""
    end = start + timedelta(seconds=seconds)
    canary, stable, gap = await _of_both(
        lambda one: metrics.value(metric, target, one, end, seconds),
        version,
        baseline if metric.tolerance is not None else None,
    )
    return MetricWindow(
        start=start,
        seconds=seconds,
        metric=metric.name,
        kind=KIND,
        stable=None,
        canary=None,
        gap=gap,
        measured=Measured(
            canary=canary if isinstance(canary, float) else None,
            stable=stable if isinstance(stable, float) else None,
        ),
    )


async def _of_both(
    ask: Callable[[str], Awaitable[Number | Gap]], version: str, baseline: str | None
) -> tuple[Number | Gap, Number | Gap | None, Gap | None]:
    """What is known of a version and of the baseline where there is one, asked at once, and the
    gap in it, if any."""
    named = (version, baseline) if baseline else (version,)
    found = await asyncio.gather(*(ask(one) for one in named))
    gap = next((one for one in found if isinstance(one, Gap)), None)
    return found[0], found[1] if baseline else None, gap


def judge_all(
    windows: Sequence[MetricWindow],
    *,
    objectives: Mapping[str, float | None],
    metrics: Sequence[Metric],
    compared: bool,
    config: JudgeConfig,
    final: bool,
    planned: int,
    seconds: float,
    weight: float | None,
) -> Verdict:
    """The counted indicators by the test, the service's own numbers by their rule; the worst
    decides. `planned` windows of `seconds` each make the whole check, see `nodes.judge.judge`."""
    counted = None
    if objectives:
        counted = judge(
            [one for one in windows if one.kind != KIND],
            objectives=objectives,
            config=config,
            final=final,
            planned=planned,
            weight=weight,
        )
    warmup = config.warmup
    if warmup is None:
        warmup = warmup_of(planned, seconds, config.warmup_seconds) if metrics else 0
    gauges = [
        judge_gauge(
            metric,
            [one for one in windows if one.kind == KIND and one.metric == metric.name],
            compared=compared,
            warmup=warmup,
            config=config,
            final=final,
        )
        for metric in metrics
    ]
    return joined(counted, gauges) if gauges or counted is None else counted


def judgeable(metrics: Sequence[Metric], *, compared: bool) -> tuple[Metric, ...]:
    """Without a stable beside it, a metric that has only a tolerance says nothing."""
    return tuple(one for one in metrics if one.can_judge(compared=compared))


def window_count(check: MetricsCheck) -> int:
    """How many windows fit into the bake; at least one."""
    return max(1, math.floor(check.bake_seconds / check.interval_seconds))
