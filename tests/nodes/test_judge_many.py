"""Ten thousand canaries at once, and that each is judged as it would be alone."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.judge_traffic import KINDS, Streams, errors, requests
from domain.verdict import Counts, MetricWindow, VerdictKind
from nodes.betting import Counted
from nodes.judge import WORST_FIRST, JudgeConfig, judge
from nodes.judge_many import Many, judge_many

START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
FAIL = VerdictKind.FAIL


def judged(streams: Streams, allowed: float = math.nan) -> Many:
    columns = (streams.bad, streams.total, streams.base_bad, streams.base_total)
    return judge_many(
        Counted(*(one[:, None, :] for one in columns)),
        allowed=np.array([allowed]),
        config=JudgeConfig(),
        seconds=60.0,
    )


def share_failed(streams: Streams, allowed: float = math.nan) -> float:
    return float(judged(streams, allowed).are(FAIL).mean())


# --- how often it is right -----------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0005, 0.002, 0.02])
@pytest.mark.parametrize("rpm", [300, 6000])
def test_ten_thousand_canaries_at_the_edge_of_the_tolerance_are_failed_at_most_as_promised(
    rate: float, rpm: int
) -> None:
    rng = np.random.default_rng(17)
    total, base_total = requests(rng, 10_000, rpm)
    bad, base_bad = errors(rng, total, 1.5 * rate), errors(rng, base_total, rate)
    # Ville's inequality promises 1% at most, whatever the traffic; no allowance for chance needed.
    assert share_failed(Streams(bad, total, base_bad, base_total)) <= 0.01


@pytest.mark.parametrize("kind", list(KINDS))
def test_ten_thousand_good_canaries_are_hardly_ever_failed_whatever_the_traffic(kind: str) -> None:
    rng = np.random.default_rng(23)
    for rpm in (300, 6000):
        assert share_failed(KINDS[kind](rng, 5_000, rpm, 1.0)) <= 0.01


@pytest.mark.parametrize("rpm", [300, 6000])
def test_canaries_at_the_very_rate_that_the_slo_allows_are_hardly_ever_failed(rpm: int) -> None:
    rng = np.random.default_rng(29)
    total, base_total = requests(rng, 5_000, rpm)
    bad, base_bad = errors(rng, total, 0.01), errors(rng, base_total, 0.008)
    assert share_failed(Streams(bad, total, base_bad, base_total), allowed=0.01) <= 0.01


def test_incidents_that_both_versions_suffer_fail_no_more_than_a_calm_day_does() -> None:
    rng = np.random.default_rng(31)
    for rpm in (30, 300, 6000):
        streams = KINDS["shared incident"](rng, 3_000, rpm, 1.0)
        assert share_failed(streams) <= 0.001
        assert share_failed(streams, allowed=0.01) <= 0.001


def test_errors_times_three_at_six_thousand_a_minute_are_caught_within_eleven_minutes() -> None:
    rng = np.random.default_rng(37)
    found = judged(KINDS["Poisson"](rng, 4_000, 6000, 3.0))
    assert found.are(FAIL).mean() >= 0.95
    minutes = np.where(found.are(FAIL), found.decided_at + 1, np.inf)
    assert np.median(minutes) <= 11


def test_long_windows_cost_time_and_not_the_verdict() -> None:
    rng = np.random.default_rng(47)
    total, base_total = (rng.poisson(5 * mean, (2_000, 12)) for mean in (600, 5400))
    for times, least, most in ((1.0, 0.0, 0.01), (3.0, 0.95, 1.0)):
        bad, base_bad = rng.binomial(total, 0.002 * times), rng.binomial(base_total, 0.002)
        columns = (bad, total, base_bad, base_total)
        found = judge_many(
            Counted(*(one[:, None, :].astype(np.float64) for one in columns)),
            allowed=np.array([math.nan]),
            config=JudgeConfig(),
            seconds=300.0,
        )
        assert least <= found.are(FAIL).mean() <= most


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_where_power_lacks_nothing_passes(times: float) -> None:
    rng = np.random.default_rng(41)
    for rpm in (30, 300):
        found = judged(KINDS["Poisson"](rng, 2_000, rpm, times))
        assert found.are(VerdictKind.PASS).mean() <= 0.001
        assert found.are(VerdictKind.INCONCLUSIVE).mean() >= 0.9


def test_a_canary_three_times_as_bad_does_not_pass_behind_an_incident() -> None:
    rng = np.random.default_rng(43)
    for rpm in (30, 300, 6000):
        found = judged(KINDS["shared incident"](rng, 2_000, rpm, 3.0))
        assert found.are(VerdictKind.PASS).mean() <= 0.02


# --- that both say the same ----------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 100_000),
    rpm=st.sampled_from([5.0, 60.0, 600.0, 6000.0]),
    times=st.sampled_from([0.5, 1.0, 3.0, 12.0, 200.0]),
    kind=st.sampled_from(list(KINDS)),
    allowed=st.sampled_from([math.nan, 0.004, 0.01]),
    windows=st.integers(1, 30),
    metrics=st.integers(1, 3),
    compared=st.booleans(),
    seconds=st.sampled_from([20.0, 60.0, 120.0]),
    broken=st.sampled_from([None, -5.0, math.nan, 1e6]),
)
def test_the_judge_of_many_says_what_the_judge_of_one_says(
    seed: int, rpm: float, times: float, kind: str, allowed: float, windows: int, metrics: int,
    compared: bool, seconds: float, broken: float | None,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    streams = KINDS[kind](rng, metrics, rpm, times)
    bad, total, base_bad, base_total = (
        one[:, :windows].copy()
        for one in (streams.bad, streams.total, streams.base_bad, streams.base_total)
    )
    if broken is not None:
        bad[0, windows // 2] = broken
    if not compared:
        base_bad[:], base_total[:] = 0.0, 0.0
    found = judge_many(
        Counted(bad[None], total[None], base_bad[None], base_total[None]),
        allowed=np.full(metrics, allowed),
        config=JudgeConfig(),
        seconds=seconds,
        compared=compared,
    )
    rows = [
        MetricWindow(
            start=START + timedelta(seconds=at * seconds),
            seconds=seconds,
            metric=f"m{metric}",
            kind="errors",
            canary=Counts(bad=float(bad[metric, at]), total=float(total[metric, at])),
            stable=Counts(bad=float(base_bad[metric, at]), total=float(base_total[metric, at]))
            if compared
            else None,
        )
        for at in range(windows)
        for metric in range(metrics)
    ]
    objective = None if math.isnan(allowed) else 1 - allowed
    alone = judge(
        rows,
        objectives={f"m{metric}": objective for metric in range(metrics)},
        config=JudgeConfig(),
        final=True,
    )
    assert WORST_FIRST[int(found.kinds[0])] is alone.kind, alone.reason
    decided = [one.decided_at for one in alone.metrics if one.decided_at is not None]
    when = int(found.decided_at[0])
    assert (when < 0) == (not decided)
    if decided:
        assert START + timedelta(seconds=when * seconds) == min(decided)
