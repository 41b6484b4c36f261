"""Patterns for names and for paths. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

_WILD = frozenset("*?[")
_CHOICE = re.compile(r"\[!?[^\]]+\]")


def name_matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is one of the patterns; `*` and `?` stand for letters, case counts."""
    for pattern in patterns:
        if pattern in (name, "*"):
            return True
        if not _WILD.isdisjoint(pattern) and fnmatchcase(name, pattern):
            return True
    return False


def may_meet(left: str, right: str) -> bool:
    """Whether some name may fit two patterns; what stands in `[...]` counts as any letter."""
    one, other = (_CHOICE.sub("?", pattern) for pattern in (left, right))
    seen = {(0, 0)}
    open_ = [(0, 0)]
    while open_:
        at, on = open_.pop()
        a, b = one[at : at + 1], other[on : on + 1]
        if not a and not b:
            return True
        steps = set()
        if a == "*" or (a and b == "*"):
            steps.add((at + 1, on))
        if b == "*" or (b and a == "*"):
            steps.add((at, on + 1))
        if a and b and (a == b or "?" in (a, b)):
            steps.add((at + 1, on + 1))
        open_.extend(steps - seen)
        seen |= steps
    return False


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A pattern of paths, after gitignore: `*` stays within a folder, `**` does not, and a pattern
    without a slash fits at any depth. Case does not count: a rule that raises the risk of
    `migrations/` is meant for `Migrations/` too."""

    text: str
    regex: re.Pattern[str]

    @classmethod
    def of(cls, text: str) -> PathPattern:
        """The pattern a person wrote."""
        return cls(text, re.compile(_regex(text), re.IGNORECASE | re.DOTALL))

    def matches(self, path: str) -> bool:
        """Whether a path, relative to the repository's root, fits."""
        return self.regex.fullmatch(path) is not None


def _regex(pattern: str) -> str:
    body = pattern.strip("/")
    parts = body.split("/")
    if pattern.endswith("/"):
        parts.append("**")
    if len(parts) == 1 and parts[0] != "**":
        parts.insert(0, "**")
    pieces: list[str] = []
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            pieces.append(".*" if last else "(?:[^/]+/)*")
        else:
            pieces.append(_segment(part) + ("" if last else "/"))
    return "".join(pieces)


def _segment(part: str) -> str:
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(letter) or re.escape(letter) for letter in part)
