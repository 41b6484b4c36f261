"""Rules: `policy.yaml` made into frozen values that the evaluator can follow without parsing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from domain.decision import Requirement
from domain.plan import RiskClass
from policy.matching import PathPattern
from policy.rules_evidence import (
    Answer,
    CostRules,
    ErrorBudgetRules,
    Listed,
    ModelRules,
    RepositoryRules,
    SbomRules,
    SecretRules,
    SigningRules,
    VulnerabilityRules,
)
from policy.schedule import Window


@dataclass(frozen=True, slots=True)
class RaiseRule:
    """Changed paths that match any of the patterns make a change at least `to`."""

    id: str
    patterns: tuple[PathPattern, ...]
    to: RiskClass
    fits: re.Pattern[str]
    """Any of the patterns: most paths fit none, which one look finds out."""

    @classmethod
    def of(cls, id: str, paths: Iterable[str], to: RiskClass) -> RaiseRule:
        """The rule a person wrote."""
        patterns = tuple(PathPattern.of(path) for path in paths)
        either = "|".join(f"(?:{one.regex.pattern})" for one in patterns)
        return cls(id, patterns, to, re.compile(either, re.IGNORECASE | re.DOTALL))


@dataclass(frozen=True, slots=True)
class BlastRadius:
    """Limits of what a mistake may reach before the class is at least `to`; None: no limit."""

    environments: Listed
    traffic: int | None
    replicas: int | None
    services: int | None
    to: RiskClass


@dataclass(frozen=True, slots=True)
class RiskRules:
    """The risk class of each environment, and what raises it."""

    environments: Mapping[str, RiskClass]
    unknown_paths: RiskClass
    without_canary: RiskClass
    many_paths: tuple[int, RiskClass] | None
    many_lines: tuple[int, RiskClass] | None
    blast_radius: BlastRadius | None
    first_install: RiskClass | None
    """Where nothing runs yet; None: it does not count."""
    raises: tuple[RaiseRule, ...]

    def __hash__(self) -> int:
        """Cheap, as that of `WindowRules`."""
        return len(self.raises)


@dataclass(frozen=True, slots=True)
class WindowRules:
    """Change windows; deny beats allow."""

    deny: tuple[Window, ...]
    allow: tuple[Window, ...]
    when_closed: Literal["wait", "deny"]
    in_flight: Literal["finish", "hold"]

    def __hash__(self) -> int:
        """Cheap, since decisions look things up by it; a process has few policies at a time."""
        return len(self.deny)


@dataclass(frozen=True, slots=True)
class ApprovalRules:
    """What is asked for, by environment name (as listed) and risk class."""

    needed: Mapping[tuple[str, RiskClass], Requirement | None]
    """None: no approval needed there."""
    otherwise: Requirement
    """For questions where no approval is needed as a rule."""
    merger_may_approve: bool
    unknown_owners: Answer = "approve"
    """Code owners are wanted, and it is not known who they are."""

    def __hash__(self) -> int:
        """Cheap, as that of `WindowRules`."""
        return len(self.needed)


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """The limits of the first canary step. Weights in percent."""

    max_first_weight: int
    required_in: Listed
    missing: Answer
    blue_green: Literal["deny", "approve", "allow"] = "deny"
    """All traffic at once, to a version at full size."""


@dataclass(frozen=True, slots=True)
class CheckRules:
    """What CI has to say."""

    environments: Listed
    required: tuple[str, ...]
    also: tuple[str, ...] = ()
    """Required as well, by the repository; they do not say that nothing else counts."""


@dataclass(frozen=True, slots=True)
class OverrideRules:
    """Who may lift a window, for how long."""

    roles: tuple[str, ...]
    min_reason: int
    max_duration: timedelta
    second_person: tuple[RiskClass, ...] = ()
    """Risk classes at which two people have to override."""


@dataclass(frozen=True, slots=True)
class AutonomyRules:
    """When to stop trying by itself."""

    quarantine_after: int
    quarantine_within: timedelta
    flapping_rollbacks: int
    flapping_within: timedelta
    flapping_then: Answer
    alert_severities: frozenset[str]
    fast_rollback: timedelta


@dataclass(frozen=True, slots=True)
class ManifestRules:
    """What Kubernetes objects have to be like. Rules that are ignored are not in `bearing`."""

    bearing: Mapping[str, Answer]
    """By the names of the built-in rules: what breaking one does to a release."""
    unreadable: Answer
    adopted: Literal["image", "all"]
    registries: tuple[str, ...]
    resources: tuple[str, ...]
    """`requests.cpu` and so on."""
    probes: tuple[str, ...]
    exempt_namespaces: tuple[str, ...]
    exempt_images: tuple[str, ...]
    constraints: tuple[str, ...]
    """Folders, from the policy file's own; read by whoever loads the policy."""
    texts: tuple[tuple[str, str], ...] = ()
    """(file, text) of what those folders hold."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All of a policy file, ready to be evaluated. Equal meaning gives an equal digest."""

    digest: str
    superseded_in_flight: Literal["finish", "stop"]
    manual_rollback: Literal["allow", "approve"]
    risk: RiskRules
    windows: WindowRules
    approvals: ApprovalRules
    canary: CanaryRules
    slo: Mapping[tuple[str, str], Answer]
    """By phase and verdict kind."""
    slo_burn: Literal["rollback", "page"]
    """What a version that burns its error budget after full rollout leads to."""
    slo_replaces_bad: Literal["allow", "approve"]
    """A check before the change did not pass on a version that is known to be bad."""
    error_budget: ErrorBudgetRules | None
    checks: CheckRules
    vulnerabilities: VulnerabilityRules
    secrets: SecretRules
    signing: SigningRules
    sbom: SbomRules
    cost: CostRules
    models: Mapping[str, ModelRules]
    """By agent; one that is not named uses no model."""
    repositories: RepositoryRules
    overrides: OverrideRules
    autonomy: AutonomyRules
    manifests: ManifestRules
    team_roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Roles of the members of each team on the forge, by `organisation/team` in small letters."""
    samples: int = 0
    """How many cases the file states and decides as they state."""
    roles: frozenset[str] = field(init=False, repr=False, compare=False)
    """Every role that the policy names: asked for with each request."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "roles", frozenset(self._roles()))

    @property
    def teams(self) -> tuple[str, ...]:
        """Every team that membership in has to be looked up for."""
        asked = (one.teams for one in self.approvals.needed.values() if one is not None)
        named = {team.lower() for teams in asked for team in teams}
        return tuple(sorted({*self.team_roles, *named}))

    @property
    def override_roles(self) -> tuple[str, ...]:
        """Roles that may override, for the pages and the API."""
        return self.overrides.roles

    @property
    def override_seconds(self) -> float:
        """How long an override lasts at most, in seconds."""
        return self.overrides.max_duration.total_seconds()

    @property
    def override_reason_letters(self) -> int:
        """Letters an override's reason needs at least."""
        return self.overrides.min_reason

    def _roles(self) -> Iterator[str]:
        yield from self.overrides.roles
        for given in self.team_roles.values():
            yield from given
        for one in (self.approvals.otherwise, *self.approvals.needed.values()):
            if one is not None:
                yield from (*one.roles, *one.escalate_roles)


def no_files(name: str) -> bytes:
    """For a policy that stands alone: there is nothing beside it."""
    raise FileNotFoundError(f"{name} cannot be read here: the policy came without its folder")


def load_policy(text: str | bytes, file: str, read: Callable[[str], bytes] = no_files) -> Rules:
    """Rules from a policy file; `file` is only named in messages.

    `read` gives the bytes of a file that the policy names (a freeze calendar), by its path from the
    policy's folder; OSError when it cannot. Raises SourceError, with line, column and hint for each
    problem: not good YAML, keys or values that mean nothing, references to environments that are
    not listed, environments without an approval row, calendars that cannot be followed, and samples
    that the policy does not decide as they state.
    """
    from policy.loading import rules_of  # it runs samples through the evaluator, which reads Rules

    return rules_of(text, file, read)
