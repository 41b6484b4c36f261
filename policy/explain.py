"""A decision told as plain text: what was asked, what came out, and every rule that spoke."""

from __future__ import annotations

from domain.decision import Decision, MatchedRule, Outcome
from policy.facts import Facts

_HEADS = {
    Outcome.DENY: "denied by",
    Outcome.WAIT: "waits for",
    Outcome.NEEDS_APPROVAL: "asks for approval",
    Outcome.ALLOW: "allowed by",
}


def explain(decision: Decision, facts: Facts) -> list[str]:
    """Lines of a tree, without colours or markup; texts from outside are kept to one line each."""
    step = facts.step
    where = f"{facts.service} in {facts.environment}" if facts.environment else "no target"
    lines = [
        f"{decision.outcome.value}: {_line(step.title)}",
        f"├─ asked   {step.action.kind}, {where}, goal {facts.goal}",
        f"├─ at      {decision.at:%Y-%m-%d %H:%M:%S} UTC, risk {decision.risk.value}, "
        f"policy {decision.policy_digest[:12]}",
    ]
    if decision.until is not None:
        lines.append(f"├─ until   {decision.until:%Y-%m-%d %H:%M:%S} UTC")
    need = decision.requirement
    if need is not None:
        roles = " or ".join(need.roles) or "anyone"
        lines.append(
            f"├─ needs   {need.count} by {roles}, within {need.expires_seconds / 3600:g} h"
        )
    groups = [one for one in _HEADS if any(rule.outcome is one for rule in decision.rules)]
    for index, outcome in enumerate(groups):
        last = index == len(groups) - 1
        rules = [one for one in decision.rules if one.outcome is outcome]
        lines.append(f"{'└─' if last else '├─'} {_HEADS[outcome]}")
        lines += [("   " if last else "│  ") + line for line in _rules(rules)]
    return lines


def _rules(rules: list[MatchedRule]) -> list[str]:
    lines: list[str] = []
    for index, rule in enumerate(rules):
        last = index == len(rules) - 1
        lines.append(f"{'└─' if last else '├─'} [{rule.rule}] {_line(rule.reason)}")
        if rule.remedy:
            lines.append(f"{'   ' if last else '│  '}   to pass: {_line(rule.remedy)}")
    return lines


def _line(text: str) -> str:
    """One printable line: control characters would let a title rewrite the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in " ".join(text.split()))
