"""The judge: counts of two versions in, one of five verdicts out. Pure: no input, output or clock.

Per metric, over the windows after the warm-up:

* **FAIL** at any look, as soon as the evidence reaches 1/alpha, alpha being split over the metrics.
  The evidence is the mean of two e-processes (`nodes/evidence.py`): that the canary's rate of bad
  events is more than `tolerance` times stable's, and that it is above what the SLO allows; the
  second counts only while stable keeps the SLO itself, so a shared incident fails nobody. A
  version within both limits is failed with a probability of at most alpha, over all metrics and
  looks together.
* **PASS** only when the bake is over (`final`), with at least `min_total` requests, and no marked
  sign of harm, when either the upper bound of the canary's rate is within what the SLO allows or
  the upper bound of its ratio to stable is within the tolerance. The look at the end is a single
  one, so a fixed-sample exact bound is the right one there. Nobody passes by comparison with a
  stable that breaks the SLO itself: an incident hides what the canary would add.
* **NODATA** and **ERROR** when the numbers are missing, **INCONCLUSIVE** for everything else.

Without a baseline only the SLO counts. The worst metric decides: fail, error, nodata, inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from domain.event import Frozen
from domain.verdict import Counts, Gap, MetricVerdict, MetricWindow, Verdict, VerdictKind
from nodes.evidence import (
    RateEvidence,
    RatioEvidence,
    evidence_of,
    log_mean_of_two,
    lower_rate,
    upper_rate,
    upper_ratio,
)
from nodes.judge_words import sentence, shown_count, shown_evidence, shown_rate

SHORT_CHECK = 4
"""With fewer windows than this a whole window is too much to give away for a warm-up."""
WORST_FIRST = (
    VerdictKind.FAIL,
    VerdictKind.ERROR,
    VerdictKind.NODATA,
    VerdictKind.INCONCLUSIVE,
    VerdictKind.PASS,
)
MOST_EVENTS = 1e12
"""Events in one window past which a number is the provider's mistake, and arithmetic fails."""
SLACK_EVENTS, SLACK_SHARE = 0.5, 0.002
"""How far extrapolated counts may contradict each other: half an event, or 0.2% of all events."""


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
    warmup: int | None = Field(default=None, ge=0)
    """Windows left out at the beginning; None: one where at least four are planned, else none."""
    error_limit: int = Field(default=3, ge=1)
    """Errors of the metrics provider in a row that end the patience with it."""
    gap_share: float = Field(default=1 / 3, ge=0, lt=1)
    """Share of windows without counts up to which a check may still pass."""


def judge(
    windows: Sequence[MetricWindow],
    *,
    objectives: Mapping[str, float],
    config: JudgeConfig,
    final: bool,
    planned: int | None = None,
) -> Verdict:
    """Judge a version by all windows so far, of all metrics.

    `objectives` maps metric names to the promised share of good events (0 to 1, exclusive); a
    metric without one is judged by comparison alone, an objective without windows has no data.
    `final` says that no further window will come. `planned` is the number of windows per metric in
    the whole check; None: unknown, then the first window is left out until the check turns out to
    end with fewer than four. The verdict depends on the windows alone, not on how many looks there
    were in between: a check that would have failed at an earlier look fails.
    """
    by_metric: dict[str, list[MetricWindow]] = {name: [] for name in objectives}
    for window in windows:
        by_metric.setdefault(window.metric, []).append(window)
    if not by_metric:
        kind = VerdictKind.NODATA if final else VerdictKind.INCONCLUSIVE
        return Verdict(kind=kind, reason="there is no metric to judge by")
    threshold = len(by_metric) / config.alpha
    metrics = tuple(
        _Case(
            metric=name,
            windows=sorted(seen, key=lambda one: one.start),
            allowed=1 - objectives[name] if name in objectives else None,
            config=config,
            threshold=threshold,
            final=final,
            planned=planned,
        ).verdict()
        for name, seen in by_metric.items()
    )
    kind = min((one.verdict for one in metrics), key=WORST_FIRST.index)
    reason = "; ".join(one.reason for one in metrics if one.verdict is kind)
    return Verdict(kind=kind, reason=reason, metrics=metrics, share=_share(metrics))


def _share(metrics: Iterable[MetricVerdict]) -> float | None:
    """Share of the canary in the traffic, from the metric that saw the most of it."""
    busiest = max(metrics, key=lambda one: one.canary_total + one.stable_total)
    both = busiest.canary_total + busiest.stable_total
    return busiest.canary_total / both if busiest.stable_total > 0 else None


class _Tally:
    """Sums and evidence over the windows taken in so far."""

    def __init__(self, tolerance: float, allowed: float | None) -> None:
        self.allowed = allowed
        self.bad = self.total = self.base_bad = self.base_total = 0.0
        self.compared = False
        self.ratio = RatioEvidence(tolerance)
        self.rate = None if allowed is None else RateEvidence(allowed)

    def add(self, canary: Counts, stable: Counts | None) -> None:
        """Take in the counts of one window."""
        self.bad += canary.bad
        self.total += canary.total
        if self.rate is not None:
            self.rate.add(canary.bad, canary.total)
        if stable is not None:
            self.compared = True
            self.base_bad += stable.bad
            self.base_total += stable.total
            self.ratio.add(canary.bad, canary.total, stable.bad, stable.total)

    @property
    def canary(self) -> Counts:
        """All events of the judged version."""
        return Counts(bad=self.bad, total=self.total)

    @property
    def stable(self) -> Counts | None:
        """All events of the baseline, where there is one."""
        return Counts(bad=self.base_bad, total=self.base_total) if self.compared else None

    @property
    def shared(self) -> bool:
        """Whether stable misses the SLO too, so that the canary may not be what is wrong."""
        return self.allowed is not None and self.base_bad > self.allowed * self.base_total

    @property
    def log_evidence(self) -> float | None:
        """Logarithm of the evidence of harm now; None when there is nothing to compare with."""
        if not self.compared:
            return None if self.rate is None else self.rate.log
        if self.rate is None:
            return self.ratio.log
        # Half the stake stays on the SLO: leaving its part out can only lower the evidence, so
        # what remains is still a valid e-process.
        return log_mean_of_two(self.ratio.log, -math.inf if self.shared else self.rate.log)

    def reaches(self, limit: float) -> bool:
        """Whether the evidence is at the limit (as a logarithm); asked after each window."""
        if self.ratio.peak < limit and (self.rate is None or self.rate.peak < limit):
            return False
        log = self.log_evidence
        return log is not None and log >= limit

    def stable_breaks_slo(self, confidence: float) -> bool:
        """Whether stable misses the SLO beyond doubt, as in an incident of the whole service."""
        if self.allowed is None:
            return False
        return lower_rate(self.base_bad, self.base_total, confidence) > self.allowed


@dataclass(frozen=True)
class _Case:
    """One metric before the judge."""

    metric: str
    windows: Sequence[MetricWindow]
    allowed: float | None
    config: JudgeConfig
    threshold: float
    final: bool
    planned: int | None

    def verdict(self) -> MetricVerdict:
        """The finding on this metric."""
        used = self.windows[self._warmup() :]
        tally = _Tally(self.config.tolerance, self.allowed)
        gaps: list[Gap] = []
        limit = math.log(self.threshold)
        for window in used:
            read = _read(window)
            if isinstance(read, Gap):
                gaps.append(read)
                continue
            tally.add(*read)
            if tally.reaches(limit):
                return self._found(VerdictKind.FAIL, tally, "")
        missing = self._missing(used, gaps)
        if missing is not None:
            return self._found(missing[0], tally, f"{self.metric}: {missing[1]}")
        return self._found(*self._weigh(tally))

    def _warmup(self) -> int:
        """How many windows at the beginning are left out."""
        if self.config.warmup is not None:
            return self.config.warmup
        planned = self.planned
        if planned is None:
            planned = len(self.windows) if self.final else SHORT_CHECK
        return 1 if planned >= SHORT_CHECK else 0

    def _missing(
        self, used: Sequence[MetricWindow], gaps: Sequence[Gap]
    ) -> tuple[VerdictKind, str] | None:
        """What the gaps say, when they are too many to judge; None when they are not."""
        streak = _error_streak(self.windows)
        if len(streak) >= self.config.error_limit:
            return VerdictKind.ERROR, f"no answer for {len(streak)} windows: {streak[-1].reason}"
        if not used:
            return self._nothing_used()
        said = f"{len(gaps)} of {len(used)} windows have no counts"
        errors = [gap for gap in gaps if gap.kind is VerdictKind.ERROR]
        if len(gaps) == len(used) and not errors:
            return VerdictKind.NODATA, f"{said}: {gaps[-1].reason}"
        if self.final and len(gaps) > self.config.gap_share * len(used):
            mostly_errors = 2 * len(errors) >= len(gaps)
            kind = VerdictKind.ERROR if mostly_errors else VerdictKind.NODATA
            last = [gap for gap in gaps if gap.kind is kind][-1]
            return kind, f"{said}, more than can be overlooked: {last.reason}"
        if len(gaps) == len(used):
            return VerdictKind.INCONCLUSIVE, f"{said} yet: {gaps[-1].reason}"
        return None

    def _nothing_used(self) -> tuple[VerdictKind, str]:
        if not self.final:
            return VerdictKind.INCONCLUSIVE, "warming up, nothing counts yet"
        if not self.windows:
            return VerdictKind.NODATA, "not one window was read"
        return VerdictKind.INCONCLUSIVE, "every window was part of the warm-up"

    def _weigh(self, tally: _Tally) -> tuple[VerdictKind, _Tally, str]:
        """What the counts say when they are no reason to fail."""
        inconclusive, log = VerdictKind.INCONCLUSIVE, tally.log_evidence
        if log is None:
            return inconclusive, tally, "neither a baseline nor an objective to judge by"
        if not self.final:
            return inconclusive, tally, "the bake is not over"
        if tally.total < self.config.min_total:
            fewest = shown_count(self.config.min_total)
            return inconclusive, tally, f"too few requests to tell, {fewest} are the least"
        if evidence_of(log) >= self.config.suspicion:
            return inconclusive, tally, "a marked sign of harm, though not proof"
        rate = upper_rate(tally.bad, tally.total, self.config.confidence)
        bound = f"at most {shown_rate(rate)} ({self.config.confidence:.0%} sure)"
        if self.allowed is not None and rate <= self.allowed:
            return VerdictKind.PASS, tally, bound
        return self._compare(tally, bound)

    def _compare(self, tally: _Tally, bound: str) -> tuple[VerdictKind, _Tally, str]:
        """Whether the canary passes by being no worse than stable."""
        if not tally.compared:
            return VerdictKind.INCONCLUSIVE, tally, f"too little to tell: {bound}"
        ratio = upper_ratio(
            tally.bad, tally.total, tally.base_bad, tally.base_total, self.config.confidence
        )
        if math.isfinite(ratio):
            bound += f", at most {ratio:.2g} times stable"
        if ratio > self.config.tolerance:
            return VerdictKind.INCONCLUSIVE, tally, f"too little to tell: {bound}"
        if tally.stable_breaks_slo(self.config.confidence):
            words = f"stable breaks the SLO itself, so being like it proves nothing: {bound}"
            return VerdictKind.INCONCLUSIVE, tally, words
        return VerdictKind.PASS, tally, bound

    def _found(self, kind: VerdictKind, tally: _Tally, words: str) -> MetricVerdict:
        """Put the finding into words and numbers."""
        log = tally.log_evidence if tally.total > 0 else None
        evidence = None if log is None else evidence_of(log)
        missing = kind in (VerdictKind.NODATA, VerdictKind.ERROR) or tally.total <= 0
        reason = words if missing else self._reason(kind, tally, evidence, words)
        return MetricVerdict(
            metric=self.metric,
            verdict=kind,
            canary_rate=tally.bad / tally.total if tally.total > 0 else None,
            stable_rate=tally.base_bad / tally.base_total if tally.base_total > 0 else None,
            allowed_rate=self.allowed,
            canary_total=tally.total,
            stable_total=tally.base_total,
            evidence=evidence,
            reason=reason,
        )

    def _reason(self, kind: VerdictKind, tally: _Tally, evidence: float | None, words: str) -> str:
        said = sentence(self.metric, self.windows[0].kind, tally.canary, tally.stable, self.allowed)
        if evidence is not None:
            sign = "≥" if kind is VerdictKind.FAIL else "of"
            said += f"; evidence {shown_evidence(evidence)} {sign} {shown_evidence(self.threshold)}"
        return f"{said}; {words}" if words else said


def _read(window: MetricWindow) -> tuple[Counts, Counts | None] | Gap:
    """The counts of a window, or why they cannot be used."""
    if window.gap is not None:
        return window.gap
    if window.canary is None:
        return Gap(kind=VerdictKind.NODATA, reason="no counts for the judged version")
    canary = _sound(window.canary)
    if isinstance(canary, Gap):
        return canary
    if canary.total <= 0:
        return Gap(kind=VerdictKind.NODATA, reason="no requests reached the judged version")
    if window.stable is None:
        return canary, None
    stable = _sound(window.stable)
    return stable if isinstance(stable, Gap) else (canary, stable)


def _sound(counts: Counts) -> Counts | Gap:
    """Counts that can be counted with. What extrapolation blurs is set right, nothing more is."""
    bad, total = counts.bad, counts.total
    if not (math.isfinite(bad) and math.isfinite(total)):
        return Gap(kind=VerdictKind.ERROR, reason=f"counts are not numbers ({bad} of {total})")
    if max(abs(bad), abs(total)) > MOST_EVENTS:
        return Gap(
            kind=VerdictKind.ERROR,
            reason=f"more events than any window can hold ({bad:g} of {total:g})",
        )
    slack = max(SLACK_EVENTS, SLACK_SHARE * total)
    if total < 0 or bad < -slack:
        return Gap(
            kind=VerdictKind.ERROR, reason=f"a counter went backwards ({bad:g} of {total:g})"
        )
    if bad > total + slack:
        return Gap(
            kind=VerdictKind.ERROR, reason=f"more bad events than events ({bad:g} of {total:g})"
        )
    if 0 <= bad <= total:
        return counts
    return Counts(bad=min(max(bad, 0.0), total), total=total)


def _error_streak(windows: Sequence[MetricWindow]) -> list[Gap]:
    """The provider's errors in a row up to the newest window, in order."""
    streak: list[Gap] = []
    for window in reversed(windows):
        read = _read(window)
        if not isinstance(read, Gap) or read.kind is not VerdictKind.ERROR:
            break
        streak.append(read)
    return streak[::-1]
