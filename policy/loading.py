"""From the shape of a policy file to rules: references, coverage, then the file's own samples."""

from __future__ import annotations

from domain.decision import Requirement
from domain.digest import digest_of
from domain.errors import SourceError
from domain.plan import RiskClass
from domain.yaml_source import load, validate
from policy.matching import PathPattern
from policy.problems import problems_of, rows_for
from policy.raw import RawPolicy
from policy.raw_approvals import RawApprovals
from policy.raw_autonomy import RawAutonomy
from policy.raw_manifests import RawManifests
from policy.raw_risk import RawRisk
from policy.raw_windows import RawDenyWindow, RawWindow, RawWindows
from policy.rules import (
    ApprovalRules,
    AutonomyRules,
    CanaryRules,
    CheckRules,
    ManifestRules,
    OverrideRules,
    RaiseRule,
    RiskRules,
    Rules,
    WindowRules,
)
from policy.samples import failed_samples
from policy.schedule import Window


def rules_of(text: str, file: str) -> Rules:
    """What `rules.load_policy` promises."""
    located = load(text, file)
    raw = validate(RawPolicy, located)
    problems = tuple(problems_of(raw, located))
    if problems:
        raise SourceError(tuple(sorted(problems, key=lambda one: (one.line, one.column))))
    rules = _rules(raw)
    failed = tuple(failed_samples(rules, raw.samples, located))
    if failed:
        raise SourceError(failed)
    return rules


def _rules(raw: RawPolicy) -> Rules:
    return Rules(
        digest=digest_of(raw.model_dump(mode="json", exclude={"samples"})),
        superseded_in_flight=raw.releases.superseded_in_flight,
        manual_rollback=raw.rollback.manual,
        risk=_risk(raw, raw.risk),
        windows=WindowRules(
            deny=tuple(_window(raw.windows, one) for one in raw.windows.deny),
            allow=tuple(_window(raw.windows, one) for one in raw.windows.allow),
            when_closed=raw.windows.when_closed,
            in_flight=raw.releases.in_flight_window,
        ),
        approvals=_approvals(raw),
        canary=CanaryRules(
            max_first_weight=raw.canary.max_first_weight,
            required_in=raw.canary.required_in,
            missing=raw.canary.missing,
        ),
        slo={
            (phase, kind): answer
            for phase, row in raw.slo.model_dump().items()
            for kind, answer in row.items()
        },
        checks=CheckRules(raw.checks.environments, raw.checks.required),
        overrides=OverrideRules(
            raw.overrides.roles, raw.overrides.min_reason, raw.overrides.max_duration
        ),
        team_roles={team.lower(): roles for team, roles in raw.roles.teams.items()},
        autonomy=autonomy_rules(raw.autonomy),
        manifests=manifest_rules(raw.manifests),
    )


def autonomy_rules(raw: RawAutonomy) -> AutonomyRules:
    """The section `autonomy`."""
    return AutonomyRules(
        quarantine_after=raw.quarantine.after,
        quarantine_within=raw.quarantine.within,
        flapping_rollbacks=raw.flapping.rollbacks,
        flapping_within=raw.flapping.within,
        flapping_then=raw.flapping.then,
        alert_severities=frozenset(raw.alerts),
        fast_rollback=raw.fast_rollback,
    )


def manifest_rules(raw: RawManifests) -> ManifestRules:
    """The section `manifests`, without the rules that are ignored."""
    bearings = raw.rules.model_dump(by_alias=True)
    return ManifestRules(
        bearing={rule: bearing for rule, bearing in bearings.items() if bearing != "ignore"},
        unreadable=raw.unreadable,
        adopted=raw.adopted,
        registries=raw.registries,
        resources=raw.resources,
        probes=raw.probes,
        exempt_namespaces=raw.exempt.namespaces,
        exempt_images=raw.exempt.images,
        constraints=raw.constraints,
    )


def _risk(raw: RawPolicy, risk: RawRisk) -> RiskRules:
    return RiskRules(
        environments={name: one.risk for name, one in raw.environments.items()},
        unknown_paths=risk.unknown_paths,
        without_canary=risk.without_canary,
        many_paths=(risk.many_paths.more_than, risk.many_paths.to) if risk.many_paths else None,
        raises=tuple(
            RaiseRule(one.id, tuple(PathPattern.of(path) for path in one.paths), one.to)
            for one in risk.raise_
        ),
    )


def _window(windows: RawWindows, one: RawWindow) -> Window:
    return Window(
        id=one.id,
        zone=one.timezone or windows.timezone,
        start=one.from_,
        end=one.to,
        holidays=one.holidays if isinstance(one, RawDenyWindow) else None,
        environments=one.environments,
        services=one.services,
    )


def _approvals(raw: RawPolicy) -> ApprovalRules:
    approvals = raw.approvals
    needed: dict[tuple[str, RiskClass], Requirement | None] = {}
    for name in raw.environments:
        for risk in RiskClass:
            row = next(one for one in rows_for(approvals, name, risk))
            need = approvals.needed[row]
            needed[name, risk] = (
                _requirement(approvals, need.count, need.roles) if need.count else None
            )
    return ApprovalRules(
        needed=needed,
        otherwise=_requirement(approvals, approvals.otherwise.count, approvals.otherwise.roles),
        merger_may_approve=approvals.merger_may_approve,
    )


def _requirement(approvals: RawApprovals, count: int, roles: tuple[str, ...]) -> Requirement:
    escalate = approvals.escalate_after
    return Requirement(
        count=count,
        roles=roles,
        expires_seconds=approvals.expires.total_seconds(),
        escalate_seconds=escalate.total_seconds() if escalate is not None else None,
        escalate_roles=approvals.escalate_to,
        allow_author=approvals.author_may_approve,
    )
