"""Sections about evidence, made into rules."""

from __future__ import annotations

from policy.raw_delivery import RawErrorBudget
from policy.raw_security import RawException, RawSecrets, RawSecurity
from policy.raw_spending import RawBudget, RawCost
from policy.rules_evidence import (
    CostRules,
    ErrorBudgetRules,
    ExceptionRule,
    ModelRules,
    SecretRules,
    VulnerabilityRules,
)


def vulnerability_rules(raw: RawSecurity) -> VulnerabilityRules:
    """The section `security`, without secrets."""
    return VulnerabilityRules(
        environments=raw.environments,
        required_in=raw.required_in,
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


def secret_rules(raw: RawSecrets) -> SecretRules:
    """The section `security.secrets`."""
    return SecretRules(raw.found, raw.required_in, raw.missing)


def cost_rules(raw: RawCost) -> CostRules:
    """The section `cost`."""
    return CostRules(
        environments=raw.environments,
        required_in=raw.required_in,
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


def error_budget_rules(raw: RawErrorBudget | None) -> ErrorBudgetRules | None:
    """The section `slo.error_budget`."""
    if raw is None:
        return None
    return ErrorBudgetRules(
        environments=raw.environments,
        seconds=raw.window.total_seconds(),
        ask_below=raw.ask_below,
        deny_below=raw.deny_below,
        fixes=raw.fixes,
        unknown=raw.unknown,
    )
