"""Units: a line, or the lines that one secret may be spread over. No secret spans two units.

Whether a line break lies inside a unit is told by what stands on both sides of it and by nothing
else. So a stream finds the same units in whatever pieces it arrives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from policy.redaction.disguise import clear

MOST = 64 << 10
"""A unit that is longer is looked at in parts."""
OVERLAP = 16 << 10
"""Bytes by which the parts of a long unit overlap: no single secret is longer."""
HEAD = 1024
"""Bytes of the next line that are looked at, at most."""
LONG_WORD = 16
"""A word of so many letters may be the first part of one that is torn apart."""

_TAIL = 512
_HEX_DIGITS = b"0123456789abcdefABCDEF"
_TOKENS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+/=.-%~"
_TOKEN = rb"A-Za-z0-9_+/=.\-%~"
_BARE = re.compile(rb"[ \t>|\"'`#*+.&]{0,60}[A-Za-z0-9_+/\-.%~]+={0,3}[\\\"'`,;+.& \t^]{0,12}\r?")
_ASSIGNS = re.compile(
    rb"(?i)(?:pass|pwd|secret|token|key|credential|auth)[\w.\-]{0,40}[\"'`]?\s{0,4}[:=]>?\s{0,4}"
    rb"(?:[|>][+\-]?)?$"
)
_NAMED = re.compile(rb"(?i)(?:pass|pwd|secret|token|key|credential)[\w.\-]{0,40}=[^\s=]{0,80}$")
_QUOTE_BEGINS = re.compile(
    rb"[ \t]{0,60}(?:[+.&]|<>|\|\|)?[ \t]{0,9}[\"'`][" + _TOKEN + rb"]+(?:\\[nrt])*[\"'`]"
)
_WORD_BEGINS = re.compile(rb"[ \t>|\"'`#*]{0,60}[" + _TOKEN + rb"]")
_HEADER = re.compile(rb"[ \t]*(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): ")
_LONG_BARE = re.compile(rb"[ \t]*[A-Za-z0-9+/]{40,}={0,2}[ \t]*\r?")
_JSON_VALUE = re.compile(rb"[ \t]*\"(?:value|type|sensitive)\"\s{0,4}:")
_NETRC = re.compile(rb"[ \t]*(?:machine|login|password|account|default)\b")
_NAME = re.compile(
    rb"(?i)[ \t]*(?:-[ \t]+)?[\"']?(?:name|key)[\"']?[ \t]*:[ \t]*[\"']?[\w.\-]{0,80}"
    rb"(?:pass|pwd|secret|token|key|credential)[\w.\-]{0,20}[\"']?,?[ \t]*\r?"
)
_VALUE = re.compile(rb"(?i)[ \t]*[\"']?value[\"']?[ \t]*:")
_BYTES = rb"(?:0[xX])?[0-9a-fA-F]{2}(?:[,;:\- \t]+(?:0[xX])?[0-9a-fA-F]{2})"
_PAIRS = re.compile(rb"(?:^|[^0-9A-Za-z])" + _BYTES + rb"{3,12}$")
_MORE_PAIRS = re.compile(rb"[ \t]*" + _BYTES + rb"*(?![0-9A-Za-z])")
_DUMP = re.compile(rb"[ \t]{0,4}[0-9a-fA-F]{6,8}:?[ \t]{1,2}[0-9a-fA-F]{2}.*\r?")
_PEM_END = re.compile(rb"[ \t>|\"'`]*-----END")


@dataclass(frozen=True)
class _Line:
    """What a line says about whether the next one belongs to it."""

    blank: bool = False
    bare: bool = False
    """It is one word and nothing else."""
    indented: bool = False
    """It is bare, and folded: it begins with blanks."""
    goes_on: bool = False
    header: bool = False
    long_word: bool = False
    assigns: bool = False
    quoted: bool = False
    begun: bool = False
    """It ends in what may be the beginning of a secret."""
    json_value: bool = False
    netrc: bool = False
    pairs: bool = False
    """It ends in bytes in hex, as `od` prints them."""
    dump: bool = False
    """The same with an address before them."""
    names: bool = False
    """It gives a name, and the next line may give the value (`- name: DB_PASSWORD`)."""


class Joins:
    """Tells which line breaks lie inside a unit. `beginnings` are what known secrets begin with."""

    def __init__(self, beginnings: Iterable[bytes]) -> None:
        words = sorted(beginnings)
        parts = sorted({one[:size] for one in words for size in range(2, len(one))})
        whole, some = (b"|".join(re.escape(one) for one in these) for these in (words, parts))
        self._begun = re.compile(
            (whole or b"(?!)") + rb"|(?:^|[^A-Za-z0-9])(?:" + (some or b"(?!)") + rb")$"
        )

    def open(self, line: bytes) -> bool:
        """Whether any next line could belong to this one at all."""
        return self._read(line) != _CLOSED

    def inside(self, line: bytes, following: bytes) -> bool:
        """Whether the break between two lines lies inside a unit. Of `following` only the first
        `HEAD` bytes count."""
        said = self._read(line)
        if said == _CLOSED:
            return False
        head = clear(following[:HEAD])
        next_bare = _BARE.fullmatch(head) is not None
        return (
            said.goes_on
            or said.header
            or (said.bare and (next_bare or _PEM_END.match(head) is not None))
            or (said.bare and said.indented and head[:1] in (b" ", b"\t"))
            or (said.blank and _LONG_BARE.fullmatch(head) is not None)
            or (said.long_word and next_bare)
            or (said.assigns and head[:1] in (b" ", b"\t"))
            or (said.quoted and (_QUOTE_BEGINS.match(head) or _PEM_END.match(head)) is not None)
            or (said.names and _VALUE.match(head) is not None)
            or (said.json_value and _JSON_VALUE.match(head) is not None)
            or (said.netrc and _NETRC.match(head) is not None)
            or (said.pairs and _MORE_PAIRS.match(head) is not None)
            or (said.dump and _DUMP.fullmatch(head) is not None)
            or (said.begun and _WORD_BEGINS.match(head) is not None)
        )

    def unit(self, text: bytes, at: int) -> tuple[int, int]:
        """Start and end of the unit that holds offset `at`; its last line break is not in it."""
        start = text.rfind(b"\n", 0, at) + 1
        end = stop = _line_end(text, max(at, start))
        last = start
        while start > 0:
            before = text.rfind(b"\n", 0, start - 1) + 1
            if not self.inside(text[before : start - 1], text[start : min(stop, start + HEAD)]):
                break
            start, stop = before, start - 1
        while end < len(text):
            after = _line_end(text, end + 1)
            if not self.inside(text[last:end], text[end + 1 : min(after, end + 1 + HEAD)]):
                break
            last, end = end + 1, after
        return start, end

    def _read(self, raw: bytes) -> _Line:
        line, tail = clear(raw[:HEAD]), clear(raw[-_TAIL:])
        core = tail.rstrip(b" \t\r")
        if not core:
            return _BLANK
        rest = core.rstrip(b"\\\"'`,;+ \t")
        word = rest[len(rest.rstrip(_TOKENS)) :]
        ending = core[-1:]
        first = line.lstrip(b" \t")[:1]
        bare = _BARE.fullmatch(line) is not None
        return _Line(
            bare=bare,
            indented=bare and line[:1] in (b" ", b"\t"),
            goes_on=ending in b"\\=^" or core.endswith(b"-----"),
            header=first in b"PDVCH" and _HEADER.match(line) is not None,
            long_word=len(word) >= LONG_WORD,
            assigns=(ending in b":=|>+-" and _ASSIGNS.search(core[-80:]) is not None)
            or (b"=" in word and _NAMED.search(word) is not None),
            quoted=core.rstrip(b" \t\\,^+.&|<>")[-1:] in (b'"', b"'", b"`"),
            begun=bool(word) and self._begun.search(word) is not None,
            json_value=first == b'"' and _JSON_VALUE.match(line) is not None,
            names=first in b"-nNkK\"'" and _NAME.fullmatch(line) is not None,
            netrc=first in b"mlpad" and _NETRC.match(line) is not None,
            pairs=rest[-1:] in _HEX_DIGITS and _PAIRS.search(rest.rstrip(b":")[-80:]) is not None,
            dump=first in _HEX_DIGITS and _DUMP.fullmatch(line) is not None,
        )


_CLOSED = _Line()
_BLANK = _Line(blank=True)


def _line_end(text: bytes, at: int) -> int:
    end = text.find(b"\n", at)
    return end if end >= 0 else len(text)
