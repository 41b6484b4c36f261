"""The engine: finds secrets in bytes, and puts `[redacted:RULE:FINGERPRINT]` in their place."""

from __future__ import annotations

import bisect
import functools
import hmac
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from policy.redaction.disguise import MARKERS, Mark, joined, unescaped, unmasked
from policy.redaction.documents import RULE_ID, SIGNS, Documents, Named
from policy.redaction.known import Known, literals, tellable
from policy.redaction.prefilter import Hit, Prefilter, prefilter
from policy.redaction.rule import Rule, RuleSet, entropy
from policy.redaction.units import MOST, OVERLAP, Joins
from policy.redaction.views import View
from policy.redaction.walk import decoded

DEEPEST = 5
"""Disguises that are taken off, one from under another."""
KNOWN = "known-secret"
COVER = re.compile(rb"\[redacted:[A-Za-z0-9._\-]{1,80}:[0-9a-f]{6}\]")
_BEGINNING = re.compile(r"(?:\(\?:|\(|\\b)*((?:[A-Za-z0-9_\-]|\\[.\-]){3,})")
_LOWER_WORD = re.compile(rb"[a-z]{2,}|[A-Z][a-z]+")
_WORDS = re.compile(rb"[a-z]+|access[_\-]\w*|[a-z]+\.[a-z.]+|A3T|AKI")
"""Beginnings that are ordinary words or hosts: too many lines end in one."""
_LEAST_REST = 4
_ROUNDS = 4


@dataclass(frozen=True)
class Found:
    """A secret at bytes `start` to `end`; `secret` is what it reads once it is decoded."""

    start: int
    end: int
    rule: str
    secret: bytes
    rank: int
    """Lower names it better: shapes before names, in the order of the rules."""


@dataclass(frozen=True)
class Compiled:
    """What of a redactor depends on the rules alone."""

    prefilter: Prefilter
    joins: Joins
    signs: Prefilter
    """Of documents that say themselves what is secret in them."""
    torn: int
    """How many of the expressions are signs of torn secrets."""


@functools.lru_cache(maxsize=4)
def compiled(rules: RuleSet, engine: str | None) -> Compiled:
    """Compile rules, markers of disguises and signs of torn secrets; takes about a second."""
    begin = beginnings(rules.rules)
    torn = _torn(begin)
    patterns = [
        *(one.pattern for one in rules.rules),
        *(pattern for _, pattern in MARKERS),
        *torn,
    ]
    return Compiled(prefilter(patterns, engine), Joins(begin), prefilter(SIGNS, engine), len(torn))


class Redactor:
    """Rules, known secrets and a key, compiled together. Safe to use from several threads.

    `key` makes the fingerprints: the same secret has the same one wherever the same key is used,
    and without the key a guess cannot be checked against it.
    """

    def __init__(
        self,
        rules: RuleSet,
        *,
        key: bytes,
        known: Iterable[Known] = (),
        engine: str | None = None,
    ) -> None:
        self.rules = rules
        self._key = key
        self._compiled = compiled(rules, engine)
        self.joins = self._compiled.joins
        self._first_mark = len(rules.rules)
        self._first_torn = self._first_mark + len(MARKERS)
        self._first_known = self._first_torn + self._compiled.torn
        self._escapes = {
            self._first_mark + n for n, (mark, _) in enumerate(MARKERS) if mark is Mark.ESCAPED
        }
        self._known: list[tuple[bytes, Known]] = list(literals(tellable(known)))
        forms = [_literal(form) for form, _ in self._known]
        self._by_heart = prefilter(forms, engine) if forms else None

    @property
    def engine(self) -> str:
        """`hyperscan`, or `re2` where there is none."""
        return self._compiled.prefilter.name

    def fingerprint(self, secret: bytes) -> str:
        """Six hex digits, keyed: two leaks of one secret have the same."""
        return hmac.digest(self._key, secret.strip(), "sha256")[:3].hex()

    # --- whole texts -----------------------------------------------------------------------------

    def redact(self, text: str) -> str:
        """The text with every secret covered."""
        if len(text) < 4:
            return text
        raw = text.encode("utf-8", "surrogatepass")
        clean = self.redact_bytes(raw)
        return text if clean is raw else clean.decode("utf-8", "surrogatepass")

    def redact_bytes(self, data: bytes) -> bytes:
        """The same for bytes of whatever kind."""
        if self._compiled.signs.hits(data):
            stage = self.documents()
            clean = stage.feed(data) + stage.close()
            data = clean if stage.edits else data
        found = self.find_in_lines(data)
        return self.covered(data, found) if found else data

    def documents(self) -> Documents:
        """What stands before the rules: documents that say themselves what is secret in them."""
        return Documents(self._named, self._compiled.signs)

    def _named(self, value: bytes) -> Named:
        """By the rule that knows all of it by its shape, or else by the document."""
        found = self.find_in_unit(value)
        if len(found) == 1 and (found[0].start, found[0].end) == (0, len(value)):
            rule, secret = found[0].rule, found[0].secret
        else:
            rule, secret = RULE_ID, decoded(value) or value
        return Named(rule, secret, self._cover(rule, secret))

    def _cover(self, rule: str, secret: bytes) -> bytes:
        return f"[redacted:{rule}:{self.fingerprint(secret)}]".encode()

    def covered(self, data: bytes, found: Sequence[Found]) -> bytes:
        """The bytes with what was found in them replaced."""
        parts: list[bytes] = []
        at = 0
        for one in found:
            parts.append(data[at : one.start])
            parts.append(self._cover(one.rule, one.secret))
            at = one.end
        parts.append(data[at:])
        return b"".join(parts)

    def find(self, data: bytes, path: str | None = None) -> list[Found]:
        """Every secret, in order, none over another."""
        if not self._compiled.signs.hits(data):
            return self.find_in_lines(data, path)
        stage = self.documents()
        clean = stage.feed(data) + stage.close()
        if not stage.edits:
            return self.find_in_lines(data, path)
        found = [Found(e.start, e.end, e.named.rule, e.named.secret, 0) for e in stage.edits]
        back = stage.way_back()
        for one in self.find_in_lines(clean, path):
            found.append(replace(one, start=back(one.start), end=back(one.end)))
        return sorted(found, key=lambda one: one.start)

    def find_in_lines(self, data: bytes, path: str | None = None) -> list[Found]:
        """The same by the rules alone, which see a line or some that belong together."""
        hits = self._hits(data)
        if not hits and len(data) <= MOST + OVERLAP:
            return []
        found: list[Found] = []
        done = 0
        for at in self._places(data, hits):
            if at < done:
                continue
            start, end = self.joins.unit(data, at)
            start = max(start, done)
            if end - start > MOST + OVERLAP:
                found.extend(self._long(data, start, end, path))
            else:
                found.extend(_moved(self.find_in_unit(data[start:end], path), start))
            done = end + 1
        return found

    def _places(self, data: bytes, hits: list[Hit]) -> list[int]:
        """Offsets whose units have to be looked into.

        Addresses with a `%20` in them are in every access log. Lines that show nothing but escapes
        are looked at together first, with their escapes resolved.
        """
        places: list[int] = []
        escaped: dict[int, int] = {}
        line_start, line_end, only_escapes = 0, -1, False
        for end, number in sorted((end, number) for number, end in hits):
            at = end - 1
            if at > line_end:
                if only_escapes:
                    escaped[line_start] = line_end
                line_start = data.rfind(b"\n", 0, at) + 1
                line_end = data.find(b"\n", at)
                line_end = len(data) if line_end < 0 else line_end
                only_escapes = True
            if number not in self._escapes:
                places.append(at)
                only_escapes = False
        if only_escapes:
            escaped[line_start] = line_end
        if escaped:
            places.extend(self._still_hit(data, escaped))
        places.extend(self._of_long_units(data))
        return sorted(places)

    def _still_hit(self, data: bytes, lines: dict[int, int]) -> Iterator[int]:
        """Starts of the lines that show something once their escapes are resolved."""
        plain = [unescaped(data[start:end]) for start, end in lines.items()]
        hits = self._hits(b"\n".join(plain))
        if not hits:
            return
        ends = [*itertools.accumulate(len(one) + 1 for one in plain)]
        starts = list(lines)
        for _, end in hits:
            yield starts[bisect.bisect_left(ends, end)]

    def _of_long_units(self, data: bytes) -> Iterator[int]:
        """Of each unit that is looked at in parts one offset, hit or not: where a part begins
        depends on what is found in the one before."""
        for at in range(MOST // 2, len(data), MOST // 2) if len(data) > MOST + OVERLAP else ():
            start, end = self.joins.unit(data, at)
            if end - start > MOST + OVERLAP:
                yield at

    def long_part(self, part: bytes, path: str | None = None) -> tuple[list[Found], int]:
        """Secrets in the first part of a long unit, and where the next part begins.

        `part` has `MOST + OVERLAP` bytes.
        """
        found = [one for one in self.find_in_unit(part, path) if one.start < MOST]
        return found, max([MOST, *(one.end for one in found)])

    def _long(self, data: bytes, start: int, end: int, path: str | None) -> Iterator[Found]:
        while end - start > MOST + OVERLAP:
            found, cut = self.long_part(data[start : start + MOST + OVERLAP], path)
            yield from _moved(found, start)
            start += cut
        yield from _moved(self.find_in_unit(data[start:end], path), start)

    def _hits(self, text: bytes) -> list[Hit]:
        hits = self._compiled.prefilter.hits(text)
        if self._by_heart is not None:
            first = self._first_known
            hits.extend((first + number, end) for number, end in self._by_heart.hits(text))
        return hits

    # --- one unit --------------------------------------------------------------------------------

    def find_in_unit(self, text: bytes, path: str | None = None) -> list[Found]:
        """Secrets in one unit, merged."""
        covers = [match.span() for match in COVER.finditer(text)] if b"[redacted:" in text else []
        text = _blanked(text, covers)
        found: list[Found] = []
        for _ in range(_ROUNDS):
            # What was covered may have hidden, as a neighbour, something else.
            more = _merged(self._find(text, path, 0, torn=False), covers)
            if not more:
                break
            found.extend(more)
            covers.extend((one.start, one.end) for one in more)
            text = _blanked(text, covers)
        return sorted(found, key=lambda one: one.start)

    def _find(self, text: bytes, path: str | None, depth: int, *, torn: bool) -> list[Found]:
        hits = self._hits(text)
        if not hits:
            return []
        wanted: set[int] = set()
        marks: dict[Mark, list[int]] = {}
        gaps = False
        found: list[Found] = []
        for number, end in hits:
            if number < self._first_mark:
                wanted.add(number)
            elif number < self._first_torn:
                marks.setdefault(MARKERS[number - self._first_mark][0], []).append(end)
            elif number < self._first_known:
                gaps = True
            else:
                form, known = self._known[number - self._first_known]
                found.append(Found(end - len(form), end, KNOWN, known.secret, -1))
        for number in sorted(wanted):
            found.extend(self._by_rule(number, text, path, torn=torn))
        plain = {one.start for one in found}
        if depth < DEEPEST:
            for view in unmasked(text, marks):
                found.extend(self._behind(view, path, depth, torn=torn))
            if not torn:
                for view in joined(text, marks, gaps=gaps):
                    found.extend(
                        one
                        for one in self._behind(view, path, depth, torn=True)
                        if one.start not in plain and _likely(text[one.start : one.end], one.secret)
                    )
        return found

    def _behind(self, view: View, path: str | None, depth: int, *, torn: bool) -> Iterator[Found]:
        for one in self._find(view.data, path, depth + 1, torn=torn):
            start, end = view.source(one.start, one.end)
            yield Found(start, end, one.rule, one.secret, one.rank)

    def _by_rule(
        self, number: int, text: bytes, path: str | None, *, torn: bool
    ) -> Iterator[Found]:
        rule = self.rules.rules[number]
        if torn and not rule.by_shape:
            return
        if rule.path is not None and (path is None or not rule.path.search(path.encode())):
            return
        if rule.keywords:
            lower = text.lower()
            if not any(word in lower for word in rule.keywords):
                return
        rank = number if rule.by_shape else number + len(self.rules.rules)
        for match in rule.regex.finditer(text):
            start, end = rule.secret_of(match)
            if end > start and rule.is_secret(text, match.span(), (start, end), path):
                yield Found(start, end, rule.id, text[start:end], rank)

    @cached_property
    def by_id(self) -> dict[str, Rule]:
        """Rules by id."""
        return {one.id: one for one in self.rules.rules}


def beginnings(rules: Iterable[Rule]) -> tuple[bytes, ...]:
    """What secrets of the rules begin with, where that is the same for all of a rule's."""
    found: set[bytes] = {b"-----BEGIN", b"eyJ", b"AKIA", b"ASIA", b"xoxp-", b"xoxa-", b"ghs_"}
    found |= {b"sk_live_", b"sk_test_", b"rk_live_", b"shpat_", b"hvs.", b"glsa_", b"dop_v1_"}
    for rule in rules:
        start = _BEGINNING.match(rule.pattern) if rule.by_shape else None
        word = start[1].replace("\\", "") if start else ""
        rest = rule.pattern[start.end() :] if start else ""
        if rest[:1] in ("?", "*", "{", "|"):
            word = word[:-1]
        if len(word) >= 4 or (len(word) == 3 and word[-1] in "_-."):
            found.add(word.encode())
    return tuple(sorted(one for one in found if not _WORDS.fullmatch(one)))


def _torn(words: Iterable[bytes]) -> tuple[str, ...]:
    """Signs of a secret that was torn apart by blanks or line breaks."""
    distinct = [one for one in words if len(one) >= 4]
    parts = sorted({one[:size] for one in words for size in range(2, len(one) + 1)})
    token, tail = r"[A-Za-z0-9_+/=.\-%~]*", r"[\\\"'`+ \t]{0,6}\r?\n"
    bare = r"[ \t>|\"'`#*+.&]{0,60}[A-Za-z0-9_+/\-.%~]+={0,3}[\\\"'`,;+.& \t^]{0,12}\r?"
    return (
        *(rf"{_literal(one)}[A-Za-z0-9_\-]{{0,14}}[ \t]{{1,4}}[A-Za-z0-9_\-]" for one in distinct),
        *(rf"{_literal(one)}{token}{tail}" for one in words),
        *(rf"(?:^|[^A-Za-z0-9]){_literal(one)}{tail}" for one in parts),
        rf"^{bare}\n{bare}$",
        r"[\"'`][ \t]*(?:[+.&]|<>|\|\|)?[ \t]*[\\,^]?[ \t]*\r?\n[ \t]*[+.&]?[ \t]*[\"'`]",
        r"[A-Za-z0-9_\-][ \t]*[\\^][ \t]*\r?\n",
    )


def _literal(word: bytes) -> str:
    """An expression for exactly these bytes, in whatever engine."""
    return "".join(chr(c) if chr(c).isalnum() and c < 0x80 else f"\\x{c:02x}" for c in word)


def _moved(found: Iterable[Found], by: int) -> Iterator[Found]:
    for one in found:
        yield Found(one.start + by, one.end + by, one.rule, one.secret, one.rank)


def _likely(source: bytes, secret: bytes) -> bool:
    """Whether what was put together from pieces is a secret, and not words that run together."""
    pieces = [one for one in re.split(rb"[\s\"'`+.&\\,|^>]+", source) if one]
    if len(pieces) < 2:
        return True
    words = sum(1 for one in pieces if _LOWER_WORD.fullmatch(one) and len(one) > 1)
    digits = any(0x30 <= byte <= 0x39 for byte in secret)
    return digits and words * 2 <= len(pieces) and entropy(secret) > 2.5


def _blanked(text: bytes, covers: Iterable[tuple[int, int]]) -> bytes:
    """The text with what is covered made blank: it is of one piece, and no one's password."""
    for start, end in covers:
        text = b"".join(
            (text[:start], b"[", b" " * (end - start - 2), b"]"[: end - start], text[end:])
        )
    return text


def _merged(found: list[Found], covers: Sequence[tuple[int, int]]) -> list[Found]:
    """One finding for whatever overlaps, named by the best of them; covers are left as they are."""
    merged: list[Found] = []
    for one in sorted(found, key=lambda f: (f.start, -f.end)):
        last = merged[-1] if merged else None
        if last is not None and one.start < last.end:
            best = min(last, one, key=lambda f: (f.rank, f.start))
            merged[-1] = Found(
                last.start, max(last.end, one.end), best.rule, best.secret, best.rank
            )
        else:
            merged.append(one)
    if not covers:
        return merged
    return [part for one in merged for part in _around(one, covers)]


def _around(found: Found, covers: Sequence[tuple[int, int]]) -> Iterator[Found]:
    """What of a finding is not covered already."""
    touching = [one for one in covers if one[0] < found.end and one[1] > found.start]
    if not touching:
        yield found
        return
    at = found.start
    for start, end in [*touching, (found.end, found.end)]:
        if start - at >= _LEAST_REST:
            yield Found(at, start, found.rule, found.secret, found.rank)
        at = max(at, end)
