"""Alerts that began on a service while it is being changed."""

from __future__ import annotations

from collections.abc import Iterable

from policy.facts import AlertFact
from policy.finding import Case, Finding, allow, deny


def findings(case: Case) -> Iterable[Finding]:
    """A change in flight fails at once, by `autonomy.alerts`; the gate's denial sends it back."""
    facts = case.facts
    if not facts.in_flight or facts.step.only_speaks:
        return ()
    return [_fires(case, one) for one in facts.alerts]


def _fires(case: Case, alert: AlertFact) -> Finding:
    said = f"{alert.name} began to fire at {alert.since:%H:%M:%S} UTC, during this change"
    severity = alert.severity or "not given"
    if alert.severity in case.rules.autonomy.alert_severities:
        return deny(
            "alert.firing",
            f"{said} of {case.place} (severity {severity}).",
            "What has begun goes back. Look at the alert, then `/retry`.",
        )
    return allow(
        "alert.minor",
        f"{said}, with severity {severity}, which does not stop it (autonomy.alerts).",
    )
