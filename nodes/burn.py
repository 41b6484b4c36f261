"""Burn rates: how fast a version spends its error budget once it has all the traffic.

After the multi-window, multi-burn-rate alerts of the SRE workbook: a pair of windows burns when
both are over its factor, the long one so that it matters, the short one so that it goes on. At
a canary's weight such a rule is nearly blind (at 10% and 99.9% it takes 14.4% of errors), which is
why it stands behind the judge and not in its place. Only the version's own series are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.action import MetricsCheck, Watched
from domain.service import SLI, Catalogue
from domain.state import Progress
from domain.verdict import Counts, Gap, MetricVerdict, Verdict, VerdictKind
from nodes.judge import WORST_FIRST
from nodes.judge_words import shown_count, shown_rate
from nodes.watch import Look
from tools.ports import MetricsReader

HOUR = 3600.0
FEWEST_BAD = 10.0
"""Bad events in the long window below which nothing burns: a handful of errors is no rate."""


@dataclass(frozen=True)
class Pair:
    """Two windows in seconds, and the multiple of the allowed rate that both have to exceed."""

    long: float
    short: float
    factor: float


PAIRS = (Pair(HOUR, HOUR / 12, 14.4), Pair(6 * HOUR, HOUR / 2, 6.0))
"""2% of a month's budget in an hour, 5% in six."""

Reading = dict[float, Counts | Gap]
"""What was counted, by the length of the window."""


@dataclass(frozen=True)
class Burn:
    """What a look at everything that is watched gave."""

    look: Look
    culprit: Watched
    """Whose verdict is the worst."""


@dataclass(frozen=True)
class BurnRates:
    """Reads the windows of all pairs as they are now; what was before stands in the long ones."""

    catalogue: Callable[[], Catalogue]
    metrics: MetricsReader

    async def look(self, check: MetricsCheck, progress: Progress, now: datetime) -> Burn:
        """The verdict as of `now`, and when to look again (None: the watch is over)."""
        end = progress.since + timedelta(seconds=check.bake_seconds)
        final = now >= end
        found = [(one, await self._judged(one, check, now, final=final)) for one in check.watched]
        verdicts = [verdict for _, verdict in found]
        kind = min((one.kind for one in verdicts), key=WORST_FIRST.index)
        verdict = Verdict(
            kind=kind,
            reason="; ".join(one.reason for one in verdicts if one.kind is kind),
            metrics=tuple(metric for one in verdicts for metric in one.metrics),
        )
        next_at = None if final else min(end, now + timedelta(seconds=check.interval_seconds))
        culprit = next(one for one, said in found if said.kind is kind)
        look = Look(windows=(), verdict=verdict, next_at=next_at, since=progress.since)
        return Burn(look, culprit)

    async def _judged(
        self, watched: Watched, check: MetricsCheck, now: datetime, *, final: bool
    ) -> Verdict:
        service = self.catalogue().service(watched.target.service)
        slis = service.slis if service is not None else ()
        found = [judge_burn(sli, await self._read(sli, watched, now), final=final) for sli in slis]
        verdict = _worst(found)
        if not check.also:
            return verdict
        key = watched.target.key
        named = [one.model_copy(update={"metric": f"{key} {one.metric}"}) for one in found]
        said = {"reason": f"{key}: {verdict.reason}", "metrics": tuple(named)}
        return verdict.model_copy(update=said)

    async def _read(self, sli: SLI, watched: Watched, now: datetime) -> Reading:
        lengths = sorted({length for pair in PAIRS for length in (pair.long, pair.short)})
        counted = await asyncio.gather(
            *(
                self.metrics.counts(sli, watched.target, watched.version, now, length)
                for length in lengths
            )
        )
        return dict(zip(lengths, counted, strict=True))


def judge_burn(sli: SLI, reading: Reading, *, final: bool) -> MetricVerdict:
    """The verdict on one indicator: fail as soon as a pair burns, pass when the watch is over.

    A short window without events does not burn; without any in the last hour nothing is known.
    """
    allowed = 1 - sli.objective
    for pair in PAIRS:
        long, short = reading[pair.long], reading[pair.short]
        if isinstance(long, Counts) and isinstance(short, Counts) and long.bad >= FEWEST_BAD:
            rates = _burn(long, allowed), _burn(short, allowed)
            if min(rates) > pair.factor:
                return _verdict(sli, VerdictKind.FAIL, long, _burning(sli, pair, rates, long))
    errors = [one for one in reading.values() if isinstance(one, Gap)
              and one.kind is VerdictKind.ERROR]  # fmt: skip
    if errors:
        return _verdict(sli, VerdictKind.ERROR, None, f"{sli.name}: {errors[0].reason}")
    hour = reading[HOUR]
    if isinstance(hour, Gap):
        return _verdict(sli, VerdictKind.NODATA, None, f"{sli.name}: {hour.reason}")
    kind = VerdictKind.PASS if final else VerdictKind.INCONCLUSIVE
    said = (
        f"{sli.name} burns {_times(_burn(hour, allowed))} times what is allowed in the last hour: "
        f"{_counted(hour)}"
    )
    return _verdict(sli, kind, hour, said)


def _burning(sli: SLI, pair: Pair, rates: tuple[float, float], long: Counts) -> str:
    return (
        f"{sli.name} burns {_times(rates[0])} times what is allowed over {_span(pair.long)} and "
        f"{_times(rates[1])} times over {_span(pair.short)}, the limit is {pair.factor:g}: "
        f"{_counted(long)}, {shown_rate(1 - sli.objective)} is allowed"
    )


def _burn(counts: Counts, allowed: float) -> float:
    return counts.bad / counts.total / allowed if counts.total > 0 else 0.0


def _times(factor: float) -> str:
    """1,000, 14.5, 0.3: never 1e+03, which is read as a one."""
    return f"{factor:,.0f}" if factor >= 100 else f"{factor:.3g}"


def _counted(counts: Counts) -> str:
    rate = shown_rate(counts.bad / counts.total) if counts.total > 0 else "0%"
    return f"{rate} ({shown_count(counts.bad)} of {shown_count(counts.total)})"


def _span(seconds: float) -> str:
    return f"{seconds / HOUR:g} h" if seconds >= HOUR else f"{seconds / 60:g} min"


def _verdict(sli: SLI, kind: VerdictKind, counts: Counts | None, reason: str) -> MetricVerdict:
    total = counts.total if counts is not None else 0
    return MetricVerdict(
        metric=sli.name,
        verdict=kind,
        canary_rate=counts.bad / total if counts is not None and total > 0 else None,
        allowed_rate=1 - sli.objective,
        canary_total=total,
        reason=reason,
    )


def _worst(found: list[MetricVerdict]) -> Verdict:
    if not found:
        return Verdict(kind=VerdictKind.NODATA, reason="there are no SLIs whose budget could burn")
    kind = min((one.verdict for one in found), key=WORST_FIRST.index)
    reason = "; ".join(one.reason for one in found if one.verdict is kind)
    return Verdict(kind=kind, reason=reason, metrics=tuple(found))
