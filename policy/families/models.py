"""What a model-backed agent has used, against its budget; and tools that are not its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from domain.evidence import ModelUse
from policy.finding import Case, Finding, deny
from policy.rules_evidence import ModelRules


def findings(case: Case) -> Iterable[Finding]:
    """A plan made beyond its budget, or with tools it may not call, is not carried out."""
    use = case.facts.evidence.model
    return _judged(case, use) if use is not None else ()


def _judged(case: Case, use: ModelUse) -> Iterator[Finding]:
    over = overspent(case.rules.models, use)
    if over:
        yield deny(
            "models.budget",
            f"The {use.agent} agent's model used {', '.join(over)}.",
            "`/retry` plans without the model; or raise its budget under `models`.",
        )
    foreign = foreign_tools(case.rules.models, use)
    if foreign:
        yield deny(
            "models.tool",
            f"The {use.agent} agent's model called tools it may not: {', '.join(foreign)}.",
            "`/retry` plans without the model; or add them under `models`.",
        )


def overspent(models: Mapping[str, ModelRules], use: ModelUse) -> tuple[str, ...]:
    """What a use has more of than its agent's budget, in words; also asked between turns.

    An agent that has no budget may use nothing; a cost that nobody knows is above any limit.
    """
    budget = models.get(use.agent) or ModelRules(0, 0, 0.0, 0.0, ())
    over = []
    if use.turns > budget.turns:
        over.append(f"{use.turns} turns of {budget.turns}")
    if use.tokens > budget.tokens:
        over.append(f"{use.tokens} tokens of {budget.tokens}")
    if use.cost is None:
        over.append("an unknown amount of money")
    elif use.cost > budget.cost:
        over.append(f"{use.cost:g} of money, of {budget.cost:g}")
    if use.seconds > budget.seconds:
        over.append(f"{use.seconds:g} s of {budget.seconds:g} s")
    return tuple(over)


def foreign_tools(models: Mapping[str, ModelRules], use: ModelUse) -> tuple[str, ...]:
    """Tools that were called and are not the agent's."""
    budget = models.get(use.agent)
    return tuple(one for one in use.tools if budget is None or not budget.allows(one))
