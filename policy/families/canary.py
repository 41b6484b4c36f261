"""How a release begins: with a small canary, where the policy wants one."""

from __future__ import annotations

from domain.action import K8sDeploy, K8sTraffic
from policy.finding import Case, Finding, allow, ask, deny
from policy.risk import rolls_stable_first, wants_canary


def findings(case: Case) -> list[Finding]:
    """First weight above the limit; no canary where one is wanted."""
    found: list[Finding] = []
    weight, most = _first_weight(case), case.rules.canary.max_first_weight
    if weight is not None and weight > most:
        found.append(_first(case, weight, most))
    if not wants_canary(case.rules, case.facts, case.listed):
        return found
    if not case.facts.canary_planned:
        found.append(_missing(case, f"{case.place} wants a canary and none is planned."))
    elif rolls_stable_first(case.facts):
        reason = f"{case.place} wants a canary, but stable would be rolled before it."
        found.append(_missing(case, reason))
    return found


def _first(case: Case, weight: int, most: int) -> Finding:
    """The first weight above the limit; a switch of all traffic at once has an answer of its
    own."""
    switch = case.rules.canary.blue_green
    said = f"{case.place} is switched over at once (blue-green), past a canary of {most}% at most"
    if weight == 100 and switch == "allow":
        return allow("canary.blue_green", f"{said}; canary.blue_green allows it.")
    if weight == 100 and switch == "approve":
        return ask("canary.blue_green", f"{said}.", "Look at the preview, then approve.")
    return deny(
        "canary.first_weight",
        f"The first canary step gives {weight}% of the traffic to the new version; "
        f"at most {most}% is allowed.",
        f"Start with {most}% or less in services.yaml (environments.canary)"
        + ("; `canary.blue_green` in the policy allows switches." if weight == 100 else "."),
    )


def _first_weight(case: Case) -> int | None:
    """The largest weight that the beginning of this release could give to the new version.

    Where the target is untouched, the step itself is the beginning, whatever the plan says.
    """
    planned, action = case.facts.first_weight, case.facts.step.action
    if not case.facts.in_flight and (
        isinstance(action, K8sTraffic)
        or (isinstance(action, K8sDeploy) and action.track == "canary")
    ):
        return action.weight if planned is None else max(planned, action.weight)
    return planned


def _missing(case: Case, reason: str) -> Finding:
    remedy = "Plan a canary (environments.canary in services.yaml)"
    if case.rules.canary.missing == "deny":
        return deny("canary.missing", reason, f"{remedy}.")
    return ask("canary.missing", reason, f"{remedy}, or approve; a first install has none.")
