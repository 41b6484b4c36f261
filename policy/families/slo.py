"""Service level checks that did not pass outright: people decide, or the policy denies."""

from __future__ import annotations

from domain.verdict import Verdict, VerdictKind
from policy.finding import Case, Finding, allow, ask, deny

_PHASES = {"pre": "before the change", "canary": "at the canary", "post": "after full rollout"}
_KINDS = {
    VerdictKind.FAIL: "failed",
    VerdictKind.INCONCLUSIVE: "was inconclusive",
    VerdictKind.NODATA: "had no data",
    VerdictKind.ERROR: "could not be made, the metrics gave an error",
}


def findings(case: Case) -> tuple[Finding, ...]:
    """The verdict that the step is to go on in spite of. Never allowed by itself."""
    verdict = case.facts.verdict
    if verdict is None or verdict.kind is VerdictKind.PASS:
        return ()
    return (_judged(case, verdict),)


def _judged(case: Case, verdict: Verdict) -> Finding:
    phase = case.facts.verdict_phase
    if phase is None:
        return deny(
            "slo.phase_unknown",
            f"A check {_KINDS[verdict.kind]}, and it is not known which one.",
            "This is a defect in the plan; `/retry` makes a new one.",
        )
    rule = f"slo.{phase}.{verdict.kind.value}"
    reason = f"The check {_PHASES[phase]} {_KINDS[verdict.kind]}: {verdict.reason}"
    if phase == "pre" and case.facts.replaces_bad and case.rules.slo_replaces_bad == "allow":
        return allow(
            "slo.replaces_bad",
            f"{reason} The version that runs there is known to be bad, so its fix goes on.",
        )
    if case.rules.slo[phase, verdict.kind.value] == "approve":
        return ask(rule, reason, "Look at the numbers, then approve or reject.")
    return deny(rule, reason, "Let the service recover, then `/retry`.")
