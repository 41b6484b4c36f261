"""The promise of the bets, outcome by outcome, and what clumps of errors do to them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nodes.betting import (
    RATE,
    RATIO,
    Counted,
    bet,
    calm,
    own_dispersion,
    rate_gains,
    ratio_gains,
    split_dispersion,
)

LIMIT = math.log(100)


def rows(*windows: tuple[float, float, float, float]) -> Counted:
    """One series; each window as bad, total, stable's bad, stable's total."""
    return Counted(*(np.array([column], dtype=np.float64) for column in zip(*windows, strict=True)))


def evidence_at_the_end(counted: Counted, spread: int = 0) -> float:
    found = bet(
        counted,
        tolerance=1.5,
        allowed=np.array([math.nan]),
        compared=np.array([True]),
        limit=LIMIT,
        spread=spread,
    )
    return math.exp(float(found.log[0, -1]))


def binomial(count: int, total: int, rate: float) -> float:
    return math.comb(total, count) * rate**count * (1 - rate) ** (total - count)


@pytest.mark.parametrize("factor", [factor for factor, _ in RATIO])
@pytest.mark.parametrize(
    ("rate", "total", "base_total"), [(0.02, 12, 30), (0.3, 8, 20), (0.6, 6, 6)]
)
def test_a_bet_on_the_ratio_gains_nothing_on_average_at_the_edge_of_the_tolerance(
    factor: float, rate: float, total: int, base_total: int
) -> None:
    # Exactly, over all outcomes of two independent binomials with a ratio of 1.5.
    mean = 0.0
    for x in range(total + 1):
        for y in range(base_total + 1):
            gained = ratio_gains(rows((x, total, y, base_total)), 1.5, factor)[0, 0]
            chance = binomial(x, total, 1.5 * rate) * binomial(y, base_total, rate)
            mean += chance * math.exp(gained)
    assert 0 < mean <= 1 + 1e-9


def test_the_stakes_on_all_alternatives_are_one_stake() -> None:
    assert sum(stake for _, stake in RATIO) == pytest.approx(1)
    assert sum(stake for _, stake in RATE) == pytest.approx(1)


@pytest.mark.parametrize("factor", [factor for factor, _ in RATE])
def test_a_bet_on_the_rate_gains_nothing_at_the_allowed_rate_and_loses_below(factor: float) -> None:
    def mean(rate: float) -> float:
        return sum(
            binomial(x, 40, rate)
            * math.exp(rate_gains(rows((x, 40, 0, 0)), np.array([[0.05]]), factor)[0, 0])
            for x in range(41)
        )

    assert mean(0.05) == pytest.approx(1.0)
    assert mean(0.02) < 1.0
    assert mean(0.15) > 5.0


def test_the_evidence_is_the_mean_of_binomial_likelihood_ratios() -> None:
    # Written out from the definition: the canary's part of the bad events against its part of the
    # traffic weighted by the rate ratio, for each alternative.
    bad, total, base_bad, base_total, tolerance = 6, 300, 4, 2700, 1.5

    def part(ratio: float) -> float:
        return ratio * total / (ratio * total + base_total)

    expected = 0.0
    for factor, stake in RATIO:
        p0, p1 = part(tolerance), part(factor * tolerance)
        expected += stake * (p1 / p0) ** bad * ((1 - p1) / (1 - p0)) ** base_bad
    found = evidence_at_the_end(rows((bad, total, base_bad, base_total)))
    assert found == pytest.approx(expected)


def test_evidence_does_not_depend_on_how_the_events_are_cut_into_windows() -> None:
    whole = evidence_at_the_end(rows((30, 300, 20, 2700)))
    parts = evidence_at_the_end(rows(*[(3, 30, 2, 270)] * 10))
    assert parts == pytest.approx(whole)


def test_a_window_of_nothing_changes_nothing() -> None:
    with_hole = rows((3, 60, 2, 540), (0, 0, 0, 0), (3, 60, 2, 540))
    without = rows((3, 60, 2, 540), (3, 60, 2, 540))
    assert evidence_at_the_end(with_hole, 2) == pytest.approx(evidence_at_the_end(without, 2))


@pytest.mark.parametrize("tiny", [5e-324, 1e-310, 1e-200])
@pytest.mark.parametrize("place", range(1, 16))
@pytest.mark.filterwarnings("error")
def test_counts_too_small_to_be_divided_are_none(tiny: float, place: int) -> None:
    counts = [tiny if place >> index & 1 else usual for index, usual in enumerate((3, 90, 5, 800))]
    bad, total, base_bad, base_total = counts
    window = (min(bad, total), total, min(base_bad, base_total), base_total)
    for counted in (rows(window), rows(window, window), rows((1, 90, 4, 800), window)):
        for found in (split_dispersion(counted), own_dispersion(counted)):
            assert np.isfinite(found).all()
            assert (found >= 1).all()
        assert not math.isnan(evidence_at_the_end(counted))


def test_a_canary_that_is_steadily_worse_is_not_taken_for_one_that_scatters() -> None:
    steady = rows(*[(9, 600, 11, 5400)] * 12)
    assert split_dispersion(steady)[0, -1] == 1.0


def test_a_share_of_the_traffic_that_wavers_is_not_taken_for_scatter_of_the_split() -> None:
    # Nearly all errors are the canary's own, so its part of them hardly depends on its share.
    bad = rows((36, 430, 2, 4100), (31, 360, 2, 4600), (41, 500, 2, 3500))
    assert split_dispersion(bad)[0, -1] == 1.0
    assert proven(bad)


def test_what_moves_both_versions_is_not_taken_for_scatter_of_the_split() -> None:
    shared = rows(*[(2 * k, 600, 18 * k, 5400) for k in (1, 9, 1, 30, 2, 15, 1, 1, 25, 3)])
    assert split_dispersion(shared)[0, -1] == 1.0
    assert own_dispersion(shared)[0, -1] > 5


def test_clumps_of_errors_raise_the_dispersion_about_to_their_size() -> None:
    rng = np.random.default_rng(5)
    size, shape = 6, (1, 400)
    canary, stable = size * rng.poisson(2.0, shape), size * rng.poisson(18.0, shape)
    counted = Counted(
        canary.astype(np.float64),
        np.full(shape, 600.0),
        stable.astype(np.float64),
        np.full(shape, 5400.0),
    )
    assert split_dispersion(counted)[0, -1] == pytest.approx(size, rel=0.2)


def proven(counted: Counted, spread: int = 2) -> bool:
    found = bet(
        counted,
        tolerance=1.5,
        allowed=np.array([math.nan]),
        compared=np.array([True]),
        limit=LIMIT,
        spread=spread,
    )
    return bool(found.proven.any())


def test_one_window_proves_nothing_unless_it_is_massive() -> None:
    calm, burst = (1.0, 600.0, 10.0, 5400.0), (25.0, 600.0, 10.0, 5400.0)
    assert not proven(rows(burst, *[calm] * 9))
    assert not proven(rows(*[calm] * 5, burst, *[calm] * 5))
    assert proven(rows(burst, burst, burst))
    assert proven(rows((25, 600, 10, 5400)), spread=0)
    assert proven(rows((400, 600, 10, 5400)))


def test_a_lone_window_that_would_be_enough_is_told_apart() -> None:
    found = bet(
        rows((9, 600, 10, 5400), (9, 600, 10, 5400), (4, 600, 10, 5400)),
        tolerance=1.5,
        allowed=np.array([math.nan]),
        compared=np.array([True]),
        limit=LIMIT,
        spread=2,
    )
    assert not found.proven.any()
    assert bool(found.lone[0, -1])


def test_what_stands_at_a_window_does_not_depend_on_later_ones() -> None:
    rng = np.random.default_rng(9)
    shape = (40, 25)
    total, base_total = rng.poisson(300, shape), rng.poisson(2700, shape)
    bad, base_bad = rng.binomial(total, 0.01), rng.binomial(base_total, 0.004)
    whole = [one.astype(np.float64) for one in (bad, total, base_bad, base_total)]

    def asked(upto: int) -> tuple[np.ndarray, np.ndarray]:
        found = bet(
            Counted(*(one[:, :upto] for one in whole)),
            tolerance=1.5,
            allowed=np.full(40, 0.008),
            compared=np.ones(40, dtype=np.bool_),
            limit=LIMIT,
            spread=2,
        )
        return found.log, found.proven

    log, proof = asked(25)
    assert proof.any()
    for upto in (1, 2, 9, 17):
        some, part = asked(upto)
        np.testing.assert_allclose(some, log[:, :upto])
        assert (part == proof[:, :upto]).all()


def test_an_incident_is_told_from_the_usual_by_stable_alone() -> None:
    usual, incident = (1.0, 600.0, 11.0, 5400.0), (60.0, 600.0, 540.0, 5400.0)
    quiet = calm(rows(*[usual] * 5, *[incident] * 6, *[usual] * 5))
    assert quiet[0].tolist() == [True] * 5 + [False] * 6 + [True] * 5
    canary_alone = (60.0, 600.0, 11.0, 5400.0)
    assert calm(rows(*[usual] * 8, *[canary_alone] * 4)).all()


def test_a_few_windows_do_not_show_what_is_usual() -> None:
    assert calm(rows((1, 600, 0, 5400), (1, 600, 8, 5400), (1, 600, 0, 5400))).all()
