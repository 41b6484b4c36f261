"""The policy file, read from disk and kept in force while serving or working.

A file that does not load stops the start. Once a policy is in force, only a valid file replaces it,
as a whole; a bad one is told in the log, at `/readyz` and on the pages, and changes nothing. Each
decision names the digest of the policy it was made under.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

import psycopg
import structlog

from domain.digest import digest_of
from domain.errors import SourceError, SourceProblem
from domain.yaml_source import decoded, load
from policy.rules import Rules, load_policy
from tools.manifest_files import manifest_texts, manifests_in

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""How often the file is looked at while serving."""
MOST_TOLD = 5


@dataclass
class _Beside:
    """Reads a policy and what it names, from its folder, and remembers which, and what was there.

    What was there is noted before it is used: whoever writes meanwhile has changed it since.
    """

    folder: Path
    named: dict[Path, None] = field(default_factory=dict)
    found: dict[Path, bytes | None] = field(default_factory=dict)

    def __call__(self, name: str) -> bytes:
        return self.read(self.folder / name)

    def read(self, path: Path) -> bytes:
        """A file. Raises OSError."""
        self.note([path])
        data = self.found.get(path)
        if data is None:
            return path.read_bytes()  # for its OSError
        return data

    def note(self, paths: Iterable[Path]) -> None:
        """Files and folders that count."""
        new = dict.fromkeys(paths)
        self.named |= new
        self.found |= _contents(new)

    @property
    def fingerprint(self) -> str:
        """Of what was there."""
        return _fingerprint(self.found)


def read_policy(path: Path) -> Rules:
    """The rules in a policy file, the calendars and constraints beside it. Raises SourceError."""
    return _load(path, _Beside(path.parent))


def parse_policy(data: bytes, name: str) -> Rules:
    """The rules in a text that came without a folder, as on stdin; constraints are looked for from
    the folder that one is in. Raises SourceError."""
    return _with_constraints(load_policy(data, name), _Beside(Path()), data, name)


def _load(path: Path, beside: _Beside) -> Rules:
    try:
        data = beside.read(path)
    except OSError as error:
        hint = "name a policy file; serving, FERMATA_POLICY does, or the folder it starts in"
        why = f"it cannot be read: {error.strerror or error}"
        raise SourceError((SourceProblem(str(path), 1, 1, why, hint),)) from error
    return _with_constraints(load_policy(data, str(path), beside), beside, data, str(path))


def _with_constraints(rules: Rules, beside: _Beside, data: bytes, name: str) -> Rules:
    """The rules with what the folders of constraints hold: it decides, so the digest covers it."""
    folders = [beside.folder / one for one in rules.manifests.constraints]
    if not folders:
        return rules
    beside.note(folders)
    texts: tuple[tuple[str, str], ...] = ()
    for index, folder in enumerate(folders):
        try:
            texts += tuple(manifest_texts([folder]))
        except SourceError as error:
            problem = error.problems[0]
            if problem.file != str(folder):
                raise
            # The folder itself: the mistake stands where the policy names it.
            said = f"the constraints in {str(folder)!r}: {problem.message}"
            hint = "the path counts from the folder of this file"
            located = load(decoded(data, name), name)
            found = located.problem(("manifests", "constraints", index), said, hint)
            raise SourceError((found,)) from error
    digest = digest_of({"policy": rules.digest, "constraints": [text for _, text in texts]})
    return replace(rules, digest=digest, manifests=replace(rules.manifests, texts=texts))


@dataclass
class PolicyInForce:
    """The rules that hold now, and what is wrong with the file if it is not what they came from."""

    path: Path
    _rules: Rules
    _check: Callable[[Rules], None]
    _seen: str
    _watched: tuple[Path, ...]
    problems: tuple[SourceProblem, ...] = ()
    _next: Rules | None = None
    """Good, and not in force yet."""

    @classmethod
    def open(cls, path: Path, check: Callable[[Rules], None]) -> PolicyInForce:
        """Load the file. `check` raises SourceError for what the rules need besides; so does it."""
        beside = _Beside(path.parent)
        rules = _load(path, beside)
        check(rules)
        return cls(path, rules, check, beside.fingerprint, tuple(beside.named))

    def rules(self) -> Rules:
        """The rules in force."""
        return self._rules

    @property
    def warnings(self) -> tuple[str, ...]:
        """What people should know: the file is bad and the policy before it still holds."""
        if not self.problems:
            return ()
        more = len(self.problems) - 1
        return (
            f"{self.problems[0]}".replace("\n", " ")
            + (f" (and {more} more)" if more else "")
            + f"; the policy before it, {self._rules.digest[:12]}, stays in force",
        )

    def look(self) -> bool:
        """Take a changed file over if it is good; whether the rules in force have changed."""
        rules = self.candidate()
        if rules is None:
            return False
        self.replace(rules)
        return True

    def candidate(self) -> Rules | None:
        """The rules of a file that is good and decides differently than those in force, if so.

        What is wrong with a file that is not good stands in `problems` from then on.
        """
        if _fingerprint(_contents(self._watched)) == self._seen:
            return self._next
        self._next = None
        beside = _Beside(self.path.parent)
        try:
            rules = _load(self.path, beside)
            self._check(rules)
        except SourceError as error:
            self._settle(beside, error.problems)
            for problem in error.problems[:MOST_TOLD]:
                log.error("policy.refused", problem=str(problem), in_force=self._rules.digest[:12])
            return None
        self._settle(beside, ())
        self._next = rules if rules.digest != self._rules.digest else None
        return self._next

    def replace(self, rules: Rules) -> None:
        """Put other rules into force, as a whole."""
        before, self._rules, self._next = self._rules, rules, None
        log.info("policy.replaced", before=before.digest[:12], now=rules.digest[:12])

    def _settle(self, beside: _Beside, problems: tuple[SourceProblem, ...]) -> None:
        """Remember what was looked at, so that it is looked at anew only when it changes."""
        self._watched, self._seen = tuple(beside.named), beside.fingerprint
        self.problems = problems

    @contextlib.asynccontextmanager
    async def watched(
        self, announce: Callable[[Rules, str], Awaitable[None]], seconds: float = LOOK_SECONDS
    ) -> AsyncIterator[None]:
        """Look again and again for the length of the block.

        `announce` writes new rules down before anything is decided by them.
        """
        task = asyncio.create_task(self._watch(announce, seconds), name="policy-file")
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(
        self, announce: Callable[[Rules, str], Awaitable[None]], seconds: float
    ) -> None:
        while True:
            await asyncio.sleep(seconds)
            # Loading runs the file's samples, which would hold up everything else for a while.
            try:
                rules = await asyncio.to_thread(self.candidate)
            except OSError as error:
                # A folder may vanish while it is walked through: mounted ConfigMaps do.
                log.warning("policy.not_read", error=str(error))
                continue
            if rules is None:
                continue
            try:
                await announce(rules, str(self.path))
            except (OSError, psycopg.Error) as error:
                log.warning("policy.not_announced", error=type(error).__name__)
                continue
            self.replace(rules)


def _fingerprint(contents: Mapping[Path, bytes | None]) -> str:
    """Of the files' contents: a time of change is too coarse, and says nothing after a `cp -p`."""
    digest = sha256()
    for path, data in sorted(contents.items()):
        digest.update(str(path).encode() + (b"-" if data is None else b"+%d:" % len(data) + data))
    return digest.hexdigest()


def _contents(paths: Iterable[Path]) -> dict[Path, bytes | None]:
    return {path: _bytes(path) for path in _files(paths)}


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files, and for a folder the manifests in it."""
    for path in paths:
        if path.is_dir():
            yield from manifests_in(path)
        else:
            yield path


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
