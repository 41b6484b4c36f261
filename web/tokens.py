"""The token book (`FERMATA_TOKENS`): hashes of tokens, whose they are, and what roles they give."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from datetime import time as clock_time
from pathlib import Path
from typing import Any

import yaml

from domain.errors import SourceError, SourceProblem
from web.problems import nearest

ADMIN = "admin"
"""The role that has every role."""

_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,98}[A-Za-z0-9])?")
_KEYS = ("hash", "principal", "login", "roles", "expires")
_MAKE_HASH = 'make it with: printf %s "$TOKEN" | sha256sum'


@dataclass(frozen=True)
class Principal:
    """Somebody with a token, and the roles it gives."""

    name: str
    roles: tuple[str, ...]
    login: str | None = None
    """The person's login on the forge, where the name is another one."""

    @property
    def person(self) -> str:
        """Whom votes and commands are put down to: nobody is two people by having a token."""
        return self.login or self.name

    def has(self, role: str) -> bool:
        """Whether the principal has the role; `admin` has all."""
        return role in self.roles or ADMIN in self.roles


@dataclass(frozen=True)
class TokenEntry:
    """One line of the book. `hash` is the SHA-256 of the token, as 64 hex digits."""

    hash: str = field(repr=False)
    principal: Principal
    expires: datetime | None = None

    def expired(self, now: datetime) -> bool:
        """Whether the token is over."""
        return self.expires is not None and self.expires <= now


@dataclass(frozen=True)
class TokenBook:
    """All tokens that are known, by their hashes. The tokens themselves are kept nowhere."""

    entries: tuple[TokenEntry, ...] = ()

    @classmethod
    def load(cls, path: Path) -> TokenBook:
        """Read the file; `SourceError` names each problem's line, `OSError` says it is absent."""
        return cls.parse(path.read_text(encoding="utf-8"), str(path))

    @classmethod
    def parse(cls, text: str, file: str) -> TokenBook:
        """YAML (a list of entries, or `tokens:` with one) or JSON lines, one entry each."""
        problems: list[SourceProblem] = []
        entries: list[TokenEntry] = []
        lines: dict[str, int] = {}
        for line, raw in _raw_entries(text, file):
            entry = _entry(raw, file, line, problems)
            if entry is None:
                continue
            if entry.hash in lines:
                problems.append(
                    SourceProblem(
                        file,
                        line,
                        1,
                        f"the same hash as in line {lines[entry.hash]}",
                        "a token belongs to one principal; give each its own",
                    )
                )
                continue
            lines[entry.hash] = line
            entries.append(entry)
        if problems:
            raise SourceError(tuple(problems))
        return cls(tuple(entries))

    def with_token(self, token: str, principal: str, roles: tuple[str, ...]) -> TokenBook:
        """The same book with one more token, which does not expire."""
        entry = TokenEntry(hash_token(token), Principal(principal, roles))
        return TokenBook((*self.entries, entry))

    def find(self, token: str) -> TokenEntry | None:
        """The entry of a token. Every entry is compared, each in constant time."""
        digest = hash_token(token)
        found: TokenEntry | None = None
        for entry in self.entries:
            if hmac.compare_digest(entry.hash, digest):
                found = entry
        return found

    def by_hash_start(self, start: str) -> TokenEntry | None:
        """The entry whose hash begins with these 32 hex digits."""
        return next((e for e in self.entries if len(start) == 32 and e.hash[:32] == start), None)


def hash_token(token: str) -> str:
    """SHA-256 of a token, as 64 hex digits. Tokens are random, so no salt or stretching is due."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class _Loader(yaml.SafeLoader):
    """Leaves times as text: a wrong one then gets a line and a hint of our own."""

    yaml_implicit_resolvers = {
        first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _raw_entries(text: str, file: str) -> list[tuple[int, Any]]:
    """(line, plain data) of each entry."""
    rows = [(n, row) for n, row in enumerate(text.splitlines(), 1) if row.strip()]
    data_rows = [(n, row) for n, row in rows if not row.lstrip().startswith("#")]
    if data_rows and all(row.strip().startswith("{") for _, row in data_rows):
        return [(n, _yaml(row, file, n - 1)[1]) for n, row in data_rows]
    node, value = _yaml(text, file, 0)
    if isinstance(value, dict) and list(value) == ["tokens"]:
        node, value = node.value[0][1], value["tokens"]
    if value is None:
        return []
    if not isinstance(value, list):
        raise SourceError(
            (
                SourceProblem(
                    file,
                    1,
                    1,
                    "this is not a list of tokens",
                    "write `- {hash: …, principal: …, roles: […]}`, one a line",
                ),
            )
        )
    return [(child.start_mark.line + 1, one) for child, one in zip(node.value, value, strict=True)]


def _yaml(text: str, file: str, offset: int) -> tuple[Any, Any]:
    """(node, data) of YAML text that begins `offset` lines down in the file."""
    try:
        # _Loader is a SafeLoader
        return yaml.compose(text, Loader=_Loader), yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = SourceProblem(
            file, line + offset, column, f"not valid YAML: {error.problem}", "check the indentation"
        )
        raise SourceError((problem,)) from None
    except yaml.YAMLError:
        # what has no place in the text: characters that YAML does not allow
        problem = SourceProblem(file, 1 + offset, 1, "not valid YAML", "check for odd characters")
        raise SourceError((problem,)) from None


def _entry(raw: Any, file: str, line: int, problems: list[SourceProblem]) -> TokenEntry | None:
    """A valid entry, or None with what is wrong added to `problems`."""
    before = len(problems)

    def wrong(message: str, hint: str) -> None:
        problems.append(SourceProblem(file, line, 1, message, hint))

    if not isinstance(raw, dict):
        wrong("an entry has to be a mapping", "write hash, principal, roles and maybe expires")
        return None
    for key in raw:
        if key == "token":
            wrong("a token stands here in clear", f"keep only its hash; {_MAKE_HASH}")
        elif key not in _KEYS:
            meant = nearest(str(key), _KEYS)
            wrong("unknown key", f"did you mean `{meant}`?" if meant else f"known: {_KEYS}")
    match = _HASH.fullmatch(str(raw.get("hash", "")).lower())
    if match is None:
        wrong("`hash` has to be a SHA-256 in 64 hex digits", _MAKE_HASH)
    name = raw.get("principal")
    if not isinstance(name, str) or not name.strip():
        wrong("`principal` has to name somebody", "principal: alice")
    login = raw.get("login")
    if login is not None and (not isinstance(login, str) or not _LOGIN.fullmatch(login)):
        wrong("`login` has to be a login on the forge", "login: alice")
    roles = _roles(raw)
    if roles is None:
        wrong("`roles` has to be a list of names", "roles: [developer]")
    expires = _expires(raw)
    if isinstance(expires, str):
        wrong("`expires` is not a date or time", expires)
    if len(problems) > before or match is None or roles is None or isinstance(expires, str):
        return None
    return TokenEntry(match[1], Principal(str(name).strip(), roles, login), expires)


def _roles(raw: Mapping[str, Any]) -> tuple[str, ...] | None:
    roles = raw.get("roles", [])
    if not isinstance(roles, list) or not all(isinstance(role, str) and role for role in roles):
        return None
    return tuple(roles)


def _expires(raw: Mapping[str, Any]) -> datetime | str | None:
    """When the token ends (aware UTC), None for never, or a hint when that cannot be read.

    A date without a time means the end of that day, a time without a zone means UTC.
    """
    value = raw.get("expires")
    if value is None:
        return None
    try:
        if len(str(value)) == 10:
            return datetime.combine(date.fromisoformat(str(value)), clock_time.max, UTC)
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return "expires: 2027-01-31, or 2027-01-31T18:00:00Z"
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
