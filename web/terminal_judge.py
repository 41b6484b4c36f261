"""What the judge found, for the terminal: a table by metric, little pictures, and the sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from domain.verdict import Counts, MetricVerdict, MetricWindow, Verdict
from nodes.judge_words import shown_times

BLOCKS = "▁▂▃▄▅▆▇█"
WIDEST = 40
COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


def render_judged(
    name: str,
    windows: Sequence[MetricWindow],
    verdict: Verdict,
    decided_at: int | None,
    tracks: Mapping[str, Sequence[float | None]],
    out: Console,
) -> None:
    """Print a verdict with what it rests on."""
    colour = COLOURS.get(verdict.kind.value, "magenta")
    when = ""
    if decided_at is not None:
        starts = sorted({one.start for one in windows})
        place = starts.index(windows[decided_at].start) + 1
        when = f" at window {place} of {len(starts)}"
    out.print(f"[bold]{escape(name)}[/bold]: [bold {colour}]{verdict.kind.value}[/]{when}")
    out.print(escape(verdict.reason), style="italic" if verdict.kind.value == "pass" else "")
    if verdict.share is not None:
        wanted = ""
        if verdict.expected_share is not None:
            wanted = f", its weight is {_percent(verdict.expected_share)}"
        out.print(f"The canary had {_percent(verdict.share)} of the traffic{wanted}.", style="dim")
    if verdict.metrics:
        out.print(_numbers(verdict.metrics))
    for one in verdict.metrics:
        own = sorted((w for w in windows if w.metric == one.metric), key=lambda w: w.start)
        _pictures(one, own, tracks.get(one.metric, ()), out)
    out.print()


def _numbers(metrics: Iterable[MetricVerdict]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("metric", "verdict", "canary", "stable", "allowed", "times stable", "e-value"):
        justify: JustifyMethod = "left" if column in ("metric", "verdict") else "right"
        table.add_column(column, justify=justify, overflow="fold")
    for one in metrics:
        colour = COLOURS.get(one.verdict.value, "magenta")
        if one.value is not None:
            numbers = (one.value, one.stable_value, one.limit_value)
            plain = ("-" if number is None else f"{number:,.4g}" for number in numbers)
            table.add_row(escape(one.metric), f"[{colour}]{one.verdict.value}[/]", *plain, "-", "-")
            continue
        table.add_row(
            escape(one.metric),
            f"[{colour}]{one.verdict.value}[/]",
            f"{_percent(one.canary_rate)} of {one.canary_total:,.0f}",
            f"{_percent(one.stable_rate)} of {one.stable_total:,.0f}" if one.stable_total else "-",
            _percent(one.allowed_rate),
            _ratio(one),
            f"{_value(one.evidence)} of {_value(one.limit)}",
        )
    return table


def _ratio(one: MetricVerdict) -> str:
    if one.ratio is None and one.ratio_upper is None:
        return "-"
    said = "-" if one.ratio is None else shown_times(one.ratio)
    lower = 0.0 if one.ratio_lower is None else one.ratio_lower
    upper = "any" if one.ratio_upper is None else shown_times(one.ratio_upper)
    return f"{said} ({shown_times(lower)} to {upper})"


def _pictures(
    one: MetricVerdict,
    windows: Sequence[MetricWindow],
    track: Sequence[float | None],
    out: Console,
) -> None:
    own = any(window.measured is not None for window in windows)
    canary = [w.measured.canary if w.measured else _rate(w.canary) for w in windows]
    stable = [w.measured.stable if w.measured else _rate(w.stable) for w in windows]
    top = max((rate for rate in (*canary, *stable) if rate is not None), default=0.0)
    rows = [("canary", canary, "orange3"), ("stable", stable, "blue")]
    for label, rates, colour in rows:
        if any(rate is not None for rate in rates):
            line = sparkline(rates, top)
            most = max(rate for rate in rates if rate is not None)
            note = f"  up to {f'{most:,.4g}' if own else _percent(most)}"
            out.print(
                f"  {escape(one.metric)} {label:8} [{colour}]{line}[/]{note}", highlight=False
            )
    if track and one.limit:
        # Evidence multiplies, so its picture is drawn by its logarithm, up to what is needed.
        logs = [None if e is None else max(0.0, math.log(max(e, 1.0))) for e in track]
        line = sparkline(logs, math.log(one.limit))
        note = f"  full is {_value(one.limit)}, enough to fail"
        out.print(f"  {escape(one.metric)} {'evidence':8} [red]{line}[/]{note}", highlight=False)


def sparkline(values: Sequence[float | None], top: float) -> str:
    """One character a value on a scale from 0 to `top`; a dot where there is none. Longer series
    are shortened, each character standing for the largest of its values."""
    size = max(1, math.ceil(len(values) / WIDEST))
    drawn = ""
    for begin in range(0, len(values), size):
        known = [one for one in values[begin : begin + size] if one is not None]
        if not known:
            drawn += "·"
            continue
        height = min(1.0, max(known) / top) if top > 0 else 0.0
        drawn += BLOCKS[round(height * (len(BLOCKS) - 1))]
    return drawn


def _rate(counts: Counts | None) -> float | None:
    if counts is None or not counts.total > 0 or not 0 <= counts.bad <= counts.total:
        return None
    return counts.bad / counts.total


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.2g}%" if rate < 0.995 else f"{100 * rate:.0f}%"


def _value(evidence: float | None) -> str:
    if evidence is None:
        return "-"
    if evidence >= 1e6:
        return f"{evidence:.1e}"
    return f"{evidence:,.0f}" if evidence >= 10 else f"{evidence:.2g}"
