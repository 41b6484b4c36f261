"""Drawings of a check: the rates of both versions, window by window, as SVG or PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from textwrap import wrap
from typing import Any, Literal

from domain.verdict import Counts, MetricVerdict, MetricWindow, VerdictKind
from store.records import RunDetail, VerdictRow

Kind = Literal["svg", "png"]
MEDIA: Mapping[Kind, str] = {"svg": "image/svg+xml", "png": "image/png"}
MOST_PANELS = 3
INK, QUIET, CANARY, STABLE, LIMIT = "#1d2733", "#6b7785", "#c2410c", "#2563a8", "#9aa4af"


@dataclass(frozen=True)
class Panel:
    """One indicator: rates as fractions by seconds since the check began; None where unknown.

    A metric of the service's own has plain numbers instead, which are no percentages.
    """

    metric: str
    verdict: VerdictKind | None
    seconds: tuple[float, ...]
    canary: tuple[float | None, ...]
    stable: tuple[float | None, ...]
    allowed: float | None
    is_rate: bool = True

    @property
    def compared(self) -> bool:
        """Whether a second version was measured."""
        return any(rate is not None for rate in self.stable)


@dataclass(frozen=True)
class Drawing:
    """What is drawn of a run: a heading, the sentence below it, and a panel an indicator."""

    heading: str
    sentence: str
    panels: tuple[Panel, ...]


def drawing_of(detail: RunDetail, windows: Mapping[str, Sequence[MetricWindow]]) -> Drawing | None:
    """The check that decided the run: the one that failed, or the latest; None without windows."""
    rows = [row for row in detail.verdicts if windows.get(row.step_id) and row.phase != "pre"]
    if not rows:
        return None
    failed = [row for row in rows if row.verdict.kind is VerdictKind.FAIL]
    row = (failed or rows)[-1]
    return Drawing(
        heading=f"{detail.run.title} · {detail.run.state.value.replace('_', ' ')}",
        sentence=row.verdict.reason,
        panels=panels(windows[row.step_id], row),
    )


def panels(windows: Sequence[MetricWindow], row: VerdictRow | None = None) -> tuple[Panel, ...]:
    """A panel for each indicator of a check, those that failed first."""
    verdicts = {one.metric: one for one in row.verdict.metrics} if row is not None else {}
    names = dict.fromkeys(one.metric for one in windows)
    begin = min(one.start for one in windows)
    made = []
    for name in names:
        own = [one for one in windows if one.metric == name]
        told = verdicts.get(name)
        ends = [one.start + timedelta(seconds=one.seconds) - begin for one in own]
        made.append(
            Panel(
                metric=name,
                verdict=told.verdict if told else None,
                seconds=tuple(end.total_seconds() for end in ends),
                canary=tuple(_shown(one, "canary") for one in own),
                stable=tuple(_shown(one, "stable") for one in own),
                allowed=_allowed(told),
                is_rate=all(one.measured is None for one in own),
            )
        )
    made.sort(key=lambda one: one.verdict is not VerdictKind.FAIL)
    return tuple(made[:MOST_PANELS])


def _shown(window: MetricWindow, track: Literal["canary", "stable"]) -> float | None:
    """What is drawn of a version in a window: its rate, or its number."""
    if window.measured is not None:
        return window.measured.canary if track == "canary" else window.measured.stable
    return _rate(window.canary if track == "canary" else window.stable)


def _allowed(told: MetricVerdict | None) -> float | None:
    if told is None:
        return None
    return told.allowed_rate if told.allowed_rate is not None else told.limit_value


def _rate(counts: Counts | None) -> float | None:
    return counts.bad / counts.total if counts is not None and counts.total > 0 else None


def draw(drawing: Drawing, kind: Kind) -> bytes:
    """The drawing as a file. matplotlib is imported here: few processes ever draw."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    told = wrap(drawing.sentence, 112, max_lines=2, placeholder=" …")
    head = 0.22 + 0.14 * max(len(told), 1)
    height = 0.74 + head + 1.5 * len(drawing.panels)
    figure = Figure(figsize=(7.2, height), dpi=150, facecolor="white")
    grid = figure.subplots(len(drawing.panels), 1, sharex=True, squeeze=False)
    for axes, panel in zip(grid[:, 0], drawing.panels, strict=True):
        _panel(axes, panel)
    grid[-1, 0].set_xlabel("time since the check began", color=QUIET, fontsize=8)
    figure.suptitle(_cut(drawing.heading, 78), x=0.02, ha="left", color=INK, fontsize=11)
    figure.text(0.02, 0.985 - 0.34 / height, _literal("\n".join(told)),
                ha="left", va="top", color=QUIET, fontsize=8)  # fmt: skip
    figure.tight_layout(rect=(0, 0, 1, 1 - head / height))
    target = io.BytesIO()
    # Text stays text, ids do not change from one drawing to the next, and no date is written.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fermata"}):
        figure.savefig(target, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return target.getvalue()


def _panel(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    for rates, colour, name, width in (
        (panel.stable, STABLE, "stable", 1.4),
        (panel.canary, CANARY, "new version", 2.2),
    ):
        known = [(at, rate) for at, rate in zip(panel.seconds, rates, strict=True)
                 if rate is not None]  # fmt: skip
        if not known:
            continue
        axes.plot(*zip(*known, strict=True), color=colour, linewidth=width, marker="o",
                  markersize=3, label=name, clip_on=False)  # fmt: skip
    if panel.allowed is not None:
        axes.axhline(panel.allowed, color=LIMIT, linestyle=(0, (4, 3)), linewidth=1.1,
                     label="allowed")  # fmt: skip
    said = f" · {panel.verdict.value}" if panel.verdict is not None else ""
    axes.set_title(panel.metric + said, loc="left", fontsize=9, color=INK)
    if panel.is_rate:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{100 * rate:g}%"))
    axes.xaxis.set_major_locator(MultipleLocator(_tick(panel.seconds)))
    axes.xaxis.set_major_formatter(FuncFormatter(_seconds))
    axes.set_ylim(bottom=_bottom(panel), top=_top(panel))
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=7.5, colors=QUIET, length=2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#cfd6dd")
    axes.legend(loc="upper right", fontsize=7, frameon=False, ncols=3, labelcolor=INK)


def _top(panel: Panel) -> float:
    """Room above the highest line for the legend; a flat zero still has a scale."""
    known = [rate for rate in (*panel.canary, *panel.stable, panel.allowed) if rate is not None]
    return max(known, default=0.0) * 1.45 or 0.01


def _bottom(panel: Panel) -> float:
    """Zero, or below the lowest number."""
    known = [rate for rate in (*panel.canary, *panel.stable, panel.allowed) if rate is not None]
    return min(0.0, min(known, default=0.0) * 1.1)


def _tick(seconds: Sequence[float]) -> float:
    """Distance of the ticks: a round number of seconds or minutes that gives at most eight."""
    last = max(seconds, default=0.0)
    steps = (5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
    return next((float(step) for step in steps if last <= 8 * step), last)


def _seconds(value: float, _: object = None) -> str:
    if value < 60 or value % 60:
        return f"{value:g} s"
    return f"{value / 60:g} min" if value < 7200 else f"{value / 3600:g} h"


def _cut(text: str, limit: int) -> str:
    """One line."""
    line = " ".join(text.split())
    return _literal(line if len(line) <= limit else line[: limit - 1].rstrip() + "…")


def _literal(text: str) -> str:
    """`$` as it is: matplotlib would set mathematics, and refuses what is none."""
    return text.replace("$", r"\$")
