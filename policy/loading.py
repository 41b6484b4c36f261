"""From the shape of a policy file to rules: references, coverage, then the file's own samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from zoneinfo import ZoneInfo

from domain.decision import Requirement
from domain.digest import digest_of
from domain.errors import SourceError, SourceProblem
from domain.plan import RiskClass
from domain.yaml_source import Located, Path, decoded, load, validate
from policy.calendars import BrokenCalendar, CalendarTimes, FreezeCalendar, read_calendar
from policy.loading_evidence import (
    Resolve,
    cost_rules,
    error_budget_rules,
    model_rules,
    secret_rules,
    vulnerability_rules,
)
from policy.matching import name_matches
from policy.problems import problems_of, rows_for
from policy.raw import RawPolicy
from policy.raw_approvals import RawApprovals
from policy.raw_autonomy import RawAutonomy
from policy.raw_manifests import RawManifests
from policy.raw_risk import RawBlastRadius, RawRaise, RawRisk
from policy.raw_windows import RawDenyWindow, RawWindow
from policy.recurrence import CronTimes, Holidays, Part, WeekRange
from policy.rules import (
    ApprovalRules,
    AutonomyRules,
    BlastRadius,
    CanaryRules,
    CheckRules,
    ManifestRules,
    OverrideRules,
    RaiseRule,
    RiskRules,
    Rules,
    WindowRules,
)
from policy.rules_evidence import Listed, RepositoryRules, SbomRules, SigningRules
from policy.samples import failed_samples
from policy.schedule import Window


def rules_of(text: str | bytes, file: str, read: Callable[[str], bytes]) -> Rules:
    """What `rules.load_policy` promises."""
    located = load(decoded(text, file), file)
    raw = validate(RawPolicy, located)
    calendars, missing = read_calendars(raw, located, read)
    problems = (*missing, *problems_of(raw, located))
    if problems:
        raise SourceError(tuple(sorted(problems, key=lambda one: (one.line, one.column))))
    rules = _rules(raw, calendars)
    failed = tuple(failed_samples(rules, raw.samples, located))
    if failed:
        raise SourceError(failed)
    return replace(rules, samples=len(raw.samples))


def read_calendars(
    raw: RawPolicy, located: Located, read: Callable[[str], bytes]
) -> tuple[dict[str, FreezeCalendar], tuple[SourceProblem, ...]]:
    """The freeze calendars that windows name; a problem for each that cannot be followed."""
    calendars: dict[str, FreezeCalendar] = {}
    problems: list[SourceProblem] = []
    for index, window in enumerate(raw.windows.deny):
        name = window.calendar
        if name is None or name in calendars:
            continue
        path: Path = ("windows", "deny", index, "calendar")
        try:
            calendars[name] = read_calendar(read(name), name)
        except OSError as error:
            why = error.strerror or str(error)
            hint = "the path counts from the folder of this file; export the calendar there"
            problems.append(
                located.problem(path, f"the calendar {name!r} cannot be read: {why}", hint)
            )
        except BrokenCalendar as error:
            hint = "export it anew as iCalendar (.ics), or take the event out"
            problems.append(
                located.problem(path, f"the calendar {name!r} cannot be followed: {error}", hint)
            )
    return calendars, tuple(problems)


def _digest(raw: RawPolicy, calendars: Mapping[str, FreezeCalendar]) -> str:
    """Of everything that may change a decision: the file without its samples, and calendars."""
    body = raw.model_dump(mode="json", exclude={"samples"})
    if not calendars:
        return digest_of(body)
    return digest_of({"policy": body, "calendars": {k: v.digest for k, v in calendars.items()}})


def _rules(raw: RawPolicy, calendars: Mapping[str, FreezeCalendar]) -> Rules:
    def listed(patterns: tuple[str, ...]) -> Listed:
        return frozenset(one for one in raw.environments if name_matches(one, patterns))

    return Rules(
        digest=_digest(raw, calendars),
        superseded_in_flight=raw.releases.superseded_in_flight,
        manual_rollback=raw.rollback.manual,
        risk=_risk(raw, raw.risk, listed),
        windows=WindowRules(
            deny=tuple(window_of(one, raw.windows.timezone, calendars) for one in raw.windows.deny),
            allow=tuple(
                window_of(one, raw.windows.timezone, calendars) for one in raw.windows.allow
            ),
            when_closed=raw.windows.when_closed,
            in_flight=raw.releases.in_flight_window,
        ),
        approvals=_approvals(raw),
        canary=CanaryRules(
            max_first_weight=raw.canary.max_first_weight,
            required_in=listed(raw.canary.required_in),
            missing=raw.canary.missing,
            blue_green=raw.canary.blue_green,
        ),
        slo={
            (phase, kind): answer
            for phase, row in raw.slo.model_dump(include={"pre", "canary", "post"}).items()
            for kind, answer in row.items()
        },
        slo_burn=raw.slo.burn,
        slo_replaces_bad=raw.slo.replaces_bad,
        error_budget=error_budget_rules(raw.slo.error_budget, listed),
        checks=CheckRules(listed(raw.checks.environments), raw.checks.required),
        vulnerabilities=vulnerability_rules(raw.security, listed),
        secrets=secret_rules(raw.security.secrets, listed),
        signing=SigningRules(
            listed(raw.signing.required_in), raw.signing.unverified, raw.signing.unknown
        ),
        sbom=SbomRules(listed(raw.sbom.required_in), raw.sbom.absent, raw.sbom.unknown),
        cost=cost_rules(raw.cost, listed),
        models={agent: model_rules(one) for agent, one in raw.models.items()},
        repositories=RepositoryRules(
            raw.repositories.own_policy == "tighten",
            raw.repositories.without_forge,
            raw.repositories.required_in,
            raw.repositories.unknown,
            raw.repositories.broken,
        ),
        overrides=OverrideRules(
            raw.overrides.roles,
            raw.overrides.min_reason,
            raw.overrides.max_duration,
            raw.overrides.second_person,
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


def _risk(raw: RawPolicy, risk: RawRisk, listed: Resolve) -> RiskRules:
    return RiskRules(
        environments={name: one.risk for name, one in raw.environments.items()},
        unknown_paths=risk.unknown_paths,
        without_canary=risk.without_canary,
        many_paths=(risk.many_paths.more_than, risk.many_paths.to) if risk.many_paths else None,
        many_lines=(risk.many_lines.more_than, risk.many_lines.to) if risk.many_lines else None,
        blast_radius=_blast_radius(risk.blast_radius, listed),
        first_install=risk.irreversible.first_install if risk.irreversible else None,
        raises=(*raises_of(risk.raise_), *_irreversible(risk)),
    )


def raises_of(raises: Iterable[RawRaise]) -> tuple[RaiseRule, ...]:
    """Rows of paths that raise the risk."""
    return tuple(RaiseRule.of(one.id, one.paths, one.to) for one in raises)


def _irreversible(risk: RawRisk) -> tuple[RaiseRule, ...]:
    one = risk.irreversible
    if one is None or not one.paths:
        return ()
    return (RaiseRule.of("irreversible", one.paths, one.to),)


def _blast_radius(one: RawBlastRadius | None, listed: Resolve) -> BlastRadius | None:
    if one is None:
        return None
    return BlastRadius(listed(one.environments), one.traffic, one.replicas, one.services, one.to)


def window_of(one: RawWindow, zone: ZoneInfo, calendars: Mapping[str, FreezeCalendar]) -> Window:
    """A window with all its parts; `zone` where it names none."""
    zone = one.timezone or zone
    parts: list[Part] = []
    if one.from_ is not None and one.to is not None:
        parts.append(WeekRange(zone, one.from_, one.to))
    if one.cron is not None and one.lasts is not None:
        parts.append(CronTimes(zone, one.cron, round(one.lasts.total_seconds()) // 60))
    if isinstance(one, RawDenyWindow) and one.holidays is not None:
        parts.append(Holidays(zone, one.holidays))
    if isinstance(one, RawDenyWindow) and one.calendar is not None:
        parts.append(CalendarTimes(calendars[one.calendar], zone))
    return Window(one.id, zone, tuple(parts), one.environments, one.services)


def _approvals(raw: RawPolicy) -> ApprovalRules:
    approvals = raw.approvals
    needed: dict[tuple[str, RiskClass], Requirement | None] = {}
    for name in raw.environments:
        for risk in RiskClass:
            row = next(one for one in rows_for(approvals, name, risk))
            need = approvals.needed[row]
            needed[name, risk] = (
                _requirement(
                    approvals, need.count, need.roles, teams=need.teams, owners=need.code_owners
                )
                if need.count
                else None
            )
    return ApprovalRules(
        needed=needed,
        otherwise=_requirement(approvals, approvals.otherwise.count, approvals.otherwise.roles),
        merger_may_approve=approvals.merger_may_approve,
        unknown_owners=approvals.unknown_owners,
    )


def _requirement(
    approvals: RawApprovals,
    count: int,
    roles: tuple[str, ...],
    *,
    teams: tuple[str, ...] = (),
    owners: bool = False,
) -> Requirement:
    escalate = approvals.escalate_after
    return Requirement(
        count=count,
        roles=roles,
        teams=teams,
        code_owners=owners,
        expires_seconds=approvals.expires.total_seconds(),
        escalate_seconds=escalate.total_seconds() if escalate is not None else None,
        escalate_roles=approvals.escalate_to,
        allow_author=approvals.author_may_approve,
    )
