"""The bets of the judge: evidence that a version is worse, window by window. Arrays in, arrays out.

Every array has the windows on its last axis; a window that does not count is zero in all four
counts. What stands at window t depends on windows 0..t alone, so one call gives what each look in
between would have given: it is how a thousand canaries are judged at once, and how one is.

**The bet.** For a window with `x` bad of `n` on the canary and `y` bad of `s` on stable, the
likelihood ratio of rate ratio f r0 against r0 = `tolerance`, given x + y, is

    (p1/p0)^x ((1-p1)/(1-p0))^y     with p_i = r_i n / (r_i n + s).

It is an e-value although bad events are Bernoulli and not Poisson: with a = p1/p0 and
b = (1-p1)/(1-p0) its mean is (1+q_c(a-1))^n (1+q_s(b-1))^s, and since ln(1+z) <= z and a > 1 its
logarithm is at most q_c n (a-1) + q_s s (b-1) <= q_s (r0 n (a-1) + s (b-1)) = 0 whenever
q_c <= r0 q_s. That holds whatever the common rate q_s is in a window, so an incident that both
versions suffer cancels out. Products over windows, and means over several f (`RATIO`), are
e-processes; by Ville's inequality they reach 1/alpha with a probability of at most alpha, ever.

**What is worse than Poisson.** Errors come in clumps: one dead node fails twenty requests. Three
things are taken off the evidence for that. Each can only lower it where it would prove anything
(Jensen: the mean of c^(1/d) is at most the mean of c to the 1/d), so the promise above stands.

* *Dispersion*: logarithms are divided by how much more than binomially the split of the errors
  between the versions varies from window to window (Pearson's chi-square; 1 when it does not).
  Clumps of up to d errors that fall on a version as a whole are covered exactly when divided by d.
* *Cap*: no window counts for more than half of what is needed (70% where windows are long).
* *Spread*: without its one or two strongest windows the evidence must still stand at 50% and 20%.

Cap and spread are waived for evidence that would suffice if all errors had come in clumps of
`MASSIVE`, and in checks too short for them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]

RATIO = ((1.4, 0.04), (2.0, 0.76), (5.0, 0.14), (25.0, 0.06))
"""Factors by which the ratio may be above the tolerance, and the stake on each. Most lies on twice
the tolerance, which is three times stable at 1.5: what is much worse is caught by any bet."""
RATE = ((1.5, 0.25), (2.5, 0.25), (6.0, 0.25), (20.0, 0.25))
"""Factors by which the odds of a bad event may be above what the SLO allows."""
RATIO_STAKE = 0.9
"""Part of the stake that lies on the comparison where there is an SLO to bet on as well."""
MASSIVE = 30.0
CAPS = (math.inf, 0.7, 0.5)
"""Part of the evidence needed that one window may bring, by how many it must do without."""
LONG_SECONDS = 90.0
"""From this length on two windows are enough to agree: three would be half the check."""
WITHOUT_BEST, WITHOUT_BEST_TWO = 0.5, 0.2
INCIDENT = 3.0
"""How many times as often as usual stable fails in an incident, chance aside."""
USUAL_WINDOWS = 8
"""Fewest windows that show what is usual."""
PRIOR_WINDOWS = 6.0
"""Windows' worth of belief, before any is seen, that errors do not come in clumps."""
LEAST_COUNT = 1e-9
"""Requests or events below which a count is none: the smallest doubles have no quotient."""
LEAST_SPREAD = 0.05
"""Least chance that an error falls on the other side: keeps a lone one from weighing too much."""
DISPERSION_DOUBT = 0.35
"""Standard errors by which the measured dispersion is taken to be smaller: chance alone makes it
exceed 1, which would cost half a minute of every detection."""


@dataclass(frozen=True)
class Counted:
    """Counts by window (last axis) of the judged version and of stable; zero where none count."""

    bad: Array
    total: Array
    base_bad: Array
    base_total: Array


@dataclass(frozen=True)
class Evidence:
    """What the bets have come to at each window."""

    log: Array
    """Natural logarithm of the e-value; -inf where there is nothing to bet on."""
    proven: Truth
    """Whether it is enough to fail the version."""
    lone: Truth
    """Whether it would be enough, were it not for one or two windows that carry it."""
    split: Array
    """Dispersion of the canary's share of the errors; 1 where it scatters as chance would."""
    own: Array
    """Dispersion of the version's own errors."""


def bet(
    counted: Counted,
    *,
    tolerance: float,
    allowed: Array,
    compared: Truth,
    limit: float,
    spread: int,
) -> Evidence:
    """Follow the bets on every series through its windows.

    `allowed` (rate of bad events; NaN: no SLO) and `compared` (is there a baseline) have the shape
    of the counts without the last axis. `limit` is the logarithm of the evidence needed, `spread`
    how many of the strongest windows the evidence must be able to do without (0, 1 or 2).
    """
    split = split_dispersion(counted)
    own = own_dispersion(counted)
    has_slo = ~np.isnan(allowed)
    on_ratio = np.where(compared, np.where(has_slo, RATIO_STAKE, 1.0), 0.0)
    on_rate = np.where(has_slo, np.where(compared, 1 - RATIO_STAKE, 1.0), 0.0)
    blamed = ~shared(counted, allowed, compared)
    bets = _Bets(counted.bad.shape, limit, spread)
    for factor, stake in RATIO:
        gains = ratio_gains(counted, tolerance, factor)
        bets.place(gains, split, _log((on_ratio * stake)[..., None]))
    slo = np.where(has_slo, allowed, 0.5)[..., None]
    for factor, stake in RATE:
        gains = rate_gains(counted, slo, factor)
        bets.place(gains, own, np.where(blamed, _log((on_rate * stake)[..., None]), -np.inf))
    return bets.evidence(split, own)


def spread_of(seconds: float, windows: int) -> int:
    """How many of the strongest windows the evidence must do without, in a check of so many
    windows of such a length."""
    return min(1 if seconds >= LONG_SECONDS else 2, max(0, windows - 1))


def ratio_gains(counted: Counted, tolerance: float, factor: float) -> Array:
    """Logarithm of what a bet on `factor * tolerance` against `tolerance` gains in each window."""
    both = counted.bad + counted.base_bad
    null = tolerance * counted.total + counted.base_total
    other = factor * tolerance * counted.total + counted.base_total
    ratio = np.divide(other, null, out=np.ones_like(null), where=null > 0)
    gains: Array = counted.bad * math.log(factor) - both * np.log(ratio)
    return gains


def rate_gains(counted: Counted, allowed: Array, factor: float) -> Array:
    """The same for a rate whose odds are `factor` times those of `allowed`.

    For a true rate q <= allowed < q1 the mean of one request's ratio,
    q q1/allowed + (1-q)(1-q1)/(1-allowed), is at most 1.
    """
    odds = factor * allowed / (1 - allowed)
    rate = odds / (1 + odds)
    good = counted.total - counted.bad
    gains: Array = counted.bad * np.log(rate / allowed) + good * np.log((1 - rate) / (1 - allowed))
    return gains


def shared(counted: Counted, allowed: Array, compared: Truth) -> Truth:
    """Whether, by each window, stable misses the SLO too, or is no better than the canary: then
    the SLO is no reason to blame the canary."""
    bad, total = np.cumsum(counted.bad, -1), np.cumsum(counted.total, -1)
    base_bad, base_total = np.cumsum(counted.base_bad, -1), np.cumsum(counted.base_total, -1)
    slo = np.where(np.isnan(allowed), 2.0, allowed)[..., None]  # 2: no rate is above it
    misses = base_bad > slo * base_total
    no_worse = bad * base_total <= base_bad * total
    found: Truth = compared[..., None] & (base_total > 0) & (misses | no_worse)
    return found


def split_dispersion(counted: Counted) -> Array:
    """How much more than binomially the split of the errors between the versions varies.

    In each window the canary's part of the errors is p = r n / (r n + s) by the ratio r of the
    rates, which is fitted to the windows so far (Mantel and Haenszel 1959: what moves both versions
    drops out). A canary that is steadily worse does not raise the dispersion, nor does a share of
    the traffic that wavers. Squared residuals are those of a recursive fit (Brown, Durbin and Evans
    1975): each window's is divided by the part of its own that the fit has not taken in.
    """
    bad, total, base_bad, base_total = (
        counted.bad,
        counted.total,
        counted.base_bad,
        counted.base_total,
    )
    both, requests = bad + base_bad, total + base_total
    counts = (both > LEAST_COUNT) & (total > LEAST_COUNT) & (base_total > LEAST_COUNT)
    requests = np.where(counts, requests, 1.0)
    mine = np.cumsum(np.where(counts, bad * base_total / requests, 0.0), -1)
    base = np.cumsum(np.where(counts, base_bad * total / requests, 0.0), -1)
    # Half an error of the canary's on either side: with none at all there is no ratio to fit.
    half = 0.5 * np.where(counts, total, 1.0) / requests
    ratio = (mine + half) / (base + half)
    part = ratio * total / np.where(counts, ratio * total + base_total, 1.0)
    variance = np.where(counts, both * part * np.maximum(1 - part, LEAST_SPREAD), 0.0)
    told = np.where(counts, both * total * base_total / requests**2, 0.0)
    known = np.cumsum(told, -1)
    fresh = np.divide(known - told, known, out=np.zeros_like(known), where=known > 0)
    scale = variance * fresh
    square = (bad - part * both) ** 2
    chi = np.cumsum(np.divide(square, scale, out=np.zeros_like(bad), where=scale > 0), -1)
    return _dispersion(chi, np.cumsum(counts, -1))


def own_dispersion(counted: Counted) -> Array:
    """How much more than binomially the version's errors vary between windows.

    Sum of (x - r n)^2 / (r n (1 - r)) over the windows so far, r fitted: Pearson's chi-square,
    multiplied out so that it needs running sums only.
    """
    bad, total = counted.bad, counted.total
    square = np.divide(bad * bad, total, out=np.zeros_like(bad), where=total > 0)
    squares, sum_bad, sum_total = (np.cumsum(one, -1) for one in (square, bad, total))
    seen = sum_bad > LEAST_COUNT
    rate = np.divide(sum_bad, sum_total, out=np.ones_like(bad), where=seen)
    chi = np.where(seen, squares / rate - sum_bad, 0.0) / np.maximum(1 - rate, LEAST_SPREAD)
    return _dispersion(chi, np.cumsum(total > 0, -1))


def calm(counted: Counted) -> Truth:
    """Windows in which stable fails no more than it usually does (its lower quartile); all others
    are an incident.

    In an incident both versions fail alike, and together such windows outweigh all others: what
    the canary adds by itself would drown. Stable alone is looked at, so leaving windows out can
    only make the canary look worse by comparison.
    """
    counts = (counted.total > 0) & (counted.base_total > 0)
    rate = np.divide(
        counted.base_bad,
        counted.base_total,
        out=np.full_like(counted.bad, np.inf),
        where=counts,
    )
    quarter = np.maximum((counts.sum(-1, keepdims=True) - 1) // 4, 0)
    usual = np.take_along_axis(np.sort(rate, -1), quarter, -1)
    expected = np.where(np.isfinite(usual), usual, 0.0) * counted.base_total
    most = INCIDENT * expected + 4 * np.sqrt(expected) + 4
    short = counts.sum(-1, keepdims=True) < USUAL_WINDOWS
    found: Truth = counts & (short | (counted.base_bad <= most))
    return found


def without_worst(counted: Counted) -> Counted:
    """Without the window in which the judged version has the most errors above its share.

    One burst spreads the split so much that dispersion hides what all other windows say.
    """
    requests = counted.total + counted.base_total
    share = np.divide(counted.total, requests, out=np.zeros_like(requests), where=requests > 0)
    excess = counted.bad - (counted.bad + counted.base_bad) * share
    kept = np.ones_like(counted.bad)
    np.put_along_axis(kept, excess.argmax(-1)[..., None], 0.0, -1)
    return Counted(
        counted.bad * kept,
        counted.total * kept,
        counted.base_bad * kept,
        counted.base_total * kept,
    )


def _dispersion(chi: Array, windows: NDArray[np.int_]) -> Array:
    """Chi-square over its degrees of freedom, shrunk towards 1 and never below it."""
    freedom = PRIOR_WINDOWS + np.maximum(windows - 1, 0.0)
    raw = (PRIOR_WINDOWS + chi) / freedom
    found: Array = np.maximum(1.0, raw * (1 - DISPERSION_DOUBT * np.sqrt(2 / freedom)))
    return found


class _Bets:
    """Adds up the bets on all alternatives."""

    def __init__(self, shape: tuple[int, ...], limit: float, spread: int) -> None:
        self._limit = limit
        self._spread = spread
        self._sum = np.full(shape, -np.inf)
        self._massive = np.full(shape, -np.inf)
        self._lean = [np.full(shape, -np.inf) for _ in range(spread)]

    def place(self, gains: Array, dispersion: Array, log_stake: Array) -> None:
        """Take in one alternative: gains by window, and the logarithm of the stake on it."""
        needed = self._limit - np.where(np.isfinite(log_stake), log_stake, 0.0)
        massive = np.cumsum(gains, -1) / np.maximum(dispersion, MASSIVE)
        self._massive = np.maximum(self._massive, log_stake + massive)
        if self._spread:
            gains = np.minimum(gains, CAPS[self._spread] * self._limit)
        grown = np.cumsum(gains, -1)
        self._sum = np.logaddexp(self._sum, log_stake + grown / dispersion)
        best = np.maximum.accumulate(np.maximum(gains, 0.0), -1)
        alive = np.isfinite(log_stake)
        for depth in range(self._spread):
            grown = grown - best
            share = np.where(alive, grown / dispersion / needed, -np.inf)
            self._lean[depth] = np.maximum(self._lean[depth], share)
            best = _second(gains, best)

    def evidence(self, split: Array, own: Array) -> Evidence:
        """What all of them together say."""
        floors = (WITHOUT_BEST, WITHOUT_BEST_TWO)[: self._spread]
        spread = np.ones(self._sum.shape, dtype=np.bool_)
        for lean, floor in zip(self._lean, floors, strict=True):
            spread &= lean >= floor
        enough = self._sum >= self._limit
        massive = self._massive >= self._limit
        return Evidence(
            log=np.maximum(self._sum, self._massive),
            proven=(enough & spread) | massive,
            lone=enough & ~spread & ~massive,
            split=split,
            own=own,
        )


def _second(gains: Array, best: Array) -> Array:
    """The second largest gain so far, given the largest so far."""
    before = np.concatenate([np.zeros_like(best[..., :1]), best[..., :-1]], -1)
    second: Array = np.maximum.accumulate(np.minimum(before, np.maximum(gains, 0.0)), -1)
    return second


def _log(value: Array) -> Array:
    return np.log(value, out=np.full(value.shape, -np.inf), where=value > 0)
