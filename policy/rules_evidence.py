"""Rules about evidence: what has to be known about an artefact, a service and a change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from typing import Literal

from domain.evidence import Vulnerability
from policy.matching import name_matches

Answer = Literal["approve", "deny"]
Listed = frozenset[str]
"""Environments by the names under which the policy lists them; its patterns are resolved."""


@dataclass(frozen=True, slots=True)
class ExceptionRule:
    """A vulnerability that is let pass until the end of a day."""

    finding: str
    package: str | None
    services: tuple[str, ...]
    environments: tuple[str, ...]
    reason: str
    owner: str
    expires: date

    def covers(self, found: Vulnerability, environment: str, service: str) -> bool:
        """Whether it is about this finding there, whatever the day."""
        return (
            self.finding.casefold() in found.names
            and (self.package is None or self.package.casefold() == found.package.casefold())
            and name_matches(environment, self.environments)
            and name_matches(service, self.services)
        )


@dataclass(frozen=True, slots=True)
class VulnerabilityRules:
    """What becomes of vulnerabilities, and of scans that are not there."""

    environments: Listed
    required_in: Listed
    missing: Answer
    deny_from: float
    ask_from: float
    unscored: Answer
    known_exploited: Answer
    epss: tuple[float, Answer] | None
    vex_trusted: tuple[str, ...]
    exceptions: tuple[ExceptionRule, ...]


@dataclass(frozen=True, slots=True)
class SecretRules:
    """What becomes of secrets in a change, and of changes that nobody looked through."""

    found: Answer
    required_in: Listed
    missing: Answer


@dataclass(frozen=True, slots=True)
class SigningRules:
    """Where a verified signature has to be there."""

    required_in: Listed
    unverified: Answer
    unknown: Answer


@dataclass(frozen=True, slots=True)
class SbomRules:
    """Where a bill of materials has to be there."""

    required_in: Listed
    absent: Answer
    unknown: Answer


@dataclass(frozen=True, slots=True)
class CostRules:
    """Limits of the monthly cost, in `currency` and in percent of growth."""

    environments: Listed
    required_in: Listed
    currency: str
    most_monthly: float
    most_growth: float
    over: Answer
    unpriced: Answer
    unknown: Answer


@dataclass(frozen=True, slots=True)
class ModelRules:
    """What one run of an agent may use of a model, and which tools it may call."""

    turns: int
    tokens: int
    cost: float
    seconds: float
    tools: tuple[str, ...]

    def allows(self, tool: str) -> bool:
        """Whether the agent may call a tool."""
        return name_matches(tool, self.tools)


@dataclass(frozen=True, slots=True)
class ErrorBudgetRules:
    """What is left of the error budget, in percent, below which people are asked or it denies."""

    environments: Listed
    seconds: float
    ask_below: float
    deny_below: float
    fixes: tuple[str, ...]
    unknown: Answer

    def is_fix(self, title: str) -> bool:
        """Whether a change says of itself that it mends something."""
        return any(fnmatchcase(title.casefold(), one.casefold()) for one in self.fixes)


@dataclass(frozen=True, slots=True)
class RepositoryRules:
    """Whether the repositories' own policies are asked for."""

    tighten: bool
    without_forge: Literal["ignore", "approve", "deny"]
    required_in: tuple[str, ...]
    unknown: Answer
    broken: Answer
