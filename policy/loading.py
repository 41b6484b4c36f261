"""From the shape of a policy file to rules: references, coverage, then the file's own samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from domain.decision import Requirement
from domain.digest import digest_of
from domain.errors import SourceError, SourceProblem
from domain.plan import RiskClass
from domain.yaml_source import Located, Path, load, validate
from policy.matching import PathPattern, name_matches
from policy.raw import RawApprovals, RawDenyWindow, RawPolicy, RawRisk, RawWindow, RawWindows
from policy.raw_manifests import RawManifests
from policy.rules import (
    ApprovalRules,
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
    problems = tuple(_problems(raw, located))
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
        manifests=manifest_rules(raw.manifests),
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
            row = next(one for one in _rows_for(approvals, name, risk))
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


def _rows_for(approvals: RawApprovals, name: str, risk: RiskClass) -> Iterator[int]:
    """Indexes of the rows that fit an environment at a risk, first match first."""
    for index, row in enumerate(approvals.needed):
        if name_matches(name, row.environments) and (row.risk is None or risk in row.risk):
            yield index


def _problems(raw: RawPolicy, located: Located) -> Iterator[SourceProblem]:
    yield from _unknown_environments(raw, located)
    yield from _window_problems(raw, located)
    yield from _doubled(
        located, [(("risk", "raise", index), one.id) for index, one in enumerate(raw.risk.raise_)]
    )
    yield from _approval_problems(raw, located)


def _unknown_environments(raw: RawPolicy, located: Located) -> Iterator[SourceProblem]:
    listed = tuple(raw.environments)
    for path, names in _environment_lists(raw):
        for index, name in enumerate(names):
            if not any(name_matches(one, (name,)) for one in listed):
                close = get_close_matches(name, listed, n=1, cutoff=0.5)
                yield located.problem(
                    (*path, index),
                    f"no environment is called {name!r}",
                    (f"did you mean {close[0]!r}? " if close else "")
                    + f"`environments` lists {', '.join(listed)}",
                )


def _environment_lists(raw: RawPolicy) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for index, deny in enumerate(raw.windows.deny):
        yield ("windows", "deny", index, "environments"), deny.environments
    for index, allow in enumerate(raw.windows.allow):
        yield ("windows", "allow", index, "environments"), allow.environments
    for index, row in enumerate(raw.approvals.needed):
        yield ("approvals", "needed", index, "environments"), row.environments
    yield ("canary", "required_in"), raw.canary.required_in
    yield ("checks", "environments"), raw.checks.environments


def _window_problems(raw: RawPolicy, located: Located) -> Iterator[SourceProblem]:
    placed: list[tuple[Path, RawWindow]] = [
        *((("windows", "deny", i), one) for i, one in enumerate(raw.windows.deny)),
        *((("windows", "allow", i), one) for i, one in enumerate(raw.windows.allow)),
    ]
    yield from _doubled(located, [(path, one.id) for path, one in placed])
    for path, window in placed:
        if window.from_ is not None and window.from_ == window.to:
            yield located.problem(
                (*path, "to"),
                f"the window {window.id!r} begins and ends at the same time",
                "a window is a part of the week; to close an environment for good, take it out of "
                "`environments`",
            )


def _doubled(located: Located, placed: Iterable[tuple[Path, str]]) -> Iterator[SourceProblem]:
    seen: dict[str, int] = {}
    for path, id in placed:
        line = located.place((*path, "id"))[0]
        if id in seen:
            yield located.problem(
                (*path, "id"),
                f"the id {id!r} is used twice",
                f"line {seen[id]} has it already; decisions name rules by their id",
            )
        seen.setdefault(id, line)


def _approval_problems(raw: RawPolicy, located: Located) -> Iterator[SourceProblem]:
    used: set[int] = set()
    for name in raw.environments:
        open_risks = []
        for risk in RiskClass:
            rows = list(_rows_for(raw.approvals, name, risk))
            used.update(rows[:1])
            if not rows:
                open_risks.append(risk.value)
        if open_risks:
            yield located.problem(
                ("approvals", "needed"),
                f"nothing says how many approvals {name} needs at risk {', '.join(open_risks)}",
                f"add a row: {{environments: [{name}], count: 1, roles: [release-manager]}}",
                key=True,
            )
    for index in range(len(raw.approvals.needed)):
        if index not in used:
            yield located.problem(
                ("approvals", "needed", index),
                "this row is never reached",
                "rows above it fit first; move it up or take it out",
            )
