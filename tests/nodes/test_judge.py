"""What the judge says of canaries whose truth is known."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.verdict import Counts, Gap, MetricWindow, Verdict, VerdictKind
from nodes.judge import JudgeConfig, judge

START = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
SECONDS = 30.0
OBJECTIVES = {"errors": 0.99, "latency": 0.95}
PASS, FAIL = VerdictKind.PASS, VerdictKind.FAIL
INCONCLUSIVE, NODATA, ERROR = VerdictKind.INCONCLUSIVE, VerdictKind.NODATA, VerdictKind.ERROR


def window(
    index: int,
    canary: tuple[float, float] | None,
    stable: tuple[float, float] | None = None,
    *,
    metric: str = "errors",
    gap: Gap | None = None,
) -> MetricWindow:
    return MetricWindow(
        start=START + timedelta(seconds=index * SECONDS),
        seconds=SECONDS,
        metric=metric,
        kind="latency" if metric == "latency" else "errors",
        canary=Counts(bad=canary[0], total=canary[1]) if canary else None,
        stable=Counts(bad=stable[0], total=stable[1]) if stable else None,
        gap=gap,
    )


def absent(index: int, kind: VerdictKind, metric: str = "errors") -> MetricWindow:
    reason = "no series" if kind is NODATA else "connection refused"
    return window(index, None, metric=metric, gap=Gap(kind=kind, reason=reason))


def binomial(rng: random.Random, total: int, rate: float) -> float:
    """Draw by jumping from one bad event to the next."""
    if rate <= 0:
        return 0.0
    count, place, scale = 0, 0, math.log1p(-rate)
    while True:
        place += int(math.log(1 - rng.random()) / scale) + 1
        if place > total:
            return float(count)
        count += 1


def traffic(
    rng: random.Random,
    *,
    windows: int = 10,
    canary: float | Sequence[float],
    stable: float | Sequence[float],
    weight: float = 0.1,
    requests: int = 600,
    metrics: Sequence[str] = ("errors",),
) -> list[MetricWindow]:
    """Windows of `requests` each, split by weight. Rates may change from window to window."""

    def at(rate: float | Sequence[float], index: int) -> float:
        return rate if isinstance(rate, float) else rate[index]

    mine, theirs = round(requests * weight), round(requests * (1 - weight))
    return [
        window(
            index,
            (binomial(rng, mine, at(canary, index)), mine),
            (binomial(rng, theirs, at(stable, index)), theirs) if theirs else None,
            metric=metric,
        )
        for index in range(windows)
        for metric in metrics
    ]


def ruled(
    windows: Sequence[MetricWindow],
    *,
    final: bool = True,
    objectives: dict[str, float] | None = None,
    planned: int | None = None,
    config: JudgeConfig | None = None,
) -> Verdict:
    if objectives is None:
        objectives = {one.metric: OBJECTIVES[one.metric] for one in windows}
    return judge(
        windows,
        objectives=objectives,
        config=config or JudgeConfig(),
        final=final,
        planned=planned,
    )


def tally(cases: Sequence[list[MetricWindow]]) -> Counter[VerdictKind]:
    return Counter(ruled(case).kind for case in cases)


# --- how often it is right -----------------------------------------------------------------------


def test_false_alarms_stay_below_alpha_over_two_thousand_canaries_as_good_as_stable() -> None:
    rng = random.Random(20260504)
    cases = [
        traffic(rng, canary=rate, stable=rate, metrics=("errors", "latency"))
        for rate in (0.001, 0.004, 0.009)
        for _ in range(667)
    ]
    said = tally(cases)
    assert said[FAIL] <= 0.01 * len(cases)
    assert said[PASS] > said[FAIL]


def test_false_alarms_stay_below_alpha_at_the_edge_of_the_tolerance() -> None:
    rng = random.Random(11)
    cases = [
        traffic(rng, canary=0.006, stable=0.004, requests=3000, weight=0.2) for _ in range(700)
    ]
    assert tally(cases)[FAIL] <= 0.01 * len(cases)


def test_a_clean_canary_passes_with_ordinary_traffic() -> None:
    rng = random.Random(5)
    cases = [
        traffic(rng, canary=0.001, stable=0.001, metrics=("errors", "latency"), requests=1200)
        for _ in range(300)
    ]
    assert tally(cases)[PASS] >= 285


@pytest.mark.parametrize(("rate", "least"), [(0.03, 0.85), (0.08, 0.995), (0.5, 1.0)])
def test_a_bad_canary_is_caught_before_the_bake_is_over(rate: float, least: float) -> None:
    rng = random.Random(3)
    cases = [traffic(rng, canary=rate, stable=0.002) for _ in range(300)]
    caught = sum(ruled(case, final=False).kind is FAIL for case in cases)
    assert caught >= least * len(cases)


def test_a_canary_broken_beyond_doubt_is_caught_in_its_first_counted_window() -> None:
    rng = random.Random(4)
    case = traffic(rng, windows=3, canary=0.5, stable=0.001, requests=6000)
    assert ruled(case, final=False, planned=10).kind is FAIL


def test_with_less_traffic_a_broken_canary_is_caught_when_three_windows_agree() -> None:
    rng = random.Random(4)
    case = traffic(rng, windows=5, canary=0.5, stable=0.001)
    assert ruled(case[:4], final=False, planned=10).kind is INCONCLUSIVE
    assert ruled(case, final=False, planned=10).kind is FAIL


def test_a_bad_canary_hardly_ever_passes() -> None:
    rng = random.Random(8)
    cases = [traffic(rng, canary=0.02, stable=0.002) for _ in range(500)]
    assert tally(cases)[PASS] <= 0.01 * len(cases)


def test_a_version_just_over_its_slo_passes_no_more_often_than_the_confidence_allows() -> None:
    rng = random.Random(9)
    cases = [traffic(rng, canary=0.0101, stable=0.0, weight=1.0) for _ in range(500)]
    assert tally(cases)[PASS] <= 0.1 * len(cases) + 3 * math.sqrt(len(cases) * 0.09)


# --- incidents that both versions suffer ---------------------------------------------------------


@pytest.mark.parametrize("rate", [0.03, 0.2, 0.9])
def test_an_incident_that_both_versions_suffer_neither_fails_nor_passes(rate: float) -> None:
    rng = random.Random(2)
    course = [0.002] * 4 + [rate] * 6
    cases = [traffic(rng, canary=course, stable=course) for _ in range(150)]
    said = tally(cases)
    assert said[FAIL] == 0
    assert said[PASS] <= 0.02 * len(cases)


def test_an_incident_hides_no_canary_that_is_far_worse() -> None:
    rng = random.Random(2)
    cases = [traffic(rng, canary=0.4, stable=0.05) for _ in range(100)]
    assert tally(cases)[FAIL] == 100


def test_a_broken_stable_does_not_stop_the_fix() -> None:
    verdict = ruled([window(i, (0, 60), (200, 540)) for i in range(10)])
    assert verdict.kind is PASS


def test_an_incident_without_an_objective_passes_by_comparison() -> None:
    case = [window(i, (60, 300), (540, 2700)) for i in range(10)]
    assert ruled(case, objectives={}).kind is PASS


# --- the SLO as a ceiling ------------------------------------------------------------------------


def test_a_canary_over_the_ceiling_fails_even_when_it_is_little_worse_than_stable() -> None:
    case = [window(i, (140, 10_000), (95, 10_000)) for i in range(10)]
    verdict = ruled(case)
    assert verdict.kind is FAIL
    assert "allowed 1.0%" in verdict.reason


def test_a_canary_fails_by_the_ceiling_when_stable_has_hardly_any_traffic() -> None:
    assert ruled([window(i, (20, 100), (0, 1)) for i in range(4)]).kind is FAIL


@pytest.mark.parametrize(("bad", "kind"), [(0, PASS), (1, PASS), (6, INCONCLUSIVE), (30, FAIL)])
def test_without_a_baseline_only_the_slo_counts(bad: int, kind: VerdictKind) -> None:
    verdict = ruled([window(i, (bad, 600)) for i in range(4)])
    assert verdict.kind is kind
    assert "stable" not in verdict.reason
    assert verdict.share is None


def test_without_baseline_and_objective_there_is_nothing_to_judge_by() -> None:
    verdict = ruled([window(i, (0, 600)) for i in range(4)], objectives={})
    assert verdict.kind is NODATA
    assert "neither a baseline nor an objective" in verdict.reason


# --- little evidence -----------------------------------------------------------------------------


def test_tiny_traffic_is_inconclusive_however_clean_it_looks() -> None:
    assert ruled([window(i, (0, 3), (0, 27)) for i in range(10)]).kind is INCONCLUSIVE


def test_tiny_traffic_with_one_error_does_not_fail() -> None:
    assert ruled([window(0, (1, 3), (0, 27))] * 1).kind is INCONCLUSIVE


def test_a_baseline_without_a_single_error_can_be_compared_with() -> None:
    clean = [window(i, (0, 60), (0, 540)) for i in range(10)]
    assert ruled(clean).kind is PASS
    broken = [window(i, (3, 60), (0, 540)) for i in range(10)]
    assert ruled(broken).kind is FAIL


def test_a_marked_sign_of_harm_does_not_pass() -> None:
    case = [window(i, (x, 300), (0, 2700)) for i, x in enumerate([0, 0, 0, 2, 0, 2, 0, 0, 0, 0])]
    verdict = ruled(case)
    assert verdict.kind is INCONCLUSIVE
    assert "marked sign" in verdict.reason


def test_nothing_passes_before_the_bake_is_over() -> None:
    case = [window(i, (0, 600), (0, 5400)) for i in range(10)]
    assert ruled(case, final=False).kind is INCONCLUSIVE
    assert ruled(case, final=True).kind is PASS


# --- warm-up -------------------------------------------------------------------------------------


def cold_start(windows: int, cold: int = 1) -> list[MetricWindow]:
    """First windows full of errors, then none."""
    return [window(i, (60 if i < cold else 0, 60), (0, 540)) for i in range(windows)]


def test_the_first_minute_of_a_long_check_is_warm_up() -> None:
    assert ruled(cold_start(10, cold=2)).kind is PASS
    assert ruled(cold_start(2, cold=2), final=False).kind is INCONCLUSIVE
    assert ruled(cold_start(2, cold=2), final=False, planned=10).kind is INCONCLUSIVE


def test_the_warm_up_takes_no_more_than_a_quarter_of_a_check() -> None:
    assert ruled(cold_start(4)).metrics[0].windows == 3
    assert ruled(cold_start(10)).metrics[0].windows == 8
    assert ruled(cold_start(100)).metrics[0].windows == 98


def test_a_short_check_counts_every_window() -> None:
    assert ruled(cold_start(3, cold=3)).kind is FAIL
    assert ruled(cold_start(2, cold=2)).kind is FAIL
    assert ruled(cold_start(1), final=False, planned=1).kind is FAIL


def test_the_warm_up_can_be_set() -> None:
    broken = cold_start(10, cold=3)
    assert ruled(broken, config=JudgeConfig(warmup=0)).kind is FAIL
    assert ruled(broken, config=JudgeConfig(warmup_seconds=0)).kind is FAIL
    assert ruled(broken).kind is not FAIL
    assert ruled(cold_start(3), config=JudgeConfig(warmup=3)).kind is INCONCLUSIVE


# --- gaps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("final", [False, True])
def test_no_data_at_all_is_nodata(final: bool) -> None:
    verdict = ruled([absent(i, NODATA) for i in range(5)], final=final)
    assert verdict.kind is NODATA
    assert "no series" in verdict.reason


def test_an_objective_whose_metric_was_never_read_is_nodata() -> None:
    case = [window(i, (0, 600), (0, 5400)) for i in range(10)]
    verdict = ruled(case, objectives=OBJECTIVES)
    assert verdict.kind is NODATA
    assert [one.verdict for one in verdict.metrics] == [PASS, NODATA]


@pytest.mark.parametrize("final", [False, True])
def test_errors_of_the_provider_in_a_row_are_an_error(final: bool) -> None:
    case = [window(i, (0, 600), (0, 5400)) for i in range(7)]
    case += [absent(i, ERROR) for i in range(7, 10)]
    verdict = ruled(case, final=final)
    assert verdict.kind is ERROR
    assert "connection refused" in verdict.reason


def test_errors_that_are_over_are_forgiven() -> None:
    case = [window(i, (0, 600), (0, 5400)) for i in range(10)]
    case[4:6] = [absent(i, ERROR) for i in range(4, 6)]
    assert ruled(case).kind is PASS


def test_the_first_error_of_the_provider_is_no_verdict_yet() -> None:
    case = [absent(0, ERROR), absent(1, ERROR)]
    assert ruled(case, final=False).kind is INCONCLUSIVE
    assert ruled(case, final=True).kind is ERROR


@pytest.mark.parametrize("kind", [NODATA, ERROR])
def test_too_many_gaps_are_not_overlooked(kind: VerdictKind) -> None:
    case = [window(i, (0, 600), (0, 5400)) for i in range(10)]
    for index in (1, 3, 5, 7):
        case[index] = absent(index, kind)
    assert ruled(case).kind is kind
    assert ruled(case, final=False).kind is INCONCLUSIVE


def test_gaps_do_not_hide_a_bad_canary() -> None:
    case = [window(i, (50, 600), (0, 5400)) for i in range(10)]
    case[5:] = [absent(i, ERROR) for i in range(5, 10)]
    assert ruled(case).kind is FAIL


@pytest.mark.parametrize(
    "counts", [(-5.0, 600.0), (2.0, -600.0), (700.0, 600.0), (math.nan, 600.0), (1.0, math.inf)]
)
def test_counts_that_cannot_be_are_errors_of_the_provider(counts: tuple[float, float]) -> None:
    verdict = ruled([window(i, counts, (0, 5400)) for i in range(4)])
    assert verdict.kind is ERROR
    assert ruled([window(i, (0, 600), counts) for i in range(4)]).kind is ERROR


def test_the_blur_of_extrapolation_is_not_taken_for_a_counter_reset() -> None:
    assert ruled([window(i, (-0.3, 600.4), (-2, 5400.2)) for i in range(10)]).kind is PASS


def test_no_requests_on_the_canary_is_nodata() -> None:
    assert ruled([window(i, (0, 0), (0, 600)) for i in range(10)]).kind is NODATA


# --- what it says --------------------------------------------------------------------------------


def test_the_reason_gives_the_numbers_a_person_on_call_needs() -> None:
    case = [window(0, (41, 506), (9, 4554)), window(0, (1, 506), (9, 4554), metric="latency")]
    verdict = ruled(case)
    assert verdict.reason.startswith(
        "canary 8.1% errors (41 of 506) against 0.20% on stable (9 of 4,554); allowed 1.0%; "
        "at least 24 times stable (90% sure), 1.5 is tolerated; evidence "
    )
    assert verdict.reason.endswith(" ≥ 200")
    assert verdict.share == pytest.approx(0.1)
    errors, latency = verdict.metrics
    assert errors.canary_rate == pytest.approx(41 / 506)
    assert errors.stable_rate == pytest.approx(9 / 4554)
    assert errors.allowed_rate == pytest.approx(0.01)
    assert (errors.canary_total, errors.stable_total) == (506, 4554)
    assert errors.evidence is not None
    assert errors.evidence > 1e6
    assert latency.verdict is PASS


def test_the_worst_metric_decides() -> None:
    good = [window(i, (0, 600), (0, 5400)) for i in range(10)]
    silent = [absent(i, NODATA, metric="latency") for i in range(10)]
    assert ruled(good + silent).kind is NODATA
    bad = [window(i, (90, 600), (0, 5400)) for i in range(10)]
    assert ruled(bad + silent).kind is FAIL


def test_a_late_look_says_what_the_looks_in_time_would_have_said() -> None:
    rng = random.Random(21)
    for _ in range(60):
        course = [0.002, 0.05, 0.05, 0.05] + [0.002] * 6
        case = traffic(rng, canary=course, stable=0.002)
        live = [ruled(case[: n + 1], final=False, planned=10).kind for n in range(9)]
        assert (ruled(case, planned=10).kind is FAIL) == (
            FAIL in live or ruled(case, planned=10, final=False).kind is FAIL
        )


def test_counts_beyond_all_measure_are_an_error_of_the_provider() -> None:
    window = MetricWindow(
        start=datetime(2026, 3, 4, tzinfo=UTC),
        seconds=30,
        metric="latency",
        kind="latency",
        canary=Counts(bad=0.0, total=2.56e305),
        stable=Counts(bad=0.0, total=0.0),
    )
    verdict = judge([window], objectives={"latency": 0.95}, config=JudgeConfig(), final=True)
    assert verdict.kind is not VerdictKind.PASS
    assert "more events than any window can hold" in verdict.reason


numbers = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 1000).map(float)


@settings(max_examples=150, deadline=None)
@given(
    counts=st.lists(st.tuples(st.sampled_from(["errors", "latency"]), *[numbers] * 4), max_size=8),
    final=st.booleans(),
)
def test_whatever_the_counts_there_is_a_verdict_in_words(
    counts: list[tuple[str, float, float, float, float]], final: bool
) -> None:
    case = [
        window(i, (bad, total), (y, s), metric=metric)
        for i, (metric, bad, total, y, s) in enumerate(counts)
    ]
    verdict = ruled(case, final=final, objectives=OBJECTIVES)
    assert verdict.reason
    assert verdict.kind is not PASS or final
    for one in verdict.metrics:
        assert one.evidence is None or math.isfinite(one.evidence)


def test_the_bounds_of_the_ratio_lie_around_it() -> None:
    rng = random.Random(6)
    for _ in range(40):
        (one,) = ruled(traffic(rng, windows=12, canary=0.02, stable=0.01, requests=3000)).metrics
        assert one.ratio is not None
        assert one.ratio_lower is not None
        assert one.ratio_upper is not None
        assert one.ratio_lower <= one.ratio <= one.ratio_upper


def test_a_pass_behind_an_incident_rests_on_the_windows_around_it() -> None:
    rng = random.Random(12)
    course = [0.01] * 12 + [0.3] * 8 + [0.01] * 12
    worse = [0.03] * 12 + [0.31] * 8 + [0.03] * 12
    good = [traffic(rng, windows=32, canary=course, stable=course, requests=6000)
            for _ in range(40)]  # fmt: skip
    bad = [traffic(rng, windows=32, canary=worse, stable=course, requests=6000)
           for _ in range(40)]  # fmt: skip
    passed = [one for one in (ruled(case, objectives={}) for case in good) if one.kind is PASS]
    assert len(passed) >= 36
    assert "8 windows of an incident on stable aside" in passed[0].reason
    assert all(ruled(case, objectives={}).kind is not PASS for case in bad)


def test_more_errors_in_one_window_are_no_way_to_a_pass() -> None:
    def with_burst(errors: int) -> Verdict:
        rows = [window(at, (3 + errors * (at == 10), 600), (9, 5400)) for at in range(20)]
        return ruled(rows, objectives={"errors": 0.9})

    assert with_burst(0).kind is FAIL
    verdict = with_burst(60)
    assert verdict.kind is INCONCLUSIVE
    assert "a marked sign of harm" in verdict.reason
