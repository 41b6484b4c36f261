"""A repository's own policy: read from its text, and laid over the central rules. Pure.

It can only tighten, which does not rest on comparing two policies: every key of its format adds a
denial, a question or a risk (`raw_repository.py`), and `tightened` only ever adds. So whatever the
central policy denies stays denied, whoever may write to the repository.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from difflib import get_close_matches

from domain.decision import Requirement
from domain.digest import digest_of
from domain.errors import SourceError, SourceProblem
from domain.yaml_source import Located, Path, load, validate
from policy.loading import raises_of, window_of
from policy.matching import name_matches
from policy.raw_repository import RawOwnNeed, RawOwnPolicy
from policy.rules import RaiseRule, Rules
from policy.schedule import Window

PATH = ".fermata/policy.yaml"
"""Where a repository keeps it."""


@dataclass(frozen=True, slots=True)
class OwnRules:
    """What a repository adds."""

    digest: str
    deny: tuple[Window, ...]
    raises: tuple[RaiseRule, ...]
    needs: tuple[RawOwnNeed, ...]
    max_first_weight: int | None
    checks: tuple[str, ...]


def own_rules(text: str, file: str, environments: tuple[str, ...]) -> OwnRules:
    """The rules in a repository's policy; `environments` are those that the central one lists.

    Raises SourceError, with line, column and hint for each problem.
    """
    located = load(text, file)
    raw = validate(RawOwnPolicy, located)
    problems = tuple(_problems(raw, located, environments))
    if problems:
        raise SourceError(problems)
    windows = raw.windows
    return OwnRules(
        digest=digest_of(raw.model_dump(mode="json")),
        deny=tuple(window_of(one, windows.timezone, {}) for one in windows.deny) if windows else (),
        raises=raises_of(raw.risk),
        needs=raw.approvals,
        max_first_weight=raw.canary.max_first_weight if raw.canary else None,
        checks=raw.checks.required if raw.checks else (),
    )


def tightened(rules: Rules, own: OwnRules) -> Rules:
    """The central rules with a repository's on top. The digest names both."""
    most = rules.canary.max_first_weight
    approvals = rules.approvals
    return dataclasses.replace(
        rules,
        digest=digest_of({"policy": rules.digest, "repository": own.digest}),
        windows=dataclasses.replace(rules.windows, deny=(*rules.windows.deny, *own.deny)),
        risk=dataclasses.replace(rules.risk, raises=(*rules.risk.raises, *own.raises)),
        canary=dataclasses.replace(
            rules.canary,
            max_first_weight=min(most, own.max_first_weight or most),
            # A repository that limits the first step limits a switch of everything, too.
            blue_green="deny" if own.max_first_weight else rules.canary.blue_green,
        ),
        checks=dataclasses.replace(rules.checks, also=(*rules.checks.also, *own.checks)),
        approvals=dataclasses.replace(
            approvals,
            needed={
                (name, risk): _needed(need, approvals.otherwise, name, own.needs)
                for (name, risk), need in approvals.needed.items()
            },
        ),
    )


def _needed(
    need: Requirement | None, otherwise: Requirement, name: str, more: tuple[RawOwnNeed, ...]
) -> Requirement | None:
    """A row with the repository's on top; where none was needed, `approvals.otherwise` answers."""
    rows = [one for one in more if name_matches(name, one.environments)]
    if not rows:
        return need
    base = need or otherwise
    return base.model_copy(
        update={
            "count": max(base.count, *(one.at_least for one in rows)),
            "code_owners": base.code_owners or any(one.code_owners for one in rows),
        }
    )


def _problems(
    raw: RawOwnPolicy, located: Located, environments: tuple[str, ...]
) -> list[SourceProblem]:
    found: list[SourceProblem] = []
    lists: list[tuple[Path, tuple[str, ...]]] = [
        (("approvals", index, "environments"), one.environments)
        for index, one in enumerate(raw.approvals)
    ]
    for index, window in enumerate(raw.windows.deny if raw.windows else ()):
        lists.append((("windows", "deny", index, "environments"), window.environments))
        if window.calendar is not None:
            found.append(
                located.problem(
                    ("windows", "deny", index, "calendar"),
                    "a repository's policy cannot name a calendar file",
                    "write the freeze as a range or with cron, or put it into the central policy",
                )
            )
    for path, names in lists:
        for index, name in enumerate(names):
            if not any(name_matches(one, (name,)) for one in environments):
                close = get_close_matches(name, environments, n=1, cutoff=0.5)
                found.append(
                    located.problem(
                        (*path, index),
                        f"no environment is called {name!r}",
                        (f"did you mean {close[0]!r}? " if close else "")
                        + f"the central policy lists {', '.join(environments)}",
                    )
                )
    return found
