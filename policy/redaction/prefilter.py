"""Many expressions over one text at once: which of them end where. The exact match comes after.

With hyperscan all expressions are one automaton. Where its wheel does not exist (it is made for
x86-64 and arm64 on Linux and macOS) `google-re2` does the same work: first its set tells which
expressions match at all, then each of those is looked for. Same finds, several times slower.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

import re2

from policy.redaction.rule import expression

Hit = tuple[int, int]
"""Index of an expression, and the offset right behind a match of it."""

_REPEAT = re.compile(r"\{(\d+),(\d+)\}")
_OPEN_TAIL = re.compile(r"(?:\{(\d+),\d*\}|(\+)|\*)\??(\)*)$")
WIDE_REPEAT = 8


class Prefilter(Protocol):
    """Finds where expressions end in a text; may find too much, never too little."""

    name: str

    def hits(self, text: bytes) -> list[Hit]:
        """Every end of every match, in order of the ends or not."""
        ...


def hyperscan_or_none() -> ModuleType | None:
    """The hyperscan package, where there is one for this machine."""
    try:
        return importlib.import_module("hyperscan")
    except ImportError:
        return None


def prefilter(patterns: Sequence[str], engine: str | None = None) -> Prefilter:
    """Compile expressions in RE2 syntax. `engine` None: hyperscan where there is one, else re2."""
    module = hyperscan_or_none() if engine in (None, "hyperscan") else None
    return HyperscanPrefilter(patterns, module) if module else Re2Prefilter(patterns)


class HyperscanPrefilter:
    """One automaton for all expressions; each thread scans with a scratch space of its own."""

    name = "hyperscan"

    def __init__(self, patterns: Sequence[str], module: ModuleType) -> None:
        self._module = module
        self._beyond: list[tuple[int, Any]] = []
        self._db = self._compiled([relaxed(one) for one in patterns])
        self._local = threading.local()

    def hits(self, text: bytes) -> list[Hit]:
        """See `Prefilter`."""
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = self._module.Scratch(self._db)
        found: list[Hit] = []
        append = found.append

        def hit(number: int, _start: int, end: int, _flags: int, _context: object) -> None:
            append((number, end))

        self._db.scan(text, match_event_handler=hit, scratch=scratch)
        for number, regex in self._beyond:
            found.extend((number, match.end()) for match in regex.finditer(text))
        return found

    def _compiled(self, patterns: list[str]) -> Any:
        hs = self._module
        flags = [hs.HS_FLAG_MULTILINE] * len(patterns)
        numbered = dict(enumerate(one.encode("latin-1", "backslashreplace") for one in patterns))
        try:
            return self._database(numbered, flags)
        except hs.HyperscanError:
            # One of a user's rules is beyond it: approximated, or else left to RE2.
            beyond = []
            for number, one in numbered.items():
                for flag in (0, hs.HS_FLAG_PREFILTER):
                    flags[number] |= flag
                    if self._takes(one, flags[number]):
                        break
                else:
                    beyond.append(number)
        self._beyond = [(number, expression(patterns[number])) for number in beyond]
        for number in beyond:
            del numbered[number]
        return self._database(numbered, flags)

    def _takes(self, pattern: bytes, flag: int) -> bool:
        try:
            self._database({0: pattern}, [flag])
        except self._module.HyperscanError:
            return False
        return True

    def _database(self, numbered: dict[int, bytes], flags: list[int]) -> Any:
        database = self._module.Database(mode=self._module.HS_MODE_BLOCK)
        database.compile(
            expressions=list(numbered.values()),
            ids=list(numbered),
            elements=len(numbered),
            flags=[flags[number] for number in numbered],
        )
        return database


class Re2Prefilter:
    """The same with RE2 alone."""

    name = "re2"

    def __init__(self, patterns: Sequence[str]) -> None:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        options.max_mem = 512 << 20
        self._set = re2.Set.SearchSet(options)
        self._each = []
        for one in patterns:
            wide = _multiline(one)
            self._set.Add(wide.encode("latin-1", "backslashreplace"))
            self._each.append(expression(wide))
        self._set.Compile()

    def hits(self, text: bytes) -> list[Hit]:
        """See `Prefilter`."""
        return [
            (number, match.end())
            for number in self._set.Match(text) or ()
            for match in self._each[number].finditer(text)
        ]


def relaxed(pattern: str) -> str:
    """An expression that matches wherever `pattern` does, and is cheaper to look for.

    Long counted repeats become open ones, and an open repeat at the very end stops at its least
    length, so that a long secret is reported once and not once a character. `$` and `^` are those
    of lines (the caller compiles so), and an end of text is anywhere.
    """

    def wider(repeat: re.Match[str]) -> str:
        least, most = int(repeat[1]), int(repeat[2])
        return f"{{{least},}}" if most - least >= WIDE_REPEAT else repeat[0]

    wide = _multiline(pattern)
    if "|" not in _last_branch(wide):
        tail = _OPEN_TAIL.search(wide)
        if tail is not None and tail[0].count(")") <= 1:
            least = tail[1] or ("1" if tail[2] else "0")
            wide = f"{wide[: tail.start()]}{{{least}}}{tail[3]}" if least != "0" else wide
    return _REPEAT.sub(wider, wide).replace("{0,}", "*").replace("{1,}", "+")


def _last_branch(pattern: str) -> str:
    """What stands behind the last opening parenthesis, or all: a cut there must not cross a `|`."""
    return pattern[pattern.rfind("(") + 1 :] if pattern.endswith(")") else pattern


def _multiline(pattern: str) -> str:
    """The ends of a text are not known yet while many lines are looked through at once."""
    wide = pattern.replace(r"\\", "\x00")
    return wide.replace(r"\z", "(?:)").replace(r"\A", "^").replace("\x00", r"\\")
