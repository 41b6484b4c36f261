"""One rule of the gitleaks format: its expression, and what lets a match pass."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import re2

DEFAULT_ADVICE = (
    "Take it out of use where it was issued, make a new one, and look for uses since it was "
    "written down."
)
GENERIC = "generic"
"""Tag of rules that know a secret by its name or place, not by its shape."""

Target = Literal["secret", "match", "line"]


def expression(pattern: str) -> Any:
    """Compile RE2 syntax for bytes. Raises `re2.error`, whose text says what is wrong."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = 64 << 20
    return re2.compile(pattern.encode(), options)


HEAD = 48
"""Bytes of a long match that are looked at by themselves."""


def entropy(secret: bytes) -> float:
    """Shannon entropy in bits a character, as gitleaks counts it."""
    size = len(secret)
    return -sum(n / size * math.log2(n / size) for n in Counter(secret).values()) if size else 0.0


@dataclass(frozen=True)
class Allowlist:
    """Lets a match pass: by any of its conditions, or only by all of them together."""

    regexes: tuple[Any, ...] = ()
    target: Target = "secret"
    stopwords: tuple[bytes, ...] = ()
    paths: tuple[Any, ...] = ()
    every: bool = False
    rules: frozenset[str] = frozenset()
    """Ids of the rules it is for; none: all."""

    def lets_pass(
        self, secret: bytes, match: bytes, line: Callable[[], bytes], path: str | None
    ) -> bool:
        """Whether this is no secret after all. `line` is only worked out when it is looked at."""
        verdicts = list(self._verdicts(secret, match, line, path))
        return bool(verdicts) and (all(verdicts) if self.every else any(verdicts))

    def _verdicts(
        self, secret: bytes, match: bytes, line: Callable[[], bytes], path: str | None
    ) -> Iterator[bool]:
        if self.regexes:
            text = (
                secret if self.target == "secret" else match if self.target == "match" else line()
            )
            yield any(one.search(text) for one in self.regexes)
        if self.stopwords:
            lower = secret.lower()
            yield any(word in lower for word in self.stopwords)
        if self.paths:
            yield path is not None and any(one.search(path.encode()) for one in self.paths)


@dataclass(frozen=True)
class Rule:
    """What a secret of one kind looks like."""

    id: str
    description: str
    pattern: str
    regex: Any
    keywords: tuple[bytes, ...] = ()
    entropy: float = 0.0
    group: int = 0
    path: Any = None
    """Only in files whose path matches; text without a path is never looked at by such a rule."""
    tags: tuple[str, ...] = ()
    allowlists: tuple[Allowlist, ...] = ()
    advice: str = DEFAULT_ADVICE

    @property
    def by_shape(self) -> bool:
        """Whether the secret's own form gives it away."""
        return GENERIC not in self.tags

    def secret_of(self, match: Any) -> tuple[int, int]:
        """Where the secret stands: the named group, else the first that took part, else all."""
        if self.group:
            return (match.start(self.group), match.end(self.group))
        for number in range(1, self.regex.groups + 1):
            start: int = match.start(number)
            if start >= 0 and match.end(number) > start:
                return (start, match.end(number))
        return (match.start(), match.end())

    def is_secret(
        self, text: bytes, match: tuple[int, int], secret: tuple[int, int], path: str | None
    ) -> bool:
        """Whether a match stands up to the rule's entropy and allowlists."""
        found = text[secret[0] : secret[1]]
        # what is glued to a secret must not dilute it: its beginning counts by itself as well
        varied = max(entropy(found), entropy(found[:HEAD])) if self.by_shape else entropy(found)
        if self.entropy and varied <= self.entropy:
            return False

        def line() -> bytes:
            start = text.rfind(b"\n", 0, match[0]) + 1
            end = text.find(b"\n", match[1])
            return text[start : end if end >= 0 else len(text)]

        whole = text[match[0] : match[1]]
        return not any(one.lets_pass(found, whole, line, path) for one in self.allowlists)


@dataclass(frozen=True)
class RuleSet:
    """Rules in the order of the file; of two that find the same secret the first names it."""

    rules: tuple[Rule, ...]
    paths: tuple[Any, ...] = ()
    """Files that are not looked into at all when a tree or a change is scanned."""
