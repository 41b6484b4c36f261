"""Small pictures of numbers: bars for rates, lines for rates over time. Geometry, no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domain.verdict import MetricVerdict
from store.records import VerdictRow

LINE_WIDTH, LINE_HEIGHT = 130.0, 36.0
BAR_WIDTH = 120.0
_HEADROOM = 1.15


@dataclass(frozen=True)
class Bars:
    """Rates of canary and stable, and the allowed rate, on one scale. Lengths in SVG units."""

    canary: float | None
    stable: float | None
    allowed: float | None
    breach: bool


@dataclass(frozen=True)
class Lines:
    """Rates at each look as polyline points; `allowed` is the height of the allowed rate."""

    canary: str
    stable: str
    allowed: float | None
    last: tuple[float, float] | None
    """Where the canary's line ends."""
    looks: int


def bars(metric: MetricVerdict) -> Bars:
    """Bars on a scale that ends a little above the largest of the three rates."""
    rates = (metric.canary_rate, metric.stable_rate, metric.allowed_rate)
    top = _top(rates)

    def length(rate: float | None) -> float | None:
        return None if rate is None else round(BAR_WIDTH * max(rate, 0.0) / top, 1)

    over = (
        metric.canary_rate is not None
        and metric.allowed_rate is not None
        and metric.canary_rate > metric.allowed_rate
    )
    return Bars(length(rates[0]), length(rates[1]), length(rates[2]), over)


def lines(rows: Sequence[VerdictRow], name: str) -> Lines | None:
    """The judge's rates of one metric, look by look; None with fewer than two looks."""
    looks = [m for row in rows for m in row.verdict.metrics if m.metric == name]
    if len(looks) < 2:
        return None
    allowed = next((m.allowed_rate for m in reversed(looks) if m.allowed_rate is not None), None)
    canary = [m.canary_rate for m in looks]
    stable = [m.stable_rate for m in looks]
    top = _top((*canary, *stable, allowed))

    def height(rate: float) -> float:
        return round(LINE_HEIGHT - 2 - (LINE_HEIGHT - 4) * max(rate, 0.0) / top, 1)

    def points(rates: Sequence[float | None]) -> list[tuple[float, float]]:
        step = (LINE_WIDTH - 6) / (len(looks) - 1)
        return [(round(2 + i * step, 1), height(r)) for i, r in enumerate(rates) if r is not None]

    drawn = points(canary)
    return Lines(
        canary=_text(drawn),
        stable=_text(points(stable)),
        allowed=height(allowed) if allowed is not None else None,
        last=drawn[-1] if drawn else None,
        looks=len(looks),
    )


def _top(rates: Sequence[float | None]) -> float:
    """The scale's end: above the largest rate, and never zero."""
    return max((rate for rate in rates if rate is not None), default=0.0) * _HEADROOM or 1.0


def _text(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
