"""Sections about evidence, made into rules."""

from __future__ import annotations

from collections.abc import Callable

from policy.raw_delivery import RawErrorBudget
from policy.raw_security import RawException, RawSecrets, RawSecurity
from policy.raw_spending import RawBudget, RawCost
from policy.rules_evidence import (
    CostRules,
    ErrorBudgetRules,
    ExceptionRule,
    Listed,
    ModelRules,
    SecretRules,
    VulnerabilityRules,
)

Resolve = Callable[[tuple[str, ...]], Listed]
"""From patterns to the environments that the policy lists and that fit one of them."""


def vulnerability_rules(raw: RawSecurity, listed: Resolve) -> VulnerabilityRules:
    """The section `security`, without secrets."""
    return VulnerabilityRules(
        environments=listed(raw.environments),
        required_in=listed(raw.required_in),
        missing=raw.missing,
        deny_from=raw.cvss.deny_from,
        ask_from=raw.cvss.ask_from,
        unscored=raw.cvss.unscored,
        known_exploited=raw.known_exploited,
        epss=(raw.epss.at_least, raw.epss.answer) if raw.epss is not None else None,
        vex_trusted=raw.vex_trusted,
        exceptions=tuple(_exception(one) for one in raw.exceptions),
    )


def _exception(raw: RawException) -> ExceptionRule:
    return ExceptionRule(
        finding=raw.finding,
        package=raw.package,
        services=raw.services,
        environments=raw.environments,
        reason=raw.reason,
        owner=raw.owner,
        expires=raw.expires,
    )


def secret_rules(raw: RawSecrets, listed: Resolve) -> SecretRules:
    """The section `security.secrets`."""
    return SecretRules(raw.found, listed(raw.required_in), raw.missing)


def cost_rules(raw: RawCost, listed: Resolve) -> CostRules:
    """The section `cost`."""
    return CostRules(
        environments=listed(raw.environments),
        required_in=listed(raw.required_in),
        currency=raw.currency,
        most_monthly=raw.most_monthly,
        most_growth=raw.most_growth,
        over=raw.over,
        unpriced=raw.unpriced,
        unknown=raw.unknown,
    )


def model_rules(raw: RawBudget) -> ModelRules:
    """One agent of the section `models`."""
    return ModelRules(raw.turns, raw.tokens, raw.cost, raw.wall_time.total_seconds(), raw.tools)


def error_budget_rules(raw: RawErrorBudget | None, listed: Resolve) -> ErrorBudgetRules | None:
    """The section `slo.error_budget`."""
    if raw is None:
        return None
    return ErrorBudgetRules(
        environments=listed(raw.environments),
        seconds=raw.window.total_seconds(),
        ask_below=raw.ask_below,
        deny_below=raw.deny_below,
        fixes=raw.fixes,
        unknown=raw.unknown,
    )
