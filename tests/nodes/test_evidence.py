"""Exact bounds against sums over the binomial distribution, and the promise of the e-processes."""

from __future__ import annotations

import math
import random

import pytest

from nodes.evidence import (
    RATIO_ALTERNATIVES,
    RateEvidence,
    RatioEvidence,
    incomplete_beta,
    lower_rate,
    upper_rate,
    upper_ratio,
)


def at_most(bad: int, total: int, rate: float) -> float:
    """P(X <= bad) for a binomial X, summed term by term."""
    return math.fsum(
        math.comb(total, k) * rate**k * (1 - rate) ** (total - k) for k in range(bad + 1)
    )


@pytest.mark.parametrize(
    ("bad", "total"), [(0, 1), (0, 300), (1, 540), (7, 20), (30, 900), (99, 100)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.999])
def test_upper_bound_is_the_rate_at_which_so_few_would_be_that_unlikely(
    bad: int, total: int, confidence: float
) -> None:
    bound = upper_rate(bad, total, confidence)
    assert at_most(bad, total, bound) == pytest.approx(1 - confidence, rel=1e-6)


@pytest.mark.parametrize(("bad", "total"), [(1, 1), (1, 540), (7, 20), (30, 900), (100, 100)])
def test_lower_bound_is_the_rate_at_which_so_many_would_be_that_unlikely(
    bad: int, total: int
) -> None:
    bound = lower_rate(bad, total, 0.95)
    assert 1 - at_most(bad - 1, total, bound) == pytest.approx(0.05, rel=1e-6)


def test_bounds_say_nothing_where_nothing_was_seen() -> None:
    assert upper_rate(0, 0, 0.9) == 1.0
    assert lower_rate(0, 0, 0.9) == 0.0
    assert lower_rate(0, 1000, 0.9) == 0.0
    assert upper_rate(5, 5, 0.9) == 1.0
    assert upper_ratio(5, 100, 0, 1000, 0.9) == math.inf


def test_ratio_bound_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = random.Random(7)
    covered = 0
    for _ in range(1000):
        canary = sum(rng.random() < 0.06 for _ in range(200))
        stable = sum(rng.random() < 0.03 for _ in range(800))
        covered += upper_ratio(canary, 200, stable, 800, 0.9) >= 2.0
    # Exact bounds are conservative: at least the nominal 90%, minus three standard errors.
    assert covered >= 1000 * 0.9 - 3 * math.sqrt(1000 * 0.09)


def test_incomplete_beta_keeps_its_digits_for_millions_of_events() -> None:
    # The median of a Beta is within (a-1)/(a+b-2) and a/(a+b).
    assert incomplete_beta(1e6 / 1e8, 1e6, 1e8 - 1e6) == pytest.approx(0.5, abs=1e-3)


def test_ratio_evidence_has_a_mean_of_at_most_one_at_the_edge_of_the_tolerance() -> None:
    # Exactly, over all outcomes of two independent binomials with a ratio of 1.5.
    for rate, canary_total, stable_total in ((0.02, 12, 30), (0.3, 8, 20), (0.6, 6, 6)):
        mean = 0.0
        for x in range(canary_total + 1):
            for y in range(stable_total + 1):
                evidence = RatioEvidence(1.5)
                evidence.add(x, canary_total, y, stable_total)
                chance = (
                    math.comb(canary_total, x)
                    * (1.5 * rate) ** x
                    * (1 - 1.5 * rate) ** (canary_total - x)
                    * math.comb(stable_total, y)
                    * rate**y
                    * (1 - rate) ** (stable_total - y)
                )
                mean += chance * math.exp(evidence.log)
        assert 0 < mean <= 1 + 1e-9


def test_ratio_evidence_is_the_mean_of_binomial_likelihood_ratios() -> None:
    # Written out from the definition: the canary's part of the bad events against its part of the
    # traffic weighted by the rate ratio, for each alternative.
    bad, total, base_bad, base_total, tolerance = 6, 300, 4, 2700, 1.5

    def part(ratio: float) -> float:
        return ratio * total / (ratio * total + base_total)

    expected = 0.0
    for factor in RATIO_ALTERNATIVES:
        p0, p1 = part(tolerance), part(factor * tolerance)
        ratio = (p1 / p0) ** bad * ((1 - p1) / (1 - p0)) ** base_bad
        expected += ratio / len(RATIO_ALTERNATIVES)
    evidence = RatioEvidence(tolerance)
    evidence.add(bad, total, base_bad, base_total)
    assert math.exp(evidence.log) == pytest.approx(expected)


def test_rate_evidence_has_a_mean_of_one_at_the_allowed_rate_and_less_below() -> None:
    def mean(rate: float) -> float:
        total = 0.0
        for x in range(41):
            evidence = RateEvidence(0.05)
            evidence.add(x, 40)
            chance = math.comb(40, x) * rate**x * (1 - rate) ** (40 - x)
            total += chance * math.exp(evidence.log)
        return total

    assert mean(0.05) == pytest.approx(1.0)
    assert mean(0.02) < 1.0
    assert mean(0.15) > 10.0


def test_evidence_does_not_depend_on_how_the_events_are_cut_into_windows() -> None:
    whole, parts = RatioEvidence(1.5), RatioEvidence(1.5)
    whole.add(30, 300, 20, 2700)
    for _ in range(10):
        parts.add(3, 30, 2, 270)
    assert parts.log == pytest.approx(whole.log)
