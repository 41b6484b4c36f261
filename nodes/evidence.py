"""The statistics of the judge: evidence that may be looked at any time, and exact bounds.

An *e-process* is a running number that starts at 1 and, as long as the null hypothesis is true, is
expected never to grow. By Ville's inequality it reaches 1/alpha with a probability of at most alpha
over the whole of time, so one may look after every window and stop at will without raising more
false alarms than alpha (Ramdas, Grünwald, Vovk and Shafer: "Game-theoretic statistics and safe
anytime-valid inference", 2023). The bounds at the end are Clopper and Pearson's (1934), through the
regularized incomplete beta function, which also takes the fractional counts that Prometheus
extrapolates to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

RATIO_ALTERNATIVES = (1.4, 2.0, 3.5, 7.0, 20.0, 70.0)
"""By what factor a rate ratio may be above the tolerance; evidence is the mean over all of these.
With a tolerance of 1.5 that is from 2.1 to 105 times worse than stable."""
RATE_ALTERNATIVES = (1.5, 2.0, 4.0, 10.0, 30.0)
"""By what factor the odds of a bad event may be above what is allowed."""
_LOG_FACTORS = tuple(math.log(factor) for factor in RATIO_ALTERNATIVES)
LARGEST_LOG = 690.0
"""Evidence is capped at e^690, short of the largest float."""


class RatioEvidence:
    """Evidence that one version's rate of bad events is more than `tolerance` times another's.

    For a window with `x` bad of `n` on the canary and `y` bad of `s` on stable, the likelihood
    ratio of rate ratio r1 against r0 = `tolerance`, given x + y, is

        (p1/p0)^x ((1-p1)/(1-p0))^y     with p_i = r_i n / (r_i n + s).

    It is an e-value although bad events are Bernoulli and not Poisson: with a = p1/p0 and
    b = (1-p1)/(1-p0) its mean is (1+q_c(a-1))^n (1+q_s(b-1))^s, and since ln(1+z) <= z and a > 1
    its logarithm is at most q_c n (a-1) + q_s s (b-1) <= q_s (r0 n (a-1) + s (b-1)) = 0 whenever
    q_c <= r0 q_s. That holds whatever the common rate q_s is in a window, so an incident that both
    versions suffer cancels out.
    """

    __slots__ = ("_logs", "_tolerance")

    def __init__(self, tolerance: float) -> None:
        """`tolerance` is the largest rate ratio that is still fine, above 0."""
        self._tolerance = tolerance
        self._logs = [0.0] * len(RATIO_ALTERNATIVES)

    def add(self, bad: float, total: float, base_bad: float, base_total: float) -> None:
        """Take in one window: the version's events, then the baseline's."""
        both = bad + base_bad
        if both <= 0:
            return
        r0 = self._tolerance
        null = r0 * total + base_total
        for index, factor in enumerate(RATIO_ALTERNATIVES):
            alternative = factor * r0 * total + base_total
            self._logs[index] += bad * _LOG_FACTORS[index] - both * math.log(alternative / null)

    @property
    def log(self) -> float:
        """Natural logarithm of the evidence so far (0: none either way)."""
        return _log_mean(self._logs)

    @property
    def peak(self) -> float:
        """Logarithm of the strongest alternative: a cheap upper bound of `log`."""
        return max(self._logs)


class RateEvidence:
    """Evidence that a rate of bad events is above `allowed`, from Bernoulli likelihood ratios.

    Alternatives multiply the odds, so they stay below 1. For a true rate q <= allowed < q1 the mean
    of one trial's ratio, q q1/allowed + (1-q)(1-q1)/(1-allowed), is at most 1.
    """

    __slots__ = ("_logs", "_steps")

    def __init__(self, allowed: float) -> None:
        """`allowed` is a rate strictly between 0 and 1."""
        odds = allowed / (1 - allowed)
        rates = [factor * odds / (1 + factor * odds) for factor in RATE_ALTERNATIVES]
        self._steps = [(math.log(q / allowed), math.log((1 - q) / (1 - allowed))) for q in rates]
        self._logs = [0.0] * len(rates)

    def add(self, bad: float, total: float) -> None:
        """Take in one window."""
        good = total - bad
        for index, (per_bad, per_good) in enumerate(self._steps):
            self._logs[index] += bad * per_bad + good * per_good

    @property
    def log(self) -> float:
        """Natural logarithm of the evidence so far."""
        return _log_mean(self._logs)

    @property
    def peak(self) -> float:
        """Logarithm of the strongest alternative: a cheap upper bound of `log`."""
        return max(self._logs)


def log_mean_of_two(left: float, right: float) -> float:
    """Logarithm of the mean of e^left and e^right: the mean of two e-values is an e-value."""
    return _log_mean((left, right))


def evidence_of(log: float) -> float:
    """The evidence of a logarithm, finite whatever the counts were."""
    return math.exp(min(log, LARGEST_LOG))


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(one - top) for one in logs) / len(logs))


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
