"""Exact bounds of rates and of ratios of rates, as the judge states them at the end of a check.

They are Clopper and Pearson's (1934), through the regularized incomplete beta function, which also
takes the fractional counts that Prometheus extrapolates to.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Truth = NDArray[np.bool_]

LARGEST_LOG = 690.0
"""Evidence is capped at e^690, short of the largest float."""


def evidence_of(log: float) -> float:
    """The evidence of a logarithm, finite whatever the counts were."""
    return math.exp(min(log, LARGEST_LOG))


def upper_rate(bad: float, total: float, confidence: float) -> float:
    """One-sided Clopper-Pearson upper bound of a rate: 1 where there are no events."""
    if total <= 0 or bad >= total:
        return 1.0
    return beta_quantile(confidence, bad + 1, total - bad)


def lower_rate(bad: float, total: float, confidence: float) -> float:
    """One-sided Clopper-Pearson lower bound of a rate: 0 where there are no bad events."""
    if total <= 0 or bad <= 0:
        return 0.0
    return beta_quantile(1 - confidence, bad, total - bad + 1)


def upper_ratio(
    bad: float, total: float, base_bad: float, base_total: float, confidence: float
) -> float:
    """One-sided upper bound of the ratio of two rates, infinite without bad events on the base.

    Conditional on the sum of the bad events the version's part is binomial with
    p = r n / (r n + s) (Przyborowski and Wilenski, 1940); the Clopper-Pearson bound of p is solved
    for r. For Bernoulli events the part varies less than that, so the bound errs on the safe side.
    """
    if base_bad <= 0 or base_total <= 0 or total <= 0:
        return math.inf
    share = upper_rate(bad, bad + base_bad, confidence)
    return math.inf if share >= 1 else share / (1 - share) * base_total / total


def lower_ratio(
    bad: float, total: float, base_bad: float, base_total: float, confidence: float
) -> float:
    """One-sided lower bound of the ratio of two rates, by the same reasoning."""
    if bad <= 0 or base_total <= 0 or total <= 0:
        return 0.0
    share = lower_rate(bad, bad + base_bad, confidence)
    return share / (1 - share) * base_total / total


@lru_cache(maxsize=1024)  # a bound is asked for when judging, and again when it is put in words
def beta_quantile(probability: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = probability, to 9 digits, by Newton with bisection to fall back on."""
    low, high = 0.0, 1.0
    x = _inside(a / (a + b))
    log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    for _ in range(200):
        miss = incomplete_beta(x, a, b) - probability
        if miss > 0:
            high = x
        else:
            low = x
        slope = math.exp(log_scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x))
        step = x - miss / slope if slope > 0 else low
        following = _inside(step if low < step < high else (low + high) / 2)
        if abs(following - x) <= 1e-10 * min(following, 1 - following):
            return following
        x = following
    return x


def _inside(x: float) -> float:
    """Keep off 0 and 1, where the density may be infinite."""
    return min(max(x, 1e-300), 1 - 2.0**-53)


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Regularized incomplete beta function I_x(a, b) for a, b > 0.

    Continued fraction of Abramowitz and Stegun 26.5.8 evaluated by Lentz's method, on the side of
    (a+1)/(a+b+2) where it converges fast.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(x, a, b) / a
    return 1 - front * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    value = d
    # Terms needed grow with the square root of the larger parameter.
    for m in range(1, 200 + 5 * math.isqrt(int(max(a, b)))):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 + term * d
            d = 1 / (d if abs(d) > tiny else tiny)
            c = 1 + term / c
            c = c if abs(c) > tiny else tiny
            value *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    return value


def within(bad: Array, total: Array, limit: Array, confidence: float) -> Truth:
    """Whether `upper_rate(bad, total, confidence) <= limit`, for arrays, without solving for it:
    the bound is within the limit where I_limit(bad+1, total-bad) has reached the confidence. It is
    never below the rate itself, which spares most of the work."""
    found: Truth = limit >= 1
    asked = ~found & (total > 0) & (bad < total) & (bad <= limit * total)
    if asked.any():
        x, a, b = limit[asked], bad[asked] + 1, total[asked] - bad[asked]
        found[asked] = incomplete_betas(x, a, b) >= confidence
    return found


def lower_beyond(bad: Array, total: Array, limit: Array, confidence: float) -> Truth:
    """Whether `lower_rate(bad, total, confidence) > limit`, likewise; nothing is beyond NaN."""
    asked: Truth = (total > 0) & (bad > limit * total) & (limit > 0) & (limit < 1)
    found = np.zeros_like(asked)
    if asked.any():
        x, a, b = limit[asked], bad[asked], total[asked] - bad[asked] + 1
        found[asked] = incomplete_betas(x, a, b) < 1 - confidence
    return found


def incomplete_betas(x: Array, a: Array, b: Array) -> Array:
    """`incomplete_beta` for arrays."""
    front = np.exp(
        _lgamma(a + b) - _lgamma(a) - _lgamma(b) + a * np.log(_open(x)) + b * np.log1p(-_open(x))
    )
    lower = x < (a + 1) / (a + b + 2)
    value = _fractions(np.where(lower, x, 1 - x), np.where(lower, a, b), np.where(lower, b, a)) * (
        front / np.where(lower, a, b)
    )
    inside: Array = np.where(lower, value, 1 - value)
    return np.where(x <= 0, 0.0, np.where(x >= 1, 1.0, inside))


def _open(x: Array) -> Array:
    return np.clip(x, 1e-300, 1 - 2.0**-53)


def _lgamma(x: Array) -> Array:
    flat = [math.lgamma(one) for one in x.ravel().tolist()]
    return np.array(flat, dtype=np.float64).reshape(x.shape)


def _fractions(x: Array, a: Array, b: Array) -> Array:
    tiny = 1e-300
    c = np.ones_like(x)
    d = 1 - (a + b) * x / (a + 1)
    d = 1 / np.where(np.abs(d) > tiny, d, tiny)
    value = d.copy()
    most = int(max(np.max(a, initial=1.0), np.max(b, initial=1.0)))
    for m in range(1, 200 + 5 * math.isqrt(most)):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 + term * d
            d = 1 / np.where(np.abs(d) > tiny, d, tiny)
            c = 1 + term / c
            c = np.where(np.abs(c) > tiny, c, tiny)
            value *= d * c
        if np.all(np.abs(d * c - 1) < 1e-14):
            break
    return value
