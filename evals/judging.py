"""`fermata judge`: judge recorded windows one by one, as the canary check would have, live."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.verdict import MetricVerdict, MetricWindow, Verdict, VerdictKind
from evals.judging_input import Case
from nodes.gauges import KIND
from nodes.watch import judge_all


@dataclass(frozen=True)
class Judged:
    """A case, what was said of it, and when: `decided_at` is the position of the deciding window
    in the case's list, None where nothing was decided."""

    case: Case
    verdict: Verdict
    decided_at: int | None
    tracks: dict[str, tuple[float | None, ...]]
    """The e-value of each metric after each of its windows, up to the decision."""


def judge_case(case: Case, *, tracked: bool = False) -> Judged:
    """Judge after each window: the first at which the evidence suffices fails the version,
    otherwise the word after the last one stands. `tracked` keeps what was said in between."""
    windows, options = case.windows, case.options
    objectives: dict[str, float | None] = {**options.objectives}
    for window in windows:
        if window.kind != KIND:
            objectives.setdefault(window.metric, None)
    starts: dict[str, set[datetime]] = {}
    for window in windows:
        starts.setdefault(window.metric, set()).add(window.start)
    planned = max((len(one) for one in starts.values()), default=0)

    def said(seen: Sequence[MetricWindow], final: bool) -> Verdict:
        return judge_all(
            seen,
            objectives=objectives,
            metrics=case.metrics,
            compared=case.compared,
            config=options.judge,
            final=final,
            planned=planned,
            seconds=windows[0].seconds if windows else 0.0,
            weight=options.weight,
        )

    verdict = said(windows, True)
    decided = min((one.decided_at for one in verdict.metrics if one.decided_at), default=None)
    decided_at: int | None = None
    seen: Sequence[MetricWindow] = windows
    if decided is not None:
        seen = [one for one in windows if one.start <= decided]
        verdict = said(seen, len(seen) == len(windows))
        metric = next(one.metric for one in verdict.metrics if one.decided_at == decided)
        decided_at = next(
            index
            for index, one in enumerate(windows)
            if one.start == decided and one.metric == metric
        )
    elif verdict.kind is VerdictKind.PASS:
        decided_at = max(range(len(windows)), key=lambda index: (windows[index].start, index))
    tracks = _tracks(seen, verdict, said) if tracked else {}
    return Judged(case, verdict, decided_at, tracks)


def _tracks(
    windows: Sequence[MetricWindow], last: Verdict, said: Any
) -> dict[str, tuple[float | None, ...]]:
    found: dict[str, list[float | None]] = {one.metric: [] for one in last.metrics}
    starts: list[datetime] = sorted({one.start for one in windows})
    for start in starts:
        verdict = said([one for one in windows if one.start <= start], False)
        for one in verdict.metrics:
            found[one.metric].append(one.evidence)
    return {name: tuple(track) for name, track in found.items()}


def as_json(judged: Judged) -> dict[str, Any]:
    """What `--json` prints of a case. No number in it is infinite or NaN."""
    return {
        "id": judged.case.id,
        "verdict": judged.verdict.kind.value,
        "decided_at": judged.decided_at,
        "reason": judged.verdict.reason,
        "metrics": [metric_json(one) for one in judged.verdict.metrics],
    }


def metric_json(one: MetricVerdict) -> dict[str, Any]:
    """The finding on one metric, in plain values."""
    return {
        "metric": one.metric,
        "verdict": one.verdict.value,
        "e_value": _plain(one.evidence),
        "e_value_to_fail": _plain(one.limit),
        "canary_rate": one.canary_rate,
        "stable_rate": one.stable_rate,
        "allowed_rate": one.allowed_rate,
        "rate_upper": one.rate_upper,
        "ratio": one.ratio,
        "ratio_lower": one.ratio_lower,
        "ratio_upper": one.ratio_upper,
        "canary_total": one.canary_total,
        "stable_total": one.stable_total,
        "share": one.share,
        "dispersion": one.dispersion,
        "value": one.value,
        "stable_value": one.stable_value,
        "limit_value": one.limit_value,
        "windows": one.windows,
        "reason": one.reason,
    }


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value
