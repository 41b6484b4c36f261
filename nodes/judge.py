"""The judge: counts of two versions in, one of five verdicts out. Pure: no input, output or clock.

Per metric, over the windows after the warm-up:

* **FAIL** at any look, as soon as the evidence (`nodes/betting.py`) reaches 1/alpha, alpha being
  split over the metrics: that the canary's rate of bad events is more than `tolerance` times
  stable's, or that it is above what the SLO allows, while stable keeps the SLO and is better. So a
  shared incident fails nobody. A version within both limits is failed with a probability of at most
  alpha, over all metrics and looks together.
* **PASS** only when the bake is over (`final`), with at least `min_total` requests, no marked sign
  of harm (with the worst window or without it: more errors are no excuse) and no count that cannot
  be, when the upper bound of its ratio to stable, windows of an incident on stable aside, is within
  the tolerance, or the upper bound of its rate is well within the SLO (`within_slo`; `negligible`
  where no SLO is known). The look at the end is a single one, so a fixed-sample exact bound is the
  right one there. Nobody passes by comparison with a stable that breaks the SLO itself: an incident
  hides what the canary would add.
* **NODATA** and **ERROR** when the numbers are missing, cannot be, or come from another share of
  the traffic than the canary was given; **INCONCLUSIVE** for everything else.

Without a baseline only the SLO counts. The worst metric decides: fail, error, nodata, inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field

from domain.event import Frozen
from domain.verdict import Counts, Gap, MetricVerdict, MetricWindow, Verdict, VerdictKind
from nodes.betting import Counted, Evidence, Truth, bet, calm, spread_of, without_worst
from nodes.evidence import evidence_of, lower_rate, lower_ratio, upper_rate, upper_ratio
from nodes.judge_words import (
    bounds_said,
    mismatch_said,
    sentence,
    shown_count,
    shown_evidence,
    shown_times,
)
from nodes.window_reading import Course, Slot, courses, error_streak

SHORT_CHECK = 4
"""With fewer windows than this a whole window is too much to give away for a warm-up."""
WORST_FIRST = (
    VerdictKind.FAIL,
    VerdictKind.ERROR,
    VerdictKind.NODATA,
    VerdictKind.INCONCLUSIVE,
    VerdictKind.PASS,
)


_Bound = Callable[[float, float, float, float, float], float]


class JudgeConfig(Frozen):
    """How strict the judge is. Probabilities and rates as fractions."""

    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Largest probability of failing a canary that is fine, over all metrics and looks."""
    tolerance: float = Field(default=1.5, ge=1)
    """Ratio of the canary's rate of bad events to stable's that is still fine."""
    confidence: float = Field(default=0.9, gt=0.5, lt=1)
    """One-sided confidence of the bounds that PASS rests on. A wrong PASS of a canary step only
    leads on to the next, better powered check."""
    suspicion: float = Field(default=20.0, gt=1)
    """Evidence from which on nothing passes, although it is not enough to fail."""
    min_total: float = Field(default=50, ge=1)
    """Fewest requests on the judged version for a PASS."""
    min_expected: float = Field(default=5, ge=0)
    """Fewest bad events that stable's rate lets one expect of the canary, for a PASS by comparison:
    with fewer, a canary without any proves nothing."""
    within_slo: float = Field(default=0.75, gt=0, le=1)
    """Part of what the SLO allows within which a version passes whatever its ratio to stable."""
    negligible: float = Field(default=0.001, ge=0, lt=1)
    """Rate of bad events that is no reason to hold a version back, where no SLO is known."""
    warmup: int | None = Field(default=None, ge=0)
    """Windows left out at the beginning; None: as many as `warmup_seconds` take, at most a quarter
    of those planned."""
    warmup_seconds: float = Field(default=60.0, ge=0)
    """How long new pods are given to get warm."""
    error_limit: int = Field(default=3, ge=1)
    """Errors of the metrics provider in a row that end the patience with it."""
    gap_share: float = Field(default=1 / 3, ge=0, lt=1)
    """Share of windows without counts up to which a check may still pass."""
    share_factor: float = Field(default=2.0, gt=1)
    """How far the odds of reaching the canary may be from what its weight says, as a factor."""
    share_requests: float = Field(default=20.0, ge=1)
    """Requests that the weight should have brought before the share is held against it."""


def judge(
    windows: Sequence[MetricWindow],
    *,
    objectives: Mapping[str, float | None],
    config: JudgeConfig,
    final: bool,
    planned: int | None = None,
    weight: float | None = None,
) -> Verdict:
    """Judge a version by all windows so far, of all metrics.

    `objectives` maps metric names to the promised share of good events (0 to 1, exclusive); a
    metric without one, or with None, is judged by comparison alone, an objective without windows
    has no data. `final` says that no further window will come. `planned` is the number of windows
    per metric in the whole check; None: unknown, then it is taken to be long until it ends.
    `weight` is the percentage of the traffic that the canary was given; None: not known. The
    verdict depends on the windows alone, not on how many looks there were in between: a check that
    would have failed at an earlier look fails.
    """
    found = courses(windows, objectives)
    if not found:
        kind = VerdictKind.NODATA if final else VerdictKind.INCONCLUSIVE
        return Verdict(kind=kind, reason="there is no metric to judge by")
    metrics = tuple(
        _Case(
            metric=name,
            course=course,
            allowed=_allowed(objectives.get(name)),
            config=config,
            threshold=len(found) / config.alpha,
            final=final,
            planned=planned,
        ).verdict()
        for name, course in found.items()
    )
    kind = min((one.verdict for one in metrics), key=WORST_FIRST.index)
    reason = "; ".join(one.reason for one in metrics if one.verdict is kind)
    busiest = max(metrics, key=lambda one: one.canary_total + one.stable_total)
    verdict = Verdict(
        kind=kind,
        reason=reason,
        metrics=metrics,
        share=busiest.share,
        expected_share=None if weight is None else weight / 100,
    )
    return _with_share_checked(verdict, busiest, config, final)


def warmup_of(planned: int, seconds: float, warmup_seconds: float) -> int:
    """Windows left out at the beginning: what the warm-up takes, at most a quarter of them."""
    return min(math.ceil(warmup_seconds / seconds), planned // SHORT_CHECK)


def _allowed(objective: float | None) -> float | None:
    return None if objective is None else 1 - objective


def _with_share_checked(
    verdict: Verdict, busiest: MetricVerdict, config: JudgeConfig, final: bool
) -> Verdict:
    """A canary that had another share of the traffic than it was given is not what was asked for:
    a route that did not take, or labels that mix versions. It does not pass; harm is still harm."""
    share, expected = verdict.share, verdict.expected_share
    if share is None or expected is None or not 0 < expected < 1:
        return verdict
    total = busiest.canary_total + busiest.stable_total
    if total * min(expected, 1 - expected) < config.share_requests:
        return verdict
    odds, wanted = share / max(1 - share, 1e-12), expected / (1 - expected)
    if 1 / config.share_factor <= odds / wanted <= config.share_factor:
        return verdict
    if verdict.kind in (VerdictKind.FAIL, VerdictKind.ERROR, VerdictKind.NODATA):
        return verdict
    kind = VerdictKind.ERROR if final else VerdictKind.INCONCLUSIVE
    reason = f"{mismatch_said(share, expected)}; {verdict.reason}"
    return verdict.model_copy(update={"kind": kind, "reason": reason})


@dataclass(frozen=True)
class _Tally:
    """Sums over the windows that were counted, and the evidence at the last of them."""

    windows: int
    canary: Counts
    stable: Counts | None
    log: float | None
    """Logarithm of the evidence; None when there is nothing to judge by."""
    lone: bool
    split: float
    own: float
    quiet: tuple[Counts, Counts]
    """Both versions again, without the windows of an incident on stable."""
    incident: int
    """How many windows those are."""
    hidden: float = -math.inf
    """Logarithm of the evidence without the worst window, where the check is over."""


NONE = Counts(bad=0, total=0)
NOTHING = _Tally(0, NONE, None, None, False, 1.0, 1.0, (NONE, NONE), 0)


@dataclass(frozen=True)
class _Case:
    """One metric before the judge."""

    metric: str
    course: Course
    allowed: float | None
    config: JudgeConfig
    threshold: float
    final: bool
    planned: int | None

    def verdict(self) -> MetricVerdict:
        """The finding on this metric."""
        warmup, planned = self._plan()
        used = self.course.slots[warmup:]
        slots = [slot for slot in used if slot.canary is not None]
        tally = NOTHING
        if slots:
            counted = _counted(slots, compared=self.course.has_baseline)
            spread = spread_of(self.course.seconds, planned - warmup)
            evidence = self._bet(counted, spread)
            if evidence.proven.any():
                last = int(evidence.proven.argmax())
                tally = self._tally(counted, evidence, last)
                found = self._found(VerdictKind.FAIL, tally, "")
                return found.model_copy(update={"decided_at": slots[last].start})
            tally = self._tally(counted, evidence, len(slots) - 1)
            if self.final:
                others = self._bet(without_worst(counted), spread)
                tally = replace(tally, hidden=float(others.log[0, -1]))
        missing = self._missing(used)
        if missing is not None:
            return self._found(missing[0], tally, f"{self.metric}: {missing[1]}")
        kind, words = self._weigh(tally)
        return self._found(kind, tally, words)

    def _plan(self) -> tuple[int, int]:
        """How many windows at the beginning are left out, and how many there are to be."""
        seen = self.course.slots
        seconds = self.course.seconds
        warm = math.ceil(self.config.warmup_seconds / seconds) if seconds else 1
        planned = self.planned
        if planned is None:
            planned = len(seen) if self.final else max(len(seen), SHORT_CHECK * max(warm, 1))
        if self.config.warmup is not None:
            return self.config.warmup, planned
        return min(warm, planned // SHORT_CHECK), planned

    def _bet(self, counted: Counted, spread: int) -> Evidence:
        return bet(
            counted,
            tolerance=self.config.tolerance,
            allowed=np.array([math.nan if self.allowed is None else self.allowed]),
            compared=np.array([self.course.has_baseline]),
            limit=math.log(self.threshold),
            spread=spread,
        )

    def _tally(self, counted: Counted, evidence: Evidence, last: int) -> _Tally:
        seen = Counted(
            *(
                one[:, : last + 1]
                for one in (counted.bad, counted.total, counted.base_bad, counted.base_total)
            )
        )
        quiet = calm(seen)
        mine, base = _sums(seen, np.ones_like(quiet))
        log = float(evidence.log[0, last])
        compared = self.course.has_baseline
        return _Tally(
            windows=last + 1,
            canary=mine,
            stable=base if compared else None,
            log=log if math.isfinite(log) else None,
            lone=bool(evidence.lone[0, last]),
            split=float(evidence.split[0, last]),
            own=float(evidence.own[0, last]),
            quiet=_sums(seen, quiet),
            incident=last + 1 - int(quiet.sum()) if compared and base.total > 0 else 0,
        )

    def _missing(self, used: Sequence[Slot]) -> tuple[VerdictKind, str] | None:
        """What the gaps say, when they are too many to judge; None when they are not."""
        streak = error_streak(self.course.slots)
        if len(streak) >= self.config.error_limit:
            newest = self.course.slots[-len(streak) :]
            is_broken = all(one.broken for one in newest)
            what = "counts that cannot be in" if is_broken else "no answer for"
            return VerdictKind.ERROR, f"{what} {len(streak)} windows: {streak[-1].reason}"
        broken = [one.gap for one in self.course.slots if one.broken and one.gap is not None]
        if self.final and broken:
            return VerdictKind.ERROR, f"counts that cannot be: {broken[0].reason}"
        if not used:
            return self._nothing_used()
        gaps = [one.gap for one in used if one.gap is not None]
        holes = Gap(kind=VerdictKind.NODATA, reason="there are no windows for part of the time")
        gaps = [holes] * self.course.holes + gaps
        slots = len(used) + self.course.holes
        said = f"{len(gaps)} of {slots} windows have no counts"
        errors = [gap for gap in gaps if gap.kind is VerdictKind.ERROR]
        if len(gaps) == slots and not errors:
            return VerdictKind.NODATA, f"{said}: {gaps[-1].reason}"
        if self.final and len(gaps) > self.config.gap_share * slots:
            mostly_errors = 2 * len(errors) >= len(gaps)
            kind = VerdictKind.ERROR if mostly_errors else VerdictKind.NODATA
            last = [gap for gap in gaps if gap.kind is kind][-1]
            return kind, f"{said}, more than can be overlooked: {last.reason}"
        if len(gaps) == slots:
            return VerdictKind.INCONCLUSIVE, f"{said} yet: {gaps[-1].reason}"
        return None

    def _nothing_used(self) -> tuple[VerdictKind, str]:
        if not self.final:
            return VerdictKind.INCONCLUSIVE, "warming up, nothing counts yet"
        if not self.course.slots:
            return VerdictKind.NODATA, "not one window was read"
        return VerdictKind.INCONCLUSIVE, "every window was part of the warm-up"

    def _weigh(self, tally: _Tally) -> tuple[VerdictKind, str]:
        """What the counts say when they are no reason to fail."""
        inconclusive = VerdictKind.INCONCLUSIVE
        if tally.log is None and tally.stable is None and self.allowed is None:
            kind = VerdictKind.NODATA if self.final else inconclusive
            return kind, "neither a baseline nor an objective to judge by"
        if not self.final:
            return inconclusive, "the bake is not over"
        if tally.canary.total < self.config.min_total:
            fewest = shown_count(self.config.min_total)
            return inconclusive, f"too few requests to tell, {fewest} are the least"
        if tally.lone:
            return inconclusive, "one or two windows carry all the evidence: look at them"
        if evidence_of(max(tally.log or 0.0, tally.hidden)) >= self.config.suspicion:
            return inconclusive, "a marked sign of harm, though not proof"
        return self._bounded(tally)

    def _bounded(self, tally: _Tally) -> tuple[VerdictKind, str]:
        """Whether the bounds let the version pass."""
        rate, ratio = self._rate_upper(tally), self._ratio_upper(tally)
        said = bounds_said(rate, ratio, self.config.confidence, tally.incident)
        enough = (
            self.config.negligible
            if self.allowed is None
            else self.config.within_slo * self.allowed
        )
        if rate <= enough:
            return VerdictKind.PASS, said
        if ratio is None or ratio > self.config.tolerance:
            return VerdictKind.INCONCLUSIVE, f"too little to tell: {said}"
        if self._expected(tally) < self.config.min_expected:
            words = "with so few errors on stable, none on the canary would prove nothing"
            return VerdictKind.INCONCLUSIVE, f"too little to tell: {words}"
        if self._stable_breaks_slo(tally.stable):
            words = f"stable breaks the SLO itself, so being like it proves nothing: {said}"
            return VerdictKind.INCONCLUSIVE, words
        return VerdictKind.PASS, said

    def _expected(self, tally: _Tally) -> float:
        """Bad events that the canary would have, were it like stable; clumps count once."""
        mine, base = tally.quiet
        return mine.total * base.bad / base.total / tally.split if base.total > 0 else 0.0

    def _stable_breaks_slo(self, stable: Counts | None) -> bool:
        """Whether stable misses the SLO beyond doubt, as in an incident of the whole service."""
        if self.allowed is None or stable is None:
            return False
        return lower_rate(stable.bad, stable.total, self.config.confidence) > self.allowed

    def _rate_upper(self, tally: _Tally) -> float:
        """Errors in clumps of d tell as much as a d-th of them would one by one."""
        d = tally.own
        return upper_rate(tally.canary.bad / d, tally.canary.total / d, self.config.confidence)

    def _ratio_upper(self, tally: _Tally) -> float | None:
        if tally.stable is None:
            return None
        bound = self._ratio_bound(upper_ratio, *tally.quiet, tally.split)
        return bound if math.isfinite(bound) else None

    def _ratio_bound(self, bound: _Bound, mine: Counts, base: Counts, d: float) -> float:
        return bound(
            mine.bad / d, mine.total / d, base.bad / d, base.total / d, self.config.confidence
        )

    def _found(self, kind: VerdictKind, tally: _Tally, words: str) -> MetricVerdict:
        """Put the finding into words and numbers."""
        mine, base = tally.canary, tally.stable or NONE
        rate = mine.bad / mine.total if mine.total > 0 else None
        base_rate = base.bad / base.total if base.total > 0 else None
        lower = self._ratio_bound(lower_ratio, mine, base, tally.split) if tally.stable else None
        evidence = None if tally.log is None else evidence_of(tally.log)
        wordless = kind in (VerdictKind.NODATA, VerdictKind.ERROR) or rate is None
        return MetricVerdict(
            metric=self.metric,
            verdict=kind,
            canary_rate=rate,
            stable_rate=base_rate,
            allowed_rate=self.allowed,
            canary_total=mine.total,
            stable_total=base.total,
            evidence=evidence,
            limit=self.threshold,
            rate_upper=None if rate is None else self._rate_upper(tally),
            ratio=rate / base_rate if rate is not None and base_rate else None,
            ratio_lower=lower,
            ratio_upper=self._ratio_upper(tally),
            dispersion=None if rate is None else tally.split if tally.stable else tally.own,
            share=mine.total / (mine.total + base.total) if base.total > 0 else None,
            windows=tally.windows,
            reason=words if wordless else self._reason(kind, tally, evidence, lower, words),
        )

    def _reason(
        self,
        kind: VerdictKind,
        tally: _Tally,
        evidence: float | None,
        lower: float | None,
        words: str,
    ) -> str:
        said = sentence(self.metric, self.course.kind, tally.canary, tally.stable, self.allowed)
        if kind is VerdictKind.FAIL and lower is not None and lower > self.config.tolerance:
            sure = f"({self.config.confidence:.0%} sure)"
            said += f"; at least {shown_times(lower)} times stable {sure}, "
            said += f"{self.config.tolerance:g} is tolerated"
        if evidence is not None:
            sign = "≥" if kind is VerdictKind.FAIL else "of"
            said += f"; evidence {shown_evidence(evidence)} {sign} {shown_evidence(self.threshold)}"
        return f"{said}; {words}" if words else said


def _sums(counted: Counted, which: Truth) -> tuple[Counts, Counts]:
    """Both versions' counts over some of the windows."""
    bad, total, base_bad, base_total = (
        float(one[which].sum())
        for one in (counted.bad, counted.total, counted.base_bad, counted.base_total)
    )
    return Counts(bad=bad, total=total), Counts(bad=base_bad, total=base_total)


def _counted(slots: Sequence[Slot], *, compared: bool) -> Counted:
    """The counts as arrays of one row."""
    rows: list[list[float]] = [[], [], [], []]
    for slot in slots:
        mine, base = slot.canary or NONE, (slot.stable or NONE) if compared else NONE
        for row, value in zip(rows, (mine.bad, mine.total, base.bad, base.total), strict=True):
            row.append(value)
    return Counted(*(np.array([row], dtype=np.float64) for row in rows))
