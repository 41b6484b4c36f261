"""The token book of a running server: read again when its file changes, kept when that is bad."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from domain.errors import SourceError, SourceProblem
from web.tokens import TokenBook, TokenEntry

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
"""How long a change of the file may take to count."""

_Mark = tuple[int, int, int]


@dataclass
class TokenFile:
    """A `web.auth.Tokens` on a file.

    A file that cannot be read, or has a mistake in it, changes nothing: the last good book stays in
    force, whole, and `problem` and the log say so. Half of a file must never count as all of it.
    """

    path: Path
    book: TokenBook
    problem: str = ""
    """Why the file as it is now is not in force; '' when it is."""
    now: Callable[[], float] = time.monotonic
    _mark: _Mark | None = None
    _looked: float = field(default=0.0)

    @classmethod
    def open(cls, path: Path) -> TokenFile:
        """Read the file for the first time. Raises SourceError, also where it cannot be read."""
        mark = _mark_of(path)
        try:
            book = TokenBook.load(path)
        except (OSError, UnicodeDecodeError) as error:
            hint = "name a token file in FERMATA_TOKENS (docs/settings.md), or leave it unset"
            raise SourceError((SourceProblem(str(path), 1, 1, str(error), hint),)) from error
        return cls(path, book, _mark=mark)

    def find(self, token: str) -> TokenEntry | None:
        """The entry of a token, by the file as it is now."""
        return self.current().find(token)

    def by_hash_start(self, start: str) -> TokenEntry | None:
        """The entry whose hash begins so, by the file as it is now."""
        return self.current().by_hash_start(start)

    def current(self) -> TokenBook:
        """The book in force."""
        if self._looked and self.now() - self._looked < LOOK_SECONDS:
            return self.book
        self._looked = self.now()
        mark = _mark_of(self.path)
        if mark == self._mark:
            return self.book
        self._mark = mark
        try:
            self.book = TokenBook.load(self.path)
        except SourceError as error:
            first = error.problems[0]
            self._keep(f"line {first.line}: {first.message}")
        except (OSError, UnicodeDecodeError) as error:
            self._keep(f"it cannot be read ({type(error).__name__})")
        else:
            self.problem = ""
            log.info("tokens read again", file=str(self.path), tokens=len(self.book.entries))
        return self.book

    def _keep(self, why: str) -> None:
        self.problem = f"{self.path.name} is not in force: {why}; the tokens read before it count"
        log.error("tokens not read again", file=str(self.path), reason=why, in_force="the old ones")


def _mark_of(path: Path) -> _Mark | None:
    """What tells one version of a file from another; None when it is not there."""
    try:
        seen = path.stat()
    except OSError:
        return None
    return (seen.st_mtime_ns, seen.st_size, seen.st_ino)
