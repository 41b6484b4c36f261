"""What of the windows can be counted: order, doubles, overlaps, holes, and counts that cannot be.

Nothing doubtful is counted, and nothing that was left out is forgotten: too many holes, or a single
count that cannot be, and the check does not pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from domain.verdict import Counts, Gap, MetricWindow, VerdictKind

MOST_EVENTS = 1e12
"""Events in one window past which a number is the provider's mistake, and arithmetic fails."""
SLACK_EVENTS, SLACK_SHARE = 0.5, 0.002
"""How far extrapolated counts may contradict each other: half an event, or 0.2% of all events."""
TOUCHING = 0.02
"""Part of a window by which the next may begin early: clocks round."""
MOST_HOLES = 100_000


@dataclass(frozen=True)
class Slot:
    """One window of one metric: its counts, or why they cannot be used."""

    start: datetime
    canary: Counts | None
    stable: Counts | None
    gap: Gap | None
    broken: bool = False
    """Whether the counts cannot be, as opposed to missing."""


@dataclass
class Course:
    """The windows of one metric in order, each stretch of time at most once."""

    kind: str
    seconds: float = 0.0
    """Length of a window."""
    slots: list[Slot] = field(default_factory=list)
    holes: int = 0
    """Windows that should lie between others and do not."""
    left_out: int = 0
    """Windows that cover time which others cover already."""

    @property
    def gaps(self) -> list[Gap]:
        """Why windows cannot be used, in order."""
        return [one.gap for one in self.slots if one.gap is not None]

    @property
    def has_baseline(self) -> bool:
        """Whether any window has counts of stable to compare with."""
        return any(one.stable is not None for one in self.slots)


def courses(windows: Iterable[MetricWindow], metrics: Iterable[str]) -> dict[str, Course]:
    """The windows by metric; time that other metrics cover and this one does not is a hole."""
    by_metric: dict[str, list[MetricWindow]] = {name: [] for name in metrics}
    for window in windows:
        by_metric.setdefault(window.metric, []).append(window)
    seen = [one for each in by_metric.values() for one in each]
    if not seen:
        return {name: Course(kind="") for name in by_metric}
    since = min(one.start for one in seen)
    until = max(_end(one) for one in seen)
    return {name: _course(each, since, until) for name, each in by_metric.items()}


def _course(windows: Sequence[MetricWindow], since: datetime, until: datetime) -> Course:
    if not windows:
        return Course(kind="")
    course = Course(kind=windows[0].kind, seconds=windows[0].seconds)
    end = since
    for start, here in sorted(_grouped(windows).items()):
        window = here[0]
        course.left_out += len(here) - 1
        if (end - start).total_seconds() > TOUCHING * window.seconds:
            course.left_out += 1
            continue
        course.holes += _between(end, start, window.seconds)
        course.slots.append(_conflict(start) if _differ(here) else read(window))
        end = _end(window)
    course.holes += _between(end, until, windows[-1].seconds)
    _mark_lonely(course)
    return course


def _end(window: MetricWindow) -> datetime:
    return window.start + timedelta(seconds=window.seconds)


def _between(end: datetime, start: datetime, seconds: float) -> int:
    """How many windows would fit between two; half a one is a whole one."""
    return min(MOST_HOLES, math.floor((start - end).total_seconds() / seconds + 0.5))


def _grouped(windows: Sequence[MetricWindow]) -> dict[datetime, list[MetricWindow]]:
    found: dict[datetime, list[MetricWindow]] = {}
    for window in windows:
        found.setdefault(window.start, []).append(window)
    return found


def _differ(windows: Sequence[MetricWindow]) -> bool:
    first = windows[0]
    return any(
        _numbers(one.canary) != _numbers(first.canary)
        or _numbers(one.stable) != _numbers(first.stable)
        for one in windows[1:]
    )


def _numbers(counts: Counts | None) -> str:
    """Text, so that NaN is like NaN."""
    return "" if counts is None else f"{counts.bad!r}/{counts.total!r}"


def _conflict(start: datetime) -> Slot:
    reason = "windows of the same time have different counts"
    return Slot(start, None, None, Gap(kind=VerdictKind.ERROR, reason=reason), broken=True)


def _mark_lonely(course: Course) -> None:
    """Where there is a baseline, a window without it cannot be compared and does not count."""
    if not course.has_baseline:
        return
    for index, slot in enumerate(course.slots):
        if slot.gap is None and slot.stable is None:
            gap = _nodata("no counts of stable to compare with")
            course.slots[index] = Slot(slot.start, None, None, gap)


def read(window: MetricWindow) -> Slot:
    """The counts of a window, or why they cannot be used."""
    start = window.start
    if window.gap is not None:
        return Slot(start, None, None, window.gap)
    if window.canary is None:
        return Slot(start, None, None, _nodata("no counts for the judged version"))
    canary = _sound(window.canary, "the judged version")
    if isinstance(canary, Gap):
        return Slot(start, None, None, canary, broken=True)
    stable = None if window.stable is None else _sound(window.stable, "stable")
    if isinstance(stable, Gap):
        return Slot(start, None, None, stable, broken=True)
    if canary.total <= 0:
        return Slot(start, None, None, _nodata("no requests reached the judged version"))
    return Slot(start, canary, stable, None)


def _sound(counts: Counts, whose: str) -> Counts | Gap:
    """Counts that can be counted with. What extrapolation blurs is set right, nothing more is."""
    bad, total = counts.bad, counts.total
    if 0 <= bad <= total <= MOST_EVENTS:
        return counts
    said = f"{whose}: {bad:g} bad of {total:g}"
    if not (math.isfinite(bad) and math.isfinite(total)):
        return _error(f"counts are not numbers ({said})")
    if max(abs(bad), abs(total)) > MOST_EVENTS:
        return _error(f"more events than any window can hold ({said})")
    slack = max(SLACK_EVENTS, SLACK_SHARE * total)
    if total < 0 or bad < -slack:
        return _error(f"a counter went backwards ({said})")
    if bad > total + slack:
        return _error(f"more bad events than events ({said})")
    return Counts(bad=min(max(bad, 0.0), total), total=total)


def error_streak(slots: Sequence[Slot]) -> list[Gap]:
    """The provider's errors in a row up to the newest window, in order."""
    streak: list[Gap] = []
    for slot in reversed(slots):
        if slot.gap is None or slot.gap.kind is not VerdictKind.ERROR:
            break
        streak.append(slot.gap)
    return streak[::-1]


def _nodata(reason: str) -> Gap:
    return Gap(kind=VerdictKind.NODATA, reason=reason)


def _error(reason: str) -> Gap:
    return Gap(kind=VerdictKind.ERROR, reason=reason)
