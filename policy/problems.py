"""What is wrong between the sections of a policy file: names that are not listed, rows that are
missing or never reached, ids used twice. Each finding has its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from domain.errors import SourceProblem
from domain.plan import RiskClass
from domain.yaml_source import Located, Path
from policy.matching import name_matches
from policy.raw import RawPolicy
from policy.raw_approvals import RawApprovals
from policy.raw_windows import RawWindow


def problems_of(raw: RawPolicy, located: Located) -> Iterator[SourceProblem]:
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
