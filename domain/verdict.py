"""Verdicts: what the judge says of a version. Five things, none of which stands for another."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from domain.event import Frozen


class VerdictKind(StrEnum):
    """`inconclusive` is too little evidence, `nodata` none, `error` a provider that failed."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NODATA = "nodata"
    ERROR = "error"


class Counts(Frozen):
    """Events in a window: how many, and how many of them were bad."""

    bad: float
    total: float


class Gap(Frozen):
    """Why there are no counts: `nodata` (the series is missing or empty) or `error` (no answer,
    NaN, or several series where one is expected)."""

    kind: VerdictKind
    reason: str


class Measured(Frozen):
    """A number of both versions in a window, for metrics that are not counts."""

    canary: float | None
    stable: float | None


class MetricWindow(Frozen):
    """One SLI over one window of `seconds` from `start`, for both versions.

    A metric of a service's own has the kind `gauge`, a number in `measured` and no counts.
    """

    start: datetime
    seconds: float
    metric: str
    kind: str
    stable: Counts | None
    canary: Counts | None
    gap: Gap | None = None
    measured: Measured | None = None


class MetricVerdict(Frozen):
    """The judge's finding on one SLI, with the numbers it rests on (rates as fractions)."""

    metric: str
    verdict: VerdictKind
    canary_rate: float | None = None
    stable_rate: float | None = None
    allowed_rate: float | None = None
    canary_total: float = 0
    stable_total: float = 0
    evidence: float | None = None
    """The e-value: how strongly the counts speak against the version. 1 is not at all."""
    limit: float | None = None
    """The e-value that fails a version."""
    rate_upper: float | None = None
    """Upper confidence bound of the version's rate."""
    ratio: float | None = None
    """The version's rate as a multiple of stable's; None without bad events on stable."""
    ratio_lower: float | None = None
    ratio_upper: float | None = None
    """Confidence bounds of that multiple; None: there is no such bound."""
    dispersion: float | None = None
    """How much more than binomially the errors scatter; 1: not at all."""
    share: float | None = None
    """Measured share of the version in the metric's traffic, 0 to 1."""
    windows: int = 0
    """Windows that were counted."""
    decided_at: datetime | None = None
    """Start of the window at which the evidence sufficed to fail the version."""
    value: float | None = None
    stable_value: float | None = None
    limit_value: float | None = None
    """For a metric of the service's own: the latest number of each version, and its limit."""
    reason: str


class Verdict(Frozen):
    """The judge's finding over all SLIs of a check."""

    kind: VerdictKind
    reason: str
    metrics: tuple[MetricVerdict, ...] = ()
    share: float | None = None
    """Measured share of the canary in the traffic, 0 to 1."""
    expected_share: float | None = None
    """The share that its weight stands for; None when not known."""
