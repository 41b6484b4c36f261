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


class MetricWindow(Frozen):
    """One SLI over one window of `seconds` from `start`, for both versions."""

    start: datetime
    seconds: float
    metric: str
    kind: str
    stable: Counts | None
    canary: Counts | None
    gap: Gap | None = None


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
    reason: str


class Verdict(Frozen):
    """The judge's finding over all SLIs of a check."""

    kind: VerdictKind
    reason: str
    metrics: tuple[MetricVerdict, ...] = ()
    share: float | None = None
    """Measured share of the canary in the traffic, 0 to 1."""
