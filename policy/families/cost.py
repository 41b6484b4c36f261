"""What the change would cost a month, against a limit and against now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.evidence import CostEstimate
from policy.finding import Case, Finding, answered, note

MOST_NAMED = 5


def findings(case: Case) -> Iterable[Finding]:
    """No estimate where one has to be; resources without a price; above a limit."""
    rules, cost = case.rules.cost, case.facts.evidence.cost
    if cost is None:
        return (_missing(case),) if case.listed in rules.required_in else ()
    return _judged(case, cost) if case.listed in rules.environments else ()


def _missing(case: Case) -> Finding:
    return answered(
        case.rules.cost.unknown,
        "cost.unknown",
        f"Nobody has estimated what {case.place} would cost.",
        "Let the plan be priced, then `/retry`",
    )


def _judged(case: Case, cost: CostEstimate) -> Iterator[Finding]:
    rules = case.rules.cost
    if cost.unpriced:
        more = len(cost.unpriced) - MOST_NAMED
        yield answered(
            rules.unpriced,
            "cost.unpriced",
            f"Without a price: {', '.join(cost.unpriced[:MOST_NAMED])}"
            f"{f' and {more} more' * (more > 0)}.",
            "Give them a price (usage file), or leave them out of the change",
        )
    if cost.currency != rules.currency:
        yield answered(
            rules.unpriced,
            "cost.unpriced",
            f"The estimate is in {cost.currency}, the limits are in {rules.currency}.",
            f"Estimate in {rules.currency}",
        )
        return
    if cost.monthly is None or cost.before is None:
        what = "after the change" if cost.monthly is None else "now"
        yield answered(
            rules.unknown,
            "cost.unknown",
            f"It is not known what {case.place} costs {what}.",
            "Let the plan be priced with its current state, then `/retry`",
        )
    over = list(_over(case, cost))
    if over:
        yield answered(
            rules.over,
            "cost.over",
            f"{case.place} would cost {'; '.join(over)}.",
            "Make it smaller, or raise the limit under `cost`",
        )
    elif cost.monthly is not None:
        yield note("cost.within", f"It would cost {cost.monthly:,.2f} {cost.currency} a month.")


def _over(case: Case, cost: CostEstimate) -> Iterator[str]:
    """Limits that are passed, in words."""
    rules = case.rules.cost
    if cost.monthly is None:
        return
    if cost.monthly > rules.most_monthly:
        yield (f"{cost.monthly:,.2f} {cost.currency} a month, more than {rules.most_monthly:,.2f}")
    if cost.before is None:
        return
    grown = cost.monthly - cost.before
    # Growth from nothing has no percentage; any is more than the limit allows.
    percent = grown / cost.before * 100 if cost.before > 0 else (float("inf") if grown > 0 else 0.0)
    if percent > rules.most_growth:
        told = f"{percent:.1f}%" if cost.before > 0 else "from nothing"
        yield (
            f"{grown:,.2f} {cost.currency} more than now ({told}), where {rules.most_growth:g}% "
            "is allowed"
        )
