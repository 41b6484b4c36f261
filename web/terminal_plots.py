"""Rates of a check as a plot for the terminal, from the API's JSON of measured windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotext
from rich.console import Console
from rich.markup import escape
from rich.text import Text

HEIGHT = 11
WIDEST = 100


def render_windows(
    run: Mapping[str, Any], steps: Mapping[str, Sequence[dict[str, Any]]], out: Console
) -> None:
    """Plot the check that decided the run: the one that failed, or else the latest one."""
    looks = [one for one in run.get("verdicts", ()) if steps.get(one["step_id"])]
    looks = [one for one in looks if one["phase"] != "pre"]
    if not looks:
        return
    failed = [one for one in looks if one["verdict"]["kind"] == "fail"]
    decided = (failed or looks)[-1]
    # A service's own numbers are no rates; what was wrong with them stands in the verdict.
    windows = [one for one in steps[decided["step_id"]] if not one.get("measured")]
    allowed = {one["metric"]: one["allowed_rate"] for one in decided["verdict"]["metrics"]}
    for metric in dict.fromkeys(one["metric"] for one in windows):
        own = [one for one in windows if one["metric"] == metric]
        if len(own) > 1:
            out.print(f"[bold]{escape(decided['step_id'])}[/bold] {escape(metric)}")
            out.print(Text.from_ansi(_plot(own, allowed.get(metric), min(out.width, WIDEST))))


def _plot(windows: Sequence[dict[str, Any]], allowed: float | None, width: int) -> str:
    """Percent over windows: the new version, stable where it was measured, what is allowed."""
    plot: Any = plotext  # it carries no types
    plot.clear_figure()
    plot.plotsize(width, HEIGHT)
    plot.theme("clear")
    top = 0.0
    for track, colour, name in (("stable", "blue", "stable"), ("canary", "orange", "new version")):
        known = [
            (index, 100 * one[track]["bad"] / one[track]["total"])
            for index, one in enumerate(windows, 1)
            if one[track] is not None and one[track]["total"] > 0
        ]
        if known:
            at, rates = zip(*known, strict=True)
            top = max(top, *rates)
            plot.plot(at, rates, color=colour, label=name, marker="braille")
    if allowed is not None:
        top = max(top, 100 * allowed)
        plot.hline(100 * allowed, "gray+")
    plot.ylim(0, top * 1.15 or 1)
    plot.xlabel("window")
    plot.ylabel("% bad")
    return str(plot.build())
