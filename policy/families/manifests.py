"""What is wrong with the objects that a step would write."""

from __future__ import annotations

from collections.abc import Iterator

from policy.finding import Case, Finding, ask, deny


def findings(case: Case) -> Iterator[Finding]:
    """Broken rules for manifests, each with path and fix; objects that could not be judged."""
    facts = case.facts
    if facts.manifests is None:
        yield _unknown(case)
        return
    for one in facts.manifests:
        say = deny if one.bearing == "deny" else ask
        rule = f"manifests.{one.rule}"
        yield say(rule, f"{one.object}, {one.path}: {one.message}", one.fix)


def _unknown(case: Case) -> Finding:
    why = case.facts.manifests_unknown or "it was not found out"
    reason = f"What would be written for {case.place} could not be judged: {why}."
    remedy = "Make it readable, then `/retry`"
    if case.rules.manifests.unreadable == "deny":
        return deny("manifests.unknown", reason, f"{remedy}.")
    return ask("manifests.unknown", reason, f"{remedy}; or look at it, and approve.")
