"""Documents that say themselves which of their values are secret, in a stream of other text.

Kubernetes Secrets in YAML and JSON, Terraform states, outputs and plans. This stands before the
rules: what is covered here they see as covered. Decisions depend on the text alone and not on the
pieces it comes in; text that shows no sign of such a document costs a search for a few words.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from policy.redaction.prefilter import Prefilter
from policy.redaction.walk import MOST_HELD, Span, Walk, decoded

RULE_ID = "secret-in-document"
HEAD = 4096
"""Bytes behind an opening bracket in which a document has to show what it is."""
MOST_SIGN = 32
"""Bytes of a sign, but for blanks: those it shares with what is held."""
MOST_LINE = 16 << 10
"""A longer line is no YAML that is looked at."""

SIGNS = (
    r"(?:^|[ \t\n])(?:data|stringData):[ \t]*[#\r\n]",
    r"kind[\"']?:[ \t]+[\"']?Secret",
    r"\"(?:terraform_version|apiVersion|sensitive)\"\s{0,4}:",
)
"""Text in which none of these is found holds no such document."""
_JSON_SIGN = re.compile(rb"\"(?:terraform_version|apiVersion|sensitive)\"\s{0,4}:")
_SECRET_SIGN = re.compile(
    rb"\"(?:terraform_version|sensitive)\"\s{0,4}:|\\?\"kind\\?\"\s{0,4}:\s{0,4}\\?\"Secret\\?\""
)
"""The same for a document of which all is there."""
_OPENER = re.compile(rb"^[ \t]{0,200}[{\[]", re.M)
_OPENS = re.compile(rb"[ \t]{0,200}[{\[]")
_ONLY_OPENS = re.compile(rb"[ \t]{0,200}[{\[][{\[ \t]{0,200}\r?\n?")
_KEY = re.compile(
    rb"(?P<lead>[ \t]*(?:-[ ]+)*)(?P<quote>[\"']?)(?P<key>[\w./\-]+)(?P=quote):"
    rb"(?:[ \t]+(?P<value>.*?))?[ \t]*\r?\n?\Z",
    re.S,
)
_EMPTY = re.compile(rb"[ \t]*(?:#.*)?\r?\n?\Z", re.S)
_SCALAR = re.compile(
    rb"(?P<quote>[\"'])(?P<quoted>.*)(?P=quote)(?:[ \t]+#.*)?\Z|(?P<plain>.*?)(?:[ \t]+#.*)?\Z"
)
_COMMENT = re.compile(rb"(?:^|[ \t]+)#")
_BLOCK = re.compile(rb"[|>][+\-\d]{0,2}(?:[ \t]+#.*)?\Z")
_NO_SECRET = re.compile(
    rb"\[redacted:[\w.\-]+:[0-9a-f]{6}\]|\{\}|null|~|\$\{\w+\}|\$\(\w+\)|\{\{.*\}\}|<[^<>]*>|"
    rb"ENC\[AES256_GCM,[^\]]*\]|vault:[\w/.#\-]+|"
)
"""Covers, references, and what sops has encrypted."""


@dataclass(frozen=True)
class Named:
    """What a secret is: the rule that names it, what it reads, and what is put in its place."""

    rule: str
    secret: bytes
    cover: bytes


@dataclass(frozen=True)
class Edit:
    """A secret from `start` to `end`, in whose place `size` bytes stand now."""

    start: int
    end: int
    size: int
    named: Named


Name = Callable[[bytes], Named]


@dataclass
class Documents:
    """The stage. `name` says what a secret is, `signs` looks for `SIGNS`; `edits` tells what was
    done."""

    name: Name
    signs: Prefilter
    edits: list[Edit] = field(default_factory=list)
    _held: bytes = b""
    _base: int = 0
    """Offset of `_held` in the stream."""
    _at: int = 0
    """Of `_held`, what was read."""
    _walk: Walk | None = None
    _walk_from: int = 0
    _signs: list[int] = field(default_factory=list)
    """Offsets in the stream right behind the signs in what is held, in order."""
    _middle: bool = False
    """What comes next is the rest of a line that was too long."""
    _out: list[bytes] = field(default_factory=list)
    _secret_at: int | None = None
    """Indent of the mapping that said `kind: Secret`."""
    _block_at: int | None = None
    """Indent of the mapping whose `data` is being read."""
    _key_at: int = 0
    _plain: bool = False
    """One of the values that wait is not base64."""
    _waiting: list[Span] | None = None
    """Values of a `data` that stands before its `kind`."""

    def feed(self, data: bytes) -> bytes:
        """Take a piece; what is decided."""
        self._held += data
        self._signs = sorted({self._base + end for _, end in self.signs.hits(self._held)})
        return self._run(last=False)

    def close(self) -> bytes:
        """The end: the rest."""
        return self._run(last=True)

    def way_back(self) -> Callable[[int], int]:
        """From offsets in what was given to those in what came."""
        places: list[int] = []
        shifts: list[int] = []
        shift = 0
        for one in self.edits:
            shift += one.end - one.start - one.size
            places.append(one.end - shift)
            shifts.append(shift)

        def back(at: int) -> int:
            number = bisect.bisect_right(places, at)
            return at + (shifts[number - 1] if number else 0)

        return back

    def _run(self, *, last: bool) -> bytes:
        while self._step(last=last):
            pass
        if last:
            self._end_block()
        keep = self._at
        if self._walk is not None:
            keep = min(keep, self._walk.held + self._walk_from - self._base)
        elif self._waiting:
            keep = min(keep, self._waiting[0][0] - self._base)
        self._give(len(self._held) if last else keep)
        out, self._out = b"".join(self._out), []
        return out

    def _give(self, size: int) -> None:
        if size > 0:
            self._out.append(self._held[:size])
            self._held = self._held[size:]
            self._base += size
            self._at = max(0, self._at - size)

    def _covers(self, spans: Iterable[Span]) -> None:
        for start, end in spans:
            secret = self._held[start - self._base : end - self._base]
            if start < self._base or _NO_SECRET.fullmatch(secret):
                continue
            at = self._at - (end - self._base)
            before = self._held[start - self._base - 1 : start - self._base]
            self._give(start - self._base)
            named = self.name(secret)
            bare = self._walk is not None and before != b'"'
            new = b'"' + named.cover + b'"' if bare else named.cover
            self._out.append(new)
            self._held = self._held[end - start :]
            self._base = end
            self._at = max(0, at)
            self.edits.append(Edit(start, end, len(new), named))

    def _step(self, *, last: bool) -> bool:
        """Read one thing on; False when more text is needed first."""
        if self._walk is not None:
            return self._json(self._walk, last=last)
        if self._at >= len(self._held):
            return False
        idle = self._block_at is None and self._secret_at is None
        if idle and not self._middle and self._skipped():
            return True
        end = self._held.find(b"\n", self._at) + 1
        if self._middle:
            self._at, self._middle = end or len(self._held), not end
            return bool(end)
        size = (end or len(self._held)) - self._at
        if self._block_at is None and (size >= HEAD or end or last):
            opened = self._opened(end, last=last)
            if opened is not None:
                return opened
        if not end and not last and size <= MOST_LINE:
            return False
        if size > MOST_LINE:
            self._end_block()
            self._secret_at = None
            self._at, self._middle = end or len(self._held), not end
            return True
        line = self._held[self._at : self._at + size]
        if self._block_at is None and _JSON_SIGN.search(line) and _SECRET_SIGN.search(line):
            inside = line.find(b'{"')
            if inside >= 0:
                self._at += inside
                self._walk, self._walk_from = Walk(), self._base + self._at
                return True
        start = self._base + self._at
        self._at += size
        self._line(line, start)
        return True

    def _skipped(self) -> bool:
        """Pass over whole lines that show no sign of anything."""
        cut = self._held.rfind(b"\n") + 1
        number = bisect.bisect_right(self._signs, self._base + self._at)
        if number < len(self._signs):
            sign = self._signs[number] - self._base - MOST_SIGN
            cut = min(cut, self._held.rfind(b"\n", self._at, max(self._at, sign)) + 1)
        if cut <= self._at:
            return False
        # the document may have begun some lines before its sign
        tail = self._held.rfind(b"\n", self._at, max(self._at, cut - HEAD)) + 1
        opener = _OPENER.search(self._held, max(self._at, tail), cut)
        stop = opener.start() if opener else cut
        if stop > self._at:
            self._at = stop
            return True
        return False

    def _opened(self, end: int, *, last: bool) -> bool | None:
        """Whether a JSON document begins here: True, False for not known yet, None for no."""
        text = self._held
        if not _OPENS.match(text, self._at):
            return None
        alone = _ONLY_OPENS.fullmatch(text, self._at, end or len(text)) is not None
        stop = self._at + HEAD
        if not alone and end and end <= stop:
            sign, stop = _SECRET_SIGN, end
        else:
            sign = _JSON_SIGN
        if sign.search(text, self._at, stop) is not None:
            self._walk, self._walk_from = Walk(), self._base + self._at
            return True
        if len(text) < stop and not last:
            return False
        return None

    def _json(self, walk: Walk, *, last: bool) -> bool:
        before = walk.at
        spans = walk.take(self._held, self._base - self._walk_from, last=last)
        self._at = walk.at + self._walk_from - self._base
        self._covers((a + self._walk_from, b + self._walk_from) for a, b in spans)
        if walk.over or last:
            self._walk = None
            self._middle = True
            return True
        return walk.at > before and self._at < len(self._held)

    # --- YAML ------------------------------------------------------------------------------------

    def _line(self, line: bytes, start: int) -> None:
        if _EMPTY.match(line):
            return
        body = line.lstrip(b" \t")
        indent = len(line) - len(body)
        key = _KEY.match(line)
        column = len(key["lead"]) if key else indent
        if self._block_at is not None:
            if indent > self._block_at:
                self._value(line, start, indent, key)
                return
            at, waiting = self._block_at, self._waiting
            if waiting is None or key is None or column != at or b"-" in key["lead"]:
                self._end_block()
            else:
                self._sibling(key, waiting)
        if key is None or b"-" in key["lead"] or (column < (self._secret_at or 0)):
            self._secret_at = None
        if key is None:
            return
        name, value = key["key"], _word(key)
        if name == b"kind" and value == b"Secret":
            self._secret_at = column
        elif name == b"kind" and column == self._secret_at:
            self._secret_at = None
        if (
            name in (b"data", b"stringData")
            and not (value or key["quote"])
            and self._block_at is None
        ):
            self._block_at, self._key_at, self._plain = column, -1, False
            self._waiting = None if self._secret_at == column else []

    def _sibling(self, key: re.Match[bytes], waiting: list[Span]) -> None:
        """A key beside `data`: its kind decides; anything else is waited out."""
        if key["key"] == b"kind":
            secret = _word(key) == b"Secret"
            self._block_at = self._waiting = None
            if secret:
                self._covers(waiting)
        elif key["key"] in (b"data", b"stringData"):
            self._end_block()

    def _value(self, line: bytes, start: int, indent: int, key: re.Match[bytes] | None) -> None:
        goes_on = self._key_at >= 0 and indent > self._key_at
        if goes_on or key is None:
            size = len(line.rstrip(b"\r\n \t"))
            span = (start + indent, start + size)
        else:
            self._key_at = indent
            scalar = _SCALAR.match(key["value"] or b"")
            if scalar is None or not key["value"] or _BLOCK.match(key["value"]):
                return
            group = "quoted" if scalar["quoted"] is not None else "plain"
            span = tuple(start + key.start("value") + n for n in scalar.span(group))  # type: ignore[assignment]
        if self._waiting is None:
            self._covers([span])
            return
        value = self._held[span[0] - self._base : span[1] - self._base]
        if not value:
            return
        self._plain = self._plain or decoded(value) is None
        self._waiting.append(span)
        if span[1] - self._waiting[0][0] > MOST_HELD:
            # a Secret's data is base64 throughout: what is not, is none
            spans, self._waiting = self._waiting, None
            if self._plain:
                self._block_at = None
            else:
                self._covers(spans)

    def _end_block(self) -> None:
        """The mapping is over and has not said its kind: covered if all of it reads as text."""
        waiting = self._waiting
        self._block_at = self._waiting = None
        if waiting and all(self._reads(one) for one in waiting):
            self._covers(waiting)

    def _reads(self, span: Span) -> bool:
        text = decoded(self._held[span[0] - self._base : span[1] - self._base]) or b""
        return len(text) >= 6 and all(0x20 <= byte < 0x7F or byte in b"\r\n\t" for byte in text)


def _word(key: re.Match[bytes]) -> bytes:
    """A key's value without comment and quotes."""
    return _COMMENT.split(key["value"] or b"")[0].strip(b"\"'")
