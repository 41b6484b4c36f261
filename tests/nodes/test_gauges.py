"""Metrics of a service's own: k of the last n windows, confirmation, and what gaps mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from domain.metric import FailWhen, Metric
from domain.verdict import Gap, Measured, MetricVerdict, MetricWindow, Verdict, VerdictKind
from nodes.gauges import KIND, joined, judge_gauge
from nodes.judge import JudgeConfig

START = datetime(2026, 3, 3, 9, 0, tzinfo=UTC)
QUEUE = Metric(
    name="queue", query="q", tolerance=0.2, limit=100.0, fail_when=FailWhen(breaches=3, of=5)
)
NO_ANSWER = Gap(kind=VerdictKind.ERROR, reason="no answer within 10 s")
NOTHING = Gap(kind=VerdictKind.NODATA, reason="no series")

Value = float | tuple[float | None, float | None] | Gap


def windows(values: Sequence[Value]) -> list[MetricWindow]:
    """A window for each value; a bare number stands beside a stable of 10."""
    made = []
    for index, value in enumerate(values):
        pair = (None, None) if isinstance(value, Gap) else (
            value if isinstance(value, tuple) else (value, 10.0)
        )  # fmt: skip
        made.append(
            MetricWindow(
                start=START + timedelta(seconds=30 * index),
                seconds=30,
                metric="queue",
                kind=KIND,
                stable=None,
                canary=None,
                gap=value if isinstance(value, Gap) else None,
                measured=Measured(canary=pair[0], stable=pair[1]),
            )
        )
    return made


def judged(
    values: Sequence[Value],
    metric: Metric = QUEUE,
    *,
    final: bool = True,
    compared: bool = True,
    warmup: int = 0,
) -> MetricVerdict:
    return judge_gauge(
        metric,
        windows(values),
        compared=compared,
        warmup=warmup,
        config=JudgeConfig(),
        final=final,
    )


def test_one_bad_window_proves_nothing() -> None:
    assert judged([10, 50, 10, 10, 10]).verdict is VerdictKind.PASS


def test_three_of_the_last_five_windows_fail_it_at_once() -> None:
    found = judged([10, 50, 10, 50, 50], final=False)
    assert found.verdict is VerdictKind.FAIL
    assert found.decided_at == START + timedelta(seconds=120)
    assert "3 of the last 5 windows breach" in found.reason
    assert "50 against 10 on stable" in found.reason


def test_breaches_that_lie_too_far_apart_do_not_add_up() -> None:
    assert judged([50, 10, 10, 50, 10, 10, 10, 50, 10]).verdict is VerdictKind.PASS


def test_a_failure_stays_one_however_well_it_goes_on() -> None:
    assert judged([50, 50, 50, 10, 10, 10, 10, 10]).verdict is VerdictKind.FAIL


def test_a_confirming_window_has_to_breach_as_well() -> None:
    sure = QUEUE.model_copy(update={"fail_when": FailWhen(breaches=2, of=3, confirm=1)})
    assert judged([50, 50, 10, 10, 10], sure).verdict is VerdictKind.PASS
    assert judged([50, 50, 50], sure, final=False).verdict is VerdictKind.FAIL
    assert judged([10, 50, 50], sure).verdict is VerdictKind.INCONCLUSIVE


def test_where_more_is_better_less_breaches() -> None:
    rate = QUEUE.model_copy(update={"direction": "higher", "limit": 5.0})
    assert judged([7.9, 7.9, 7.9], rate).verdict is VerdictKind.FAIL
    assert judged([8.0, 8.0, 8.0], rate).verdict is VerdictKind.PASS
    below = judged([(4.0, 1.0)] * 3, rate)
    assert "below the limit of 5" in below.reason


def test_the_limit_holds_without_stable_and_the_tolerance_does_not() -> None:
    assert judged([(101, None)] * 3, compared=False).verdict is VerdictKind.FAIL
    assert judged([(99, None)] * 3, compared=False).verdict is VerdictKind.PASS


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([NOTHING] * 6, VerdictKind.NODATA),
        ([10, NOTHING, NOTHING, 10, NOTHING, 10], VerdictKind.NODATA),
        ([10, 10, 10, NO_ANSWER, NO_ANSWER, NO_ANSWER], VerdictKind.ERROR),
        ([(10, None)] * 6, VerdictKind.NODATA),
        ([(None, 10)] * 6, VerdictKind.NODATA),
        ([], VerdictKind.NODATA),
        ([10, 10], VerdictKind.INCONCLUSIVE),
        ([10, NOTHING, 10, 10], VerdictKind.PASS),
    ],
)
def test_what_was_not_measured_never_passes(values: Sequence[Value], kind: VerdictKind) -> None:
    assert judged(values).verdict is kind


def test_a_gap_does_not_break_a_row_of_breaches() -> None:
    assert judged([50, NOTHING, 50, NOTHING, 50], final=False).verdict is VerdictKind.FAIL


def test_the_provider_failing_for_long_ends_the_patience_before_the_bake_is_over() -> None:
    assert judged([NO_ANSWER] * 2, final=False).verdict is VerdictKind.INCONCLUSIVE
    assert judged([NO_ANSWER] * 3, final=False).verdict is VerdictKind.ERROR


def test_the_warm_up_does_not_count() -> None:
    assert judged([50, 50, 10, 10, 10, 50], warmup=2).verdict is VerdictKind.PASS


def test_the_worst_of_counts_and_gauges_decides() -> None:
    good = Verdict(kind=VerdictKind.PASS, reason="errors are fine")
    bad = judged([50, 50, 50])
    assert joined(good, [bad]).kind is VerdictKind.FAIL
    assert "queue" in joined(good, [bad]).reason
    assert joined(good, [judged([10, 10, 10])]).kind is VerdictKind.PASS
    unknown = good.model_copy(update={"kind": VerdictKind.NODATA})
    assert joined(unknown, [judged([10, 10, 10])]).kind is VerdictKind.NODATA
    assert joined(None, []).kind is VerdictKind.NODATA
