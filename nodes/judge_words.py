"""How the judge speaks: one sentence for a person on call, with the numbers it rests on."""

from __future__ import annotations

import math

from domain.verdict import Counts

NOUNS = {"errors": "errors", "latency": "slow requests"}


def sentence(
    metric: str, kind: str, canary: Counts, stable: Counts | None, allowed: float | None
) -> str:
    """What was measured: `canary 8.1% errors (41 of 506) against 0.2% on stable (9 of 4,554);
    allowed 1.0%`. The metric is named where its kind does not say it all."""
    noun = NOUNS.get(kind, kind)
    said = _measured(canary, f" {noun}")
    if stable is not None:
        said = f"canary {said} against {_measured(stable, ' on stable')}"
    if metric not in (kind, noun):
        said = f"{metric}: {said}"
    return said if allowed is None else f"{said}; allowed {shown_rate(allowed)}"


def bounds_said(rate: float, ratio: float | None, confidence: float, incident: int) -> str:
    """What can be ruled out: `at most 0.42% (90% sure), at most 1.3 times stable`."""
    said = f"at most {shown_rate(rate)} ({confidence:.0%} sure)"
    if ratio is None:
        return said
    many = f"{incident} windows" if incident > 1 else "one window"
    aside = f", {many} of an incident on stable aside" if incident else ""
    return f"{said}, at most {shown_times(ratio)} times stable{aside}"


def mismatch_said(share: float, expected: float) -> str:
    """The canary had another share of the traffic than it was given."""
    return (
        f"the canary had {shown_rate(share)} of the traffic where its weight is "
        f"{shown_rate(expected)}: check the route, and the label that tells the versions apart"
    )


def _measured(counts: Counts, what: str) -> str:
    if counts.total <= 0:
        return f"no requests{what}"
    rate = shown_rate(counts.bad / counts.total)
    return f"{rate}{what} ({shown_count(counts.bad)} of {shown_count(counts.total)})"


def shown_rate(rate: float) -> str:
    """A fraction as a percentage with two significant digits: 8.1%, 0.24%, 12%."""
    percent = 100 * rate
    if percent == 0:
        return "0%"
    if percent >= 99.95:
        return "100%"
    if percent >= 9.95:
        return f"{percent:.0f}%"
    decimals = max(1, 1 - math.floor(math.log10(percent)))
    return f"{percent:.{min(decimals, 6)}f}%"


def shown_times(ratio: float) -> str:
    """A ratio: 1.3, 24, 1,100."""
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2g}"


def shown_count(count: float) -> str:
    """A count with thousands separators; extrapolated counts are rounded, small ones to tenths."""
    if abs(count - round(count)) < 0.05 or count >= 10:
        return f"{count:,.0f}"
    return f"{count:.1f}"


def shown_evidence(evidence: float) -> str:
    """4.1e7, 230, 0.31."""
    if evidence >= 10_000:
        power = math.floor(math.log10(evidence))
        return f"{evidence / 10**power:.1f}e{power}"
    if evidence >= 10:
        return f"{evidence:.0f}"
    return f"{evidence:.2g}" if evidence >= 0.01 else "under 0.01"
