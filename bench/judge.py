"""The judge next to what others decide by default, on the same made-up traffic, with seeds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from bench.figures import Figure, Section, Target
from bench.judge_peers import PEERS, Ruled
from bench.judge_traffic import BASE, KINDS, RATES, SECONDS, WEIGHT, Streams
from domain.verdict import VerdictKind
from nodes.betting import Counted
from nodes.judge import JudgeConfig
from nodes.judge_many import judge_many

SEED = 20_261_126
QUICK, FULL = 500, 5_000
"""Releases of each kind of traffic at each rate."""
TIMES = 3.0
BUSIEST = max(RATES)
OURS = "Fermata"
LIVE = (1_000, 5, 100)
"""Canaries, metrics and windows of the speed measurement."""


@dataclass(frozen=True)
class Cell:
    """One judge on one kind of traffic at one rate, on good and on bad releases."""

    good: Ruled
    bad: Ruled


def fermata(streams: Streams) -> Ruled:
    """The judge at its default settings."""
    many = judge_many(
        Counted(*(one[:, None, :] for one in (streams.bad, streams.total, streams.base_bad,
                                              streams.base_total))),
        allowed=np.array([math.nan]),
        config=JudgeConfig(),
        seconds=SECONDS,
    )  # fmt: skip
    back = many.are(VerdictKind.FAIL)
    return Ruled(back, many.are(VerdictKind.PASS), np.where(back, many.decided_at + 1.0, np.nan))


JUDGES: dict[str, Callable[[Streams], Ruled]] = {OURS: fermata, **PEERS}


def measure_judge(tell: Callable[[str], None], *, full: bool) -> Section:
    """False rollbacks, detection and speed."""
    began = time.perf_counter()
    releases = FULL if full else QUICK
    cells = simulate(tell, releases)
    good, bad, speed = _good_table(cells), _bad_table(cells), _speed()
    ours = {key: cell for key, cell in cells.items() if key[0] == OURS}
    false = [cell.good.rolled_back.mean() for cell in ours.values()]
    by_kind = {
        kind: float(np.mean([c.good.rolled_back.mean() for k, c in ours.items() if k[1] == kind]))
        for kind in KINDS
    }
    worst = max(by_kind, key=lambda kind: by_kind[kind])
    at = ours[OURS, "Poisson", BUSIEST].bad
    median = float(np.nanmedian(np.where(at.rolled_back, at.windows, np.inf))) * SECONDS / 60
    shared = sum(
        int(c.good.rolled_back.sum()) for k, c in ours.items() if k[1] == "shared incident"
    )
    limit = information_limit()
    figures = (
        Figure("false rollbacks, all traffic", 100 * float(np.mean(false)), "%",
               Target("at most", 1.0), f"{len(false) * releases:,} good releases"),
        Figure("false rollbacks, worst kind", 100 * by_kind[worst], "%", Target("at most", 1.0),
               worst),
        Figure("rollbacks in shared incidents", shared, "", Target("at most", 0),
               f"of {len(RATES) * releases:,} good releases"),
        Figure("errors x3 at 6,000 rpm caught", 100 * float(at.rolled_back.mean()), "%",
               Target("at least", 95.0), "Poisson, within 30 minutes"),
        Figure("median time to that", median, "min", Target("at most", 11.0),
               f"warm-up of 1 min included; information limit {limit:.1f} min"),
        Figure("over the information limit", (median - 1) / limit, "x", None, "warm-up aside"),
        Figure("1,000 canaries x 5 metrics x 100 windows", speed, "s", Target("at most", 1.0),
               "processor time of one core, every window judged"),
    )  # fmt: skip
    return Section("judge", figures, time.perf_counter() - began, tables=(good, bad))


def simulate(tell: Callable[[str], None], releases: int) -> dict[tuple[str, str, float], Cell]:
    """Every judge on every kind of traffic at every rate; all on the same streams."""
    cells: dict[tuple[str, str, float], Cell] = {}
    for number, (kind, make) in enumerate(KINDS.items()):
        tell(f"{kind}: {releases} good and {releases} bad releases at each rate")
        for rate in RATES:
            rng = np.random.default_rng((SEED, number, int(rate)))
            good, bad = make(rng, releases, rate, 1.0), make(rng, releases, rate, TIMES)
            for name, judge in JUDGES.items():
                cells[name, kind, rate] = Cell(judge(good), judge(bad))
    return cells


def information_limit(alpha: float = 0.01, tolerance: float = 1.5) -> float:
    """Minutes after which the best of all bets, one that knows the factor, expects to have proof.

    ln(1/alpha) over the relative entropy of the canary's share of the errors, times their rate.
    """
    p, q = (r * WEIGHT / (r * WEIGHT + 1 - WEIGHT) for r in (TIMES, tolerance))
    entropy = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    per_minute = BUSIEST * BASE * (TIMES * WEIGHT + 1 - WEIGHT)
    return math.log(1 / alpha) / (entropy * per_minute)


def _good_table(cells: dict[tuple[str, str, float], Cell]) -> Table:
    table = Table(
        title="Good releases: rolled back / undecided, mean over all rates", title_justify="left"
    )
    table.add_column("traffic")
    for name in JUDGES:
        table.add_column(name, justify="right")
    for kind in KINDS:
        row = []
        for name in JUDGES:
            mine = [cells[name, kind, rate].good for rate in RATES]
            back = np.mean([one.rolled_back.mean() for one in mine])
            undecided = np.mean([(~one.rolled_back & ~one.passed).mean() for one in mine])
            row.append(f"{100 * back:.1f}% / {100 * undecided:.0f}%")
        table.add_row(kind, *row)
    return table


def _bad_table(cells: dict[tuple[str, str, float], Cell]) -> Table:
    table = Table(
        title="Errors x3: caught / passed all the same, median minutes to the rollback",
        title_justify="left",
    )
    table.add_column("traffic")
    table.add_column("rpm", justify="right")
    for name in JUDGES:
        table.add_column(name, justify="right")
    for kind in KINDS:
        for rate in RATES:
            row = []
            for name in JUDGES:
                one = cells[name, kind, rate].bad
                caught, passed = one.rolled_back.mean(), one.passed.mean()
                when = np.nanmedian(one.windows) * SECONDS / 60 if caught else math.nan
                said = f", {when:.0f} min" if caught >= 0.005 else ""
                row.append(f"{100 * caught:.0f}% / {100 * passed:.0f}%{said}")
            table.add_row(kind, f"{rate:,.0f}", *row)
    return table


def _speed() -> float:
    """Processor seconds for judging `LIVE`, each window, as of each window."""
    rng = np.random.default_rng(SEED)
    total, base_total = rng.poisson(600, LIVE), rng.poisson(5400, LIVE)
    counts = (rng.binomial(total, BASE), total, rng.binomial(base_total, BASE), base_total)
    counted = Counted(*(one.astype(np.float64) for one in counts))
    took = math.inf
    for _ in range(2):
        began = time.process_time()
        judge_many(counted, allowed=np.full(LIVE[1], 0.01), config=JudgeConfig(), seconds=SECONDS)
        took = min(took, time.process_time() - began)
    return took
