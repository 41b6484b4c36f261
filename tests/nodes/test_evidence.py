"""Exact bounds against sums over the binomial distribution."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from nodes.evidence import (
    incomplete_beta,
    lower_rate,
    lower_ratio,
    upper_rate,
    upper_ratio,
    within,
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


def test_lower_bound_of_the_ratio_is_the_upper_one_seen_from_the_other_side() -> None:
    lower = lower_ratio(12, 300, 20, 2700, 0.9)
    assert lower == pytest.approx(1 / upper_ratio(20, 2700, 12, 300, 0.9))
    assert lower_ratio(0, 300, 20, 2700, 0.9) == 0.0


def test_arrays_of_bounds_say_what_the_bounds_one_by_one_say() -> None:
    rng = random.Random(3)
    totals = [rng.randint(1, 5000) for _ in range(300)]
    bads = [rng.randint(0, total) if rng.random() < 0.3 else rng.randint(0, 9) for total in totals]
    bads = [min(bad, total) for bad, total in zip(bads, totals, strict=True)]
    limits = [10 ** rng.uniform(-4, 0) for _ in totals]
    bad_array, total_array, limit_array = (
        np.array(one, dtype=np.float64) for one in (bads, totals, limits)
    )
    said = within(bad_array, total_array, limit_array, 0.9)
    for bad, total, limit, one in zip(bads, totals, limits, said.tolist(), strict=True):
        bound = upper_rate(bad, total, 0.9)
        assert abs(bound - limit) < 1e-8 or one == (bound <= limit)
