"""What is wrong with the objects that a step would write."""

from __future__ import annotations

from collections.abc import Iterable

from policy.facts import ManifestFact
from policy.finding import Case, Finding, ask, deny


def findings(case: Case) -> Iterable[Finding]:
    """Broken rules for manifests, each with path and fix; objects that could not be judged."""
    broken = case.facts.manifests
    return [_broken(one) for one in broken] if broken is not None else (_unknown(case),)


def _broken(one: ManifestFact) -> Finding:
    say = deny if one.bearing == "deny" else ask
    return say(f"manifests.{one.rule}", f"{one.object}, {one.path}: {one.message}", one.fix)


def _unknown(case: Case) -> Finding:
    why = case.facts.manifests_unknown or "it was not found out"
    reason = f"What would be written for {case.place} could not be judged: {why}."
    remedy = "Make it readable, then `/retry`"
    if case.rules.manifests.unreadable == "deny":
        return deny("manifests.unknown", reason, f"{remedy}.")
    return ask("manifests.unknown", reason, f"{remedy}; or look at it, and approve.")
