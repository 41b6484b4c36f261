"""Alerts that began on a service while it is being changed."""

from __future__ import annotations

from collections.abc import Iterator

from policy.finding import Case, Finding, allow, deny


def findings(case: Case) -> Iterator[Finding]:
    """A change in flight fails at once, by `autonomy.alerts`; the gate's denial sends it back."""
    facts, rules = case.facts, case.rules.autonomy
    if not facts.in_flight or facts.step.only_speaks:
        return
    for alert in facts.alerts:
        said = f"{alert.name} began to fire at {alert.since:%H:%M:%S} UTC, during this change"
        if alert.severity in rules.alert_severities:
            yield deny(
                "alert.firing",
                f"{said} of {case.place} (severity {alert.severity or 'not given'}).",
                "What has begun goes back. Look at the alert, then `/retry`.",
            )
        else:
            yield allow(
                "alert.minor",
                f"{said}, with severity {alert.severity or 'not given'}, which does not stop it "
                "(autonomy.alerts).",
            )
