"""Blast radius: which windows count, and what stable's own rate explains."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.action import MetricsCheck
from domain.plan import Step
from domain.service import Target, Workload
from domain.verdict import Counts, MetricWindow
from nodes.aftermath import blast_radius
from nodes.impact import impact_of

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TARGET = Target(
    service="web",
    environment="prod",
    namespace="shop",
    workload=Workload(deployment="web", container="web"),
    replicas=2,
)


def check(id: str, phase: str = "canary", target: Target = TARGET) -> Step:
    action = MetricsCheck.model_validate(
        {
            "target": target,
            "phase": phase,
            "version": "v2",
            "baseline": "v1",
            "weight": 10,
            "bake_seconds": 60,
            "interval_seconds": 30,
        }
    )
    return Step(id=id, title=id, agent="release", stage="s", scope=target.key, action=action)


def window(
    at: int,
    canary: tuple[float, float] | None,
    stable: tuple[float, float] | None,
    metric: str = "errors",
    kind: str = "errors",
) -> MetricWindow:
    return MetricWindow(
        start=START + timedelta(seconds=at),
        seconds=30,
        metric=metric,
        kind=kind,
        canary=Counts(bad=canary[0], total=canary[1]) if canary else None,
        stable=Counts(bad=stable[0], total=stable[1]) if stable else None,
    )


def test_requests_and_errors_add_up_over_the_steps_of_the_canary() -> None:
    windows = {
        "c10": [window(0, (10, 100), (9, 900)), window(30, (12, 100), (9, 900))],
        "c50": [window(60, (50, 500), (5, 500))],
    }
    found = impact_of([check("c10"), check("c50")], windows, TARGET.key)
    assert found is not None
    assert (found.requests, found.bad) == (700, 72)
    assert found.expected == pytest.approx(1 + 1 + 5)
    assert found.caused == pytest.approx(65)
    assert found.share == pytest.approx(700 / 3000)
    assert (found.since, found.until) == (START, START + timedelta(seconds=90))
    assert blast_radius(found) == (
        "700 requests served by the new version (23% of the traffic), 72 errors, "
        "about 65 more than stable's rate explains"
    )


def test_an_incident_of_both_versions_is_not_laid_at_the_new_one() -> None:
    found = impact_of([check("c")], {"c": [window(0, (50, 100), (450, 900))]}, TARGET.key)
    assert found is not None
    assert found.caused == 0


def test_checks_before_the_change_and_of_other_targets_do_not_count() -> None:
    other = TARGET.model_copy(update={"environment": "staging"})
    steps = [check("pre", "pre"), check("elsewhere", "post", other)]
    windows = {one.id: [window(0, (5, 10), (5, 10))] for one in steps}
    assert impact_of(steps, windows, TARGET.key) is None


def test_without_a_comparison_nothing_is_said_to_be_caused() -> None:
    windows = {"c": [window(0, (3, 50), None), window(30, (2, 50), (1, 100))]}
    found = impact_of([check("c")], windows, TARGET.key)
    assert found is not None
    assert (found.expected, found.caused, found.share) == (None, None, None)
    assert blast_radius(found) == "100 requests served by the new version, 5 errors"


def test_a_service_without_an_error_indicator_is_counted_by_its_first() -> None:
    windows = {"c": [window(0, (3, 50), (1, 50), "slow", "latency")]}
    found = impact_of([check("c")], windows, TARGET.key)
    assert found is not None
    assert "3 bad in slow" in blast_radius(found)


def test_one_request_is_said_in_the_singular_and_little_traffic_is_not_called_none() -> None:
    found = impact_of([check("c10")], {"c10": [window(0, (1, 1), (0, 999))]}, TARGET.key)
    assert found is not None
    assert blast_radius(found).startswith(
        "1 request served by the new version (under 1% of the traffic), 1 error, about 1 more"
    )
