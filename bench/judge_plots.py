"""`python -m bench.judge_plots`: the pictures of docs/judge.md, from simulations with seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.judge_traffic import BASE, KINDS, SECONDS, WINDOWS, Array, Streams, errors, requests
from domain.verdict import VerdictKind
from nodes.betting import Counted, bet
from nodes.judge import JudgeConfig
from nodes.judge_many import judge_many

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "img"
SEED = 7
GOOD, BAD, GREY = "#2f6f9f", "#c2452d", "#8a8a8a"
RELEASES = 2_000
SHOWN = 40


def main() -> int:
    """Draw them all."""
    import matplotlib as mpl

    mpl.use("svg")
    # Without a date and with fixed ids, the same simulation gives the same file.
    mpl.rcParams.update({"svg.hashsalt": "judge", "svg.fonttype": "none", "font.size": 9})
    FOLDER.mkdir(exist_ok=True)
    for name, figure in (
        ("judge-evidence.svg", evidence()),
        ("judge-power.svg", power()),
        ("judge-clumps.svg", clumps()),
    ):
        figure.savefig(FOLDER / name, metadata={"Date": None})
    return 0


def counted(streams: Streams) -> Counted:
    """Streams as the bets take them, the warm-up left out."""
    return Counted(
        streams.bad[:, 1:], streams.total[:, 1:], streams.base_bad[:, 1:], streams.base_total[:, 1:]
    )


def tracks(streams: Streams) -> Array:
    """The e-value of each release after each window."""
    many = streams.bad.shape[0]
    found = bet(
        counted(streams),
        tolerance=1.5,
        allowed=np.full(many, np.nan),
        compared=np.ones(many, dtype=np.bool_),
        limit=np.log(100),
        spread=2,
    )
    return np.exp(np.minimum(found.log, 30))


def evidence() -> Figure:
    """E-values of good and of bad releases over time."""
    figure, axes = _figure(2, sharey=True)
    for one, times, colour in zip(axes, (1.0, 3.0), (GOOD, BAD), strict=True):
        rng = np.random.default_rng(SEED)
        drawn = tracks(KINDS["Poisson"](rng, RELEASES, 6000.0, times))
        minutes = np.arange(2, WINDOWS + 1)
        for track in drawn[:SHOWN]:
            one.semilogy(minutes, track, color=colour, alpha=0.25, linewidth=0.8)
        one.semilogy(minutes, np.median(drawn, 0), color="black", linewidth=1.6)
        one.axhline(100, color=GREY, linestyle="--", linewidth=1)
        one.set_ylim(1e-2, 1e6)
        one.set_xlim(0, WINDOWS)
        one.set_xlabel("minutes")
        one.set_title(f"errors x{times:.0f}: {SHOWN} releases and the median")
        _plain(one)
    axes[0].set_ylabel("e-value; fails at 100")
    return figure


def power() -> Figure:
    """How many are failed by when, by how much worse they are, and by traffic."""
    figure, axes = _figure(2, sharey=True)
    minutes = np.arange(1, WINDOWS + 1)
    for times, shade in ((1.5, 0.25), (2.0, 0.4), (3.0, 0.6), (5.0, 0.8), (10.0, 1.0)):
        rng = np.random.default_rng(SEED)
        done = caught(KINDS["Poisson"](rng, RELEASES, 6000.0, times))
        axes[0].plot(minutes, done, color=BAD, alpha=shade, label=f"x{times:g}")
    axes[0].axvline(8, color=GREY, linestyle=":", linewidth=1)
    axes[0].axvline(11, color=GREY, linestyle="--", linewidth=1)
    axes[0].set_title("6,000 requests a minute, 10% canary")
    for rate, shade in ((300.0, 0.25), (1500.0, 0.45), (6000.0, 0.7), (24000.0, 1.0)):
        rng = np.random.default_rng(SEED)
        done = caught(KINDS["Poisson"](rng, RELEASES, rate, 3.0))
        axes[1].plot(minutes, done, color=BAD, alpha=shade, label=f"{rate:,.0f}")
    axes[1].set_title("errors x3, by requests a minute")
    for one in axes:
        one.set_xlim(0, WINDOWS)
        one.set_ylim(-2, 102)
        one.set_xlabel("minutes")
        one.legend(frameon=False, fontsize=8, loc="center right", bbox_to_anchor=(1.0, 0.55))
        _plain(one)
    axes[0].set_ylabel("% rolled back")
    return figure


def clumps() -> Figure:
    """False rollbacks when errors come in clumps, with and without what is taken off."""
    figure, axes = _figure(1)
    sizes = (1, 2, 3, 5, 8, 12, 20)
    plain, robust = [], []
    for size in sizes:
        rng = np.random.default_rng(SEED)
        mine, theirs = requests(rng, RELEASES, 6000.0)
        if size == 1:
            streams = Streams(errors(rng, mine, BASE), mine, errors(rng, theirs, BASE), theirs)
        else:
            streams = Streams(_clumps(rng, mine, size), mine, _clumps(rng, theirs, size), theirs)
        robust.append(100 * failed(streams))
        plain.append(100 * failed_naively(streams))
    axes[0].plot(sizes, plain, color=GREY, marker="o", label="likelihood ratio alone")
    axes[0].plot(sizes, robust, color=GOOD, marker="o", label="dispersion, cap and spread")
    axes[0].axhline(1, color=BAD, linestyle="--", linewidth=1)
    axes[0].set_xlabel("errors in a clump")
    axes[0].set_ylabel("% of good releases rolled back")
    axes[0].legend(frameon=False)
    _plain(axes[0])
    return figure


def _clumps(rng: np.random.Generator, total: Array, size: int) -> Array:
    return np.minimum(size * rng.poisson(total * BASE / size), total).astype(np.float64)


def caught(streams: Streams) -> Array:
    """Percent rolled back by each minute."""
    many = _judged(streams)
    return np.array([100 * np.mean((many >= 0) & (many <= minute)) for minute in range(WINDOWS)])


def failed(streams: Streams) -> float:
    """Share of releases failed."""
    return float(np.mean(_judged(streams) >= 0))


def failed_naively(streams: Streams) -> float:
    """Share that would be failed were errors taken to come one by one: no spread asked for, and
    the same bet on one alternative."""
    one = counted(streams)
    both, null = one.bad + one.base_bad, 1.5 * one.total + one.base_total
    gains = one.bad * np.log(2) - both * np.log((3 * one.total + one.base_total) / null)
    return float(np.mean((np.cumsum(gains, -1) >= np.log(100)).any(-1)))


def _judged(streams: Streams) -> np.ndarray:
    columns = (streams.bad, streams.total, streams.base_bad, streams.base_total)
    found = judge_many(
        Counted(*(one[:, None, :] for one in columns)),
        allowed=np.array([np.nan]),
        config=JudgeConfig(),
        seconds=SECONDS,
    )
    return np.where(found.are(VerdictKind.FAIL), found.decided_at, -1)


def _figure(panels: int, *, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, panels, figsize=(4.2 * panels, 2.9), sharey=sharey, layout="constrained", squeeze=False
    )
    return figure, list(axes[0])


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)


if __name__ == "__main__":
    sys.exit(main())
