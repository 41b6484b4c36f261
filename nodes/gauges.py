"""Gauges: a service's own metrics, judged by how many of the last windows breach. Pure.

Where the counted indicators have a test with a known error rate (`nodes/judge.py`), a number from
any query has none: its noise is unknown. So one bad window proves nothing. It takes `breaches` of
the last `of` windows, and then `confirm` more in a row. No sample, NaN and several series are gaps:
they neither breach nor pass, and with too many of them nothing passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain.metric import Metric
from domain.verdict import Gap, MetricVerdict, MetricWindow, Verdict, VerdictKind
from nodes.judge import WORST_FIRST, JudgeConfig

KIND = "gauge"
"""`MetricWindow.kind` of a window that holds a number instead of counts."""


@dataclass(frozen=True)
class _Seen:
    """One window that could be judged: its place, and what it breaks ('' for nothing)."""

    window: MetricWindow
    breach: str


def judge_gauge(
    metric: Metric,
    windows: Sequence[MetricWindow],
    *,
    compared: bool,
    warmup: int,
    config: JudgeConfig,
    final: bool,
) -> MetricVerdict:
    """The verdict on one metric over all its windows so far, oldest first.

    `compared` says that stable serves beside the judged version. The first `warmup` windows are
    left out.
    """
    used = sorted(windows, key=lambda one: one.start)[warmup:]
    gaps = [gap for one in used if (gap := _gap(metric, one, compared)) is not None]
    seen = [
        _Seen(one, metric.breach_of(one.measured.canary, one.measured.stable))
        for one in used
        if _gap(metric, one, compared) is None
        and one.measured is not None
        and one.measured.canary is not None
    ]
    failed = _failed_at(metric, seen)
    if failed is not None:
        words = _counted(metric, seen[: failed + 1])
        found = _verdict(metric, VerdictKind.FAIL, seen, f"{words}; {seen[failed].breach}")
        return found.model_copy(update={"decided_at": seen[failed].window.start})
    missing = _missing(metric, used, gaps, compared, config, final=final)
    if missing is not None:
        return _verdict(metric, missing[0], seen, f"{metric.name}: {missing[1]}")
    if not final:
        return _verdict(metric, VerdictKind.INCONCLUSIVE, seen, "the bake is not over")
    return _at_the_end(metric, seen)


def joined(counted: Verdict | None, gauges: Sequence[MetricVerdict]) -> Verdict:
    """One verdict over the counted indicators and the gauges: the worst one decides."""
    parts = [(one.verdict, one.reason) for one in gauges]
    if counted is not None:
        parts.insert(0, (counted.kind, counted.reason))
    if not parts:
        return Verdict(kind=VerdictKind.NODATA, reason="there is nothing to judge by")
    kind = min((one for one, _ in parts), key=WORST_FIRST.index)
    reason = "; ".join(dict.fromkeys(said for one, said in parts if one is kind))
    own = counted.metrics if counted is not None else ()
    base = counted if counted is not None else Verdict(kind=kind, reason=reason)
    return base.model_copy(
        update={"kind": kind, "reason": reason, "metrics": (*own, *gauges)},
    )


def _gap(metric: Metric, window: MetricWindow, compared: bool) -> Gap | None:
    """Why a window says nothing of a metric, None when it does."""
    if window.gap is not None:
        return window.gap
    measured = window.measured
    if measured is None or measured.canary is None:
        return Gap(kind=VerdictKind.NODATA, reason="no value for the judged version")
    if compared and metric.tolerance is not None and measured.stable is None:
        return Gap(kind=VerdictKind.NODATA, reason="no value of stable to compare with")
    return None


def _failed_at(metric: Metric, seen: Sequence[_Seen]) -> int | None:
    """Place of the window with which the metric has failed; None while it has not."""
    rule = metric.fail_when
    for place, one in enumerate(seen):
        last = seen[max(0, place - rule.of + 1) : place + 1]
        after = seen[place + 1 : place + 1 + rule.confirm]
        if (
            one.breach
            and sum(bool(each.breach) for each in last) >= rule.breaches
            and len(after) == rule.confirm
            and all(each.breach for each in after)
        ):
            return place + rule.confirm
    return None


def _missing(
    metric: Metric,
    used: Sequence[MetricWindow],
    gaps: Sequence[Gap],
    compared: bool,
    config: JudgeConfig,
    *,
    final: bool,
) -> tuple[VerdictKind, str] | None:
    """What the gaps say, when they are too many to judge; None when they are not."""
    streak: list[Gap] = []
    for window in reversed(used):
        gap = _gap(metric, window, compared)
        if gap is None or gap.kind is not VerdictKind.ERROR:
            break
        streak.append(gap)
    if len(streak) >= config.error_limit:
        return VerdictKind.ERROR, f"no answer for {len(streak)} windows: {streak[0].reason}"
    if not final or len(gaps) <= config.gap_share * len(used):
        return None if used or not final else (VerdictKind.NODATA, "not one window was read")
    said = f"{len(gaps)} of {len(used)} windows have no value"
    errors = [gap for gap in gaps if gap.kind is VerdictKind.ERROR]
    kind = VerdictKind.ERROR if 2 * len(errors) >= len(gaps) else VerdictKind.NODATA
    last = [gap for gap in gaps if gap.kind is kind][-1]
    return kind, f"{said}, more than can be overlooked: {last.reason}"


def _at_the_end(metric: Metric, seen: Sequence[_Seen]) -> MetricVerdict:
    rule = metric.fail_when
    words = _counted(metric, seen)
    if len(seen) < rule.fewest:
        few = f"{words}; too few windows to tell, {rule.fewest} are the least"
        return _verdict(metric, VerdictKind.INCONCLUSIVE, seen, few)
    if sum(bool(one.breach) for one in seen[-rule.of :]) >= rule.breaches:
        open_ = f"{words}; the windows that would confirm it are missing"
        return _verdict(metric, VerdictKind.INCONCLUSIVE, seen, open_)
    return _verdict(metric, VerdictKind.PASS, seen, words)


def _counted(metric: Metric, seen: Sequence[_Seen]) -> str:
    """`p99: 3 of the last 5 windows breach (3 fail it)`."""
    rule = metric.fail_when
    last = seen[-(rule.of + rule.confirm) :]
    bad = sum(bool(one.breach) for one in last)
    more = f" and {rule.confirm} more" if rule.confirm else ""
    return (
        f"{metric.name}: {bad} of the last {len(last)} windows breach"
        f" ({rule.breaches} of {rule.of}{more} fail it)"
    )


def _verdict(
    metric: Metric, kind: VerdictKind, seen: Sequence[_Seen], reason: str
) -> MetricVerdict:
    last = seen[-1].window.measured if seen else None
    return MetricVerdict(
        metric=metric.name,
        verdict=kind,
        value=last.canary if last else None,
        stable_value=last.stable if last else None,
        limit_value=metric.limit,
        windows=len(seen),
        reason=reason,
    )
