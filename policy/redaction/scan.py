"""The leak gate's eyes: secrets in files and in what a change adds, with place, rule and advice."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Iterator, Sequence

from domain.secret import FilePatch, SecretHit, SecretScan
from policy.redaction.engine import KNOWN, Found, Redactor
from policy.redaction.rule import DEFAULT_ADVICE

ALLOW = b"gitleaks:allow"
"""A line that says so is let pass, as in gitleaks: it stands in the change and can be reviewed."""
KNOWN_ADVICE = "It is one of this installation's own secrets: replace it in its setting at once."
_HUNK = re.compile(r"^@@ -\d+(?:,\d+)? \+(\d+)(?:,\d+)? @@")


def scan_file(redactor: Redactor, path: str, content: bytes) -> list[SecretHit]:
    """Secrets in a file, first to last."""
    if any(one.search(path.encode()) for one in redactor.rules.paths):
        return []
    starts = [0, *(match.end() for match in re.finditer(rb"\n", content))]
    return list(_hits(redactor, path, content, starts, range(1, len(starts) + 1)))


def scan_patches(
    redactor: Redactor, patches: Iterable[FilePatch] | None, why: str = ""
) -> SecretScan:
    """Secrets in the lines that a change adds. `patches` None: the diff could not be had."""
    if patches is None:
        return SecretScan(reason=why or "the diff could not be read")
    hits: list[SecretHit] = []
    unread: list[str] = []
    for one in patches:
        if one.patch is None:
            unread.append(one.path)
            continue
        if any(path.search(one.path.encode()) for path in redactor.rules.paths):
            continue
        content, starts, numbers = _added(one.patch)
        hits.extend(_hits(redactor, one.path, content, starts, numbers))
    reason = "some files have no readable diff (binary, or too large)" if unread else ""
    return SecretScan(hits=tuple(hits), unread=tuple(sorted(unread)), reason=reason)


def advice_for(redactor: Redactor, rule: str) -> str:
    """How to take a secret of that kind out of use."""
    if rule == KNOWN:
        return KNOWN_ADVICE
    found = redactor.by_id.get(rule)
    return found.advice if found is not None else DEFAULT_ADVICE


def _hits(
    redactor: Redactor, path: str, content: bytes, starts: Sequence[int], numbers: Sequence[int]
) -> Iterator[SecretHit]:
    seen: set[tuple[int, str, str]] = set()
    for one in redactor.find(content, path):
        if ALLOW in _line(content, one):
            continue
        line = numbers[bisect.bisect_right(starts, one.start) - 1]
        mark = redactor.fingerprint(one.secret)
        if (line, one.rule, mark) not in seen:
            seen.add((line, one.rule, mark))
            yield SecretHit(
                file=path,
                line=line,
                rule=one.rule,
                advice=advice_for(redactor, one.rule),
                fingerprint=mark,
            )


def _line(content: bytes, found: Found) -> bytes:
    start = content.rfind(b"\n", 0, found.start) + 1
    end = content.find(b"\n", found.end)
    return content[start : end if end >= 0 else len(content)]


def _added(patch: str) -> tuple[bytes, list[int], list[int]]:
    """The added lines as one text, where each begins in it, and its number in the new file.

    Hunks are kept apart: what stands far apart in the file must not look like neighbours.
    """
    parts: list[bytes] = []
    starts: list[int] = []
    numbers: list[int] = []
    at, number = 0, 0
    for line in patch.split("\n"):
        hunk = _HUNK.match(line)
        if hunk is not None:
            number = int(hunk[1])
            text = b"(another place)\n"
        elif line.startswith("+"):
            text = line[1:].encode("utf-8", "surrogatepass") + b"\n"
        else:
            if line.startswith(" "):
                number += 1
            continue
        starts.append(at)
        numbers.append(number)
        parts.append(text)
        at += len(text)
        if hunk is None:
            number += 1
    return b"".join(parts), starts or [0], numbers or [1]
