"""CODEOWNERS: whom a repository names for its paths. Pure; the text is given.

After GitHub's rules: the last pattern that fits counts, a pattern without owners takes a path out,
`*` stays within a folder, a folder pattern covers what lies below it, and case counts. A line that
GitHub would skip as invalid (a `!`, a `[`) is skipped here as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.evidence import OwnedPath

PLACES = (".github/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")
"""Where it is looked for; the first one that is there counts."""
MOST_LINES = 5_000
_OWNER = re.compile(r"@[A-Za-z0-9-]+(?:/[A-Za-z0-9._-]+)?|[^\s@]+@[^\s@]+\.[^\s@]+")


@dataclass(frozen=True, slots=True)
class _Line:
    regex: re.Pattern[str]
    owners: tuple[str, ...]


def owned_paths(text: str, paths: tuple[str, ...]) -> tuple[OwnedPath, ...]:
    """Each path with its owners (none: nobody owns it).

    Raises ValueError for a file that is too long to be followed.
    """
    lines = _lines(text)
    return tuple(OwnedPath(path=path, owners=_owners(lines, path)) for path in paths)


def _owners(lines: list[_Line], path: str) -> tuple[str, ...]:
    for line in reversed(lines):
        if line.regex.match(path):
            return line.owners
    return ()


def _lines(text: str) -> list[_Line]:
    raw = text.splitlines()
    if len(raw) > MOST_LINES:
        raise ValueError(f"it has more than {MOST_LINES:,} lines")
    found = []
    for one in raw:
        line = _read(one)
        if line is not None:
            found.append(line)
    return found


def _read(line: str) -> _Line | None:
    words = re.split(r"(?<!\\)\s+", line.strip())
    comment = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
    words = words[:comment]
    if not words or not words[0] or words[0].startswith(("!", r"\#")) or "[" in words[0]:
        return None
    owners = words[1:]
    if not all(_OWNER.fullmatch(one) for one in owners):
        return None
    return _Line(_regex(words[0].replace("\\ ", " ")), tuple(owners))


def _regex(pattern: str) -> re.Pattern[str]:
    """A pattern as GitHub reads it: anchored when it holds a slash before its end."""
    folder = pattern.endswith("/")
    body = pattern.strip("/")
    anchored = pattern.startswith("/") or "/" in body
    pieces = "".join(
        _piece(one) for one in re.findall(r"/\*\*/|\*\*/|/\*\*|\*\*|\*|\?|[^*?/]+|/", body)
    )
    start = "^" if anchored else "^(?:.*/)?"
    # `docs/*` names the files of a folder and not what lies deeper; anything else covers a folder.
    end = "/.+$" if folder else ("$" if body.endswith("/*") else "(?:/.*)?$")
    return re.compile(start + pieces + end, re.DOTALL)


def _piece(token: str) -> str:
    match token:
        case "/**/":
            return "/(?:.*/)?"
        case "**/":
            return "(?:.*/)?"
        case "/**":
            return "/.*"
        case "**":
            return ".*"
        case "*":
            return "[^/]*"
        case "?":
            return "[^/]"
        case _:
            return re.escape(token)
