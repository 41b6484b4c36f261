"""What is left of the error budget: with little of it, only fixes go out."""

from __future__ import annotations

from functools import lru_cache
from operator import attrgetter

from domain.evidence import ErrorBudget
from policy.finding import Case, Finding, answered, ask, deny, note
from policy.rules_evidence import ErrorBudgetRules

_REMAINING = attrgetter("remaining")


def findings(case: Case) -> tuple[Finding, ...]:
    """Asked before a target is changed; what has begun is judged by its own checks."""
    rules, facts = case.rules.error_budget, case.facts
    if rules is None or facts.in_flight or facts.goal != "release":
        return ()
    if case.listed not in rules.environments:
        return ()
    budgets = facts.error_budgets
    if budgets is None:
        return (_unknown(case, rules, "not read"),)
    known = [one for one in budgets if one.remaining is not None]
    judged = (_judged(case, rules, min(known, key=_REMAINING)),) if known else ()
    if len(known) == len(budgets):
        return judged
    silent = [one for one in budgets if one.remaining is None]
    why = "; ".join([f"{one.sli}: {one.reason or 'no data'}" for one in silent])
    return (_unknown(case, rules, why), *judged)


def _unknown(case: Case, rules: ErrorBudgetRules, why: str) -> Finding:
    return answered(
        rules.unknown,
        "slo.budget_unknown",
        f"What is left of the error budget of {case.place} is not known ({why}).",
        "Make the metrics reachable, then `/retry`",
    )


def _judged(case: Case, rules: ErrorBudgetRules, worst: ErrorBudget) -> Finding:
    left = (worst.remaining or 0.0) * 100
    told = _told(left, case.place, worst.sli, worst.window_seconds)
    if left >= rules.ask_below:
        return note("slo.budget_left", f"{told}.")
    fix = rules.is_fix(case.facts.change.title) or case.facts.replaces_bad
    if left < rules.deny_below and not fix:
        return deny(
            "slo.budget_spent",
            f"{told}, less than {rules.deny_below:g}%.",
            "Only fixes go out until it recovers: a change whose title says that it mends "
            f"something ({', '.join(rules.fixes)}) is asked about.",
        )
    what = "the change mends something" if fix else "people have to say yes"
    return ask(
        "slo.budget_low",
        f"{told}, less than {rules.ask_below:g}%; {what}.",
        "Look at what used the budget up, then approve or reject.",
    )


@lru_cache(maxsize=1024)
def _told(left: float, place: str, sli: str, seconds: float) -> str:
    return f"{left:.0f}% of the error budget of {place} is left ({sli}, {seconds / 86400:g} days)"
