"""How a release begins: with a small canary, where the policy wants one."""

from __future__ import annotations

from collections.abc import Iterator

from domain.action import K8sDeploy, K8sTraffic
from policy.finding import Case, Finding, allow, ask, deny
from policy.risk import rolls_stable_first, wants_canary


def findings(case: Case) -> Iterator[Finding]:
    """First weight above the limit; no canary where one is wanted."""
    yield from _first(case)
    if not wants_canary(case.rules, case.facts, case.listed):
        return
    if not case.facts.canary_planned:
        yield _missing(case, f"{case.place} wants a canary and none is planned.")
    elif rolls_stable_first(case.facts):
        yield _missing(case, f"{case.place} wants a canary, but stable would be rolled before it.")


def _first(case: Case) -> Iterator[Finding]:
    """The first weight against the limit; a switch of all traffic at once has an answer of its
    own."""
    weight, most = _first_weight(case), case.rules.canary.max_first_weight
    if weight is None or weight <= most:
        return
    switch = case.rules.canary.blue_green
    said = f"{case.place} is switched over at once (blue-green), past a canary of {most}% at most"
    if weight == 100 and switch == "allow":
        yield allow("canary.blue_green", f"{said}; canary.blue_green allows it.")
    elif weight == 100 and switch == "approve":
        yield ask("canary.blue_green", f"{said}.", "Look at the preview, then approve.")
    else:
        yield deny(
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
    facts = case.facts
    weights = [facts.first_weight] if facts.first_weight is not None else []
    match facts.step.action:
        case K8sDeploy(track="canary", weight=weight) | K8sTraffic(weight=weight):
            if not facts.in_flight:
                weights.append(weight)
        case _:
            pass
    return max(weights, default=None)


def _missing(case: Case, reason: str) -> Finding:
    remedy = "Plan a canary (environments.canary in services.yaml)"
    if case.rules.canary.missing == "deny":
        return deny("canary.missing", reason, f"{remedy}.")
    return ask("canary.missing", reason, f"{remedy}, or approve; a first install has none.")
