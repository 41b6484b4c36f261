"""How far a version reached: requests and errors over the windows of its checks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta

from domain.action import MetricsCheck
from domain.impact import Impact
from domain.plan import Step
from domain.verdict import MetricWindow

Windows = Mapping[str, Sequence[MetricWindow]]
"""Measured windows by step id."""


def impact_of(steps: Iterable[Step], windows: Windows, key: str) -> Impact | None:
    """The impact of the version that the checks of a target watched; None when none has counts.

    Errors are what is counted; a service without an error indicator is counted by its first one.
    """
    checks = [
        (step.action, tuple(windows.get(step.id, ())))
        for step in steps
        if isinstance(step.action, MetricsCheck)
        and step.action.phase != "pre"
        and step.action.target.key == key
    ]
    measured = [one for _, found in checks for one in found if one.canary is not None]
    if not measured:
        return None
    metric = next((one.metric for one in measured if one.kind == "errors"), measured[0].metric)
    counted = [one for one in measured if one.metric == metric]
    first = next(check for check, found in checks if found)
    canary = [one.canary for one in counted if one.canary is not None]
    requests, bad = sum(one.total for one in canary), sum(one.bad for one in canary)
    compared = [one for one in counted if one.stable is not None and one.stable.total > 0]
    return Impact(
        key=key,
        metric=metric,
        version=first.version,
        baseline=first.baseline,
        since=min(one.start for one in counted),
        until=max(one.start + timedelta(seconds=one.seconds) for one in counted),
        requests=requests,
        bad=bad,
        expected=_expected(compared) if len(compared) == len(counted) else None,
        share=_share(compared) if len(compared) == len(counted) else None,
    )


def _expected(windows: Sequence[MetricWindow]) -> float:
    """Bad events at stable's own rate, window by window: an incident of both cancels out."""
    return sum(
        one.canary.total * one.stable.bad / one.stable.total
        for one in windows
        if one.canary is not None and one.stable is not None
    )


def _share(windows: Sequence[MetricWindow]) -> float:
    ours = sum(one.canary.total for one in windows if one.canary is not None)
    theirs = sum(one.stable.total for one in windows if one.stable is not None)
    return ours / (ours + theirs) if ours + theirs else 0.0
