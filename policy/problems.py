"""What is wrong between the sections of a policy file: names that are not listed, rows that are
missing or never reached, ids used twice. Each finding has its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from domain.errors import SourceProblem
from domain.plan import RiskClass
from domain.yaml_source import Located, Path
from policy.matching import may_meet, name_matches
from policy.raw import RawPolicy
from policy.raw_approvals import RawApprovals
from policy.raw_security import RawException
from policy.raw_windows import RawWindow
from policy.recurrence import begins_a_day

MOST_BEGINNINGS = 24
"""Of a window, in a day: the search for an opening goes through each of them."""


def problems_of(raw: RawPolicy, located: Located) -> Iterator[SourceProblem]:
    yield from _unknown_environments(raw, located)
    yield from _window_problems(raw, located)
    yield from _doubled(
        located, [(("risk", "raise", index), one.id) for index, one in enumerate(raw.risk.raise_)]
    )
    yield from _approval_problems(raw, located)
    yield from _exception_problems(raw.security.exceptions, located)
    for path, inner, outer in (
        (("security", "required_in"), raw.security.required_in, raw.security.environments),
        (("cost", "required_in"), raw.cost.required_in, raw.cost.environments),
    ):
        yield from _required_elsewhere(located, path, inner, outer, tuple(raw.environments))


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
    if raw.risk.blast_radius is not None:
        yield ("risk", "blast_radius", "environments"), raw.risk.blast_radius.environments
    if raw.slo.error_budget is not None:
        yield ("slo", "error_budget", "environments"), raw.slo.error_budget.environments
    security = raw.security
    yield ("security", "environments"), security.environments
    yield ("security", "required_in"), security.required_in
    yield ("security", "secrets", "required_in"), security.secrets.required_in
    for index, one in enumerate(security.exceptions):
        yield ("security", "exceptions", index, "environments"), one.environments
    yield ("signing", "required_in"), raw.signing.required_in
    yield ("sbom", "required_in"), raw.sbom.required_in
    yield ("cost", "environments"), raw.cost.environments
    yield ("cost", "required_in"), raw.cost.required_in


def _window_problems(raw: RawPolicy, located: Located) -> Iterator[SourceProblem]:
    placed: list[tuple[Path, RawWindow]] = [
        *((("windows", "deny", i), one) for i, one in enumerate(raw.windows.deny)),
        *((("windows", "allow", i), one) for i, one in enumerate(raw.windows.allow)),
    ]
    yield from _doubled(located, [(path, one.id) for path, one in placed])
    for path, window in placed:
        if window.cron is not None and begins_a_day(window.cron) > MOST_BEGINNINGS:
            yield located.problem(
                (*path, "cron"),
                f"the window {window.id!r} begins more than {MOST_BEGINNINGS} times a day",
                "name hours and minutes, and let it last longer",
            )
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
            rows = list(rows_for(raw.approvals, name, risk))
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


def rows_for(approvals: RawApprovals, name: str, risk: RiskClass) -> Iterator[int]:
    """Indexes of the rows that fit an environment at a risk, first match first."""
    for index, row in enumerate(approvals.needed):
        if name_matches(name, row.environments) and (row.risk is None or risk in row.risk):
            yield index


def _exception_problems(
    exceptions: tuple[RawException, ...], located: Located
) -> Iterator[SourceProblem]:
    """Two exceptions for one thing: nobody could say which owner and which day count."""
    for index, one in enumerate(exceptions):
        for before in range(index):
            other = exceptions[before]
            if not _overlap(one, other):
                continue
            path: Path = ("security", "exceptions", before)
            yield located.problem(
                ("security", "exceptions", index, "finding"),
                f"there is another exception for {one.finding} that covers the same",
                f"line {located.place(path)[0]} has it already; keep one, or name different "
                "packages, services or environments",
            )
            break


def _overlap(one: RawException, other: RawException) -> bool:
    return (
        one.finding.casefold() == other.finding.casefold()
        and (
            one.package is None
            or other.package is None
            or one.package.casefold() == other.package.casefold()
        )
        and _share(one.services, other.services)
        and _share(one.environments, other.environments)
    )


def _share(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two lists of patterns may name the same thing, as far as names tell."""
    return any(may_meet(left, right) for left in one for right in other)


def _required_elsewhere(
    located: Located,
    path: Path,
    required: tuple[str, ...],
    looked_at: tuple[str, ...],
    listed: tuple[str, ...],
) -> Iterator[SourceProblem]:
    """Evidence that has to be there where nobody looks at what it says."""
    for name in listed:
        if name_matches(name, required) and not name_matches(name, looked_at):
            yield located.problem(
                path,
                f"it is required in {name}, where nobody looks at what it says",
                f"add {name} to `environments` of this section",
            )
