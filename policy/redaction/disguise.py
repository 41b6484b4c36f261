"""Disguises: encodings and tricks of writing under which a secret does not look like one.

`MARKERS` are cheap signs that a disguise may be there; the prefilter looks for them together with
the rules. `unmasked` takes the disguises off, one at a time; what comes out is looked at again, so
that one disguise over another is taken off as well.
"""

from __future__ import annotations

import bisect
import functools
import html
import re
import unicodedata
import zlib
from base64 import b32decode, b64decode
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from urllib.parse import unquote_to_bytes

from policy.redaction.lookalikes import LOOKALIKE
from policy.redaction.views import Edit, View, edited, grouped, part, substituted, tokens, whole

MOST_UNPACKED = 1 << 20
"""Bytes that are unpacked from compressed data before it is given up."""


class Mark(IntEnum):
    """What kind of disguise a marker is a sign of."""

    INVISIBLE = 0
    ESCAPED = 1
    PRINTABLE = 2
    BASE64 = 3
    PACKED = 4
    HEX = 5
    HEX_PAIRS = 6
    BASE32 = 7
    SPACED = 8
    QUOTED = 9
    ADDED = 10
    CONTINUED = 11
    COVERED = 12
    DECIMAL = 13
    DUMP = 14


_TOKEN = r"[A-Za-z0-9_\-]"
_HIGH = r"(?:[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
_SCRIPT = r"[\xcd-\xd6][\x80-\xbf]"
_HEX = r"[0-9a-fA-F]"
_PRINTABLE = r"(?:[2-7][0-9a-fA-F]|0[9adAD])"
_B64_TEXT = r"[A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghklopstwx014589][A-Za-z0-9+/_\-]"
"""Four base64 characters that stand for three bytes of ASCII."""
_B32_TEXT = (
    r"[E-P][ABEFIJMNQRUVYZ45][A-Z2-7][C-HS-X][ACEGIKMOQSUWY246][A-Z2-7][BCDJKLRSTZ23][A-Z2-7]"
)
"""Eight base32 characters that stand for five bytes of printable ASCII."""
_SHOWN_ANSI = r"(?:\\e|\^\[)\[[0-9;]{0,16}[mK]"
"""Colours as `cat -v` shows them and as shells spell them."""
_ASCII = r"(?:3[2-9]|[4-9][0-9]|1[01][0-9]|12[0-6])"
"""A printable character's number."""

MARKERS: tuple[tuple[Mark, str], ...] = (
    (Mark.INVISIBLE, r"[\x1b\x9b][\[\]()#;?0-9A-Za-z]"),
    (Mark.INVISIBLE, _SHOWN_ANSI),
    (Mark.INVISIBLE, _TOKEN + r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+" + _TOKEN),
    (Mark.INVISIBLE, r"[!-~]\r[!-~]"),
    (Mark.INVISIBLE, r"[!-~]\x00[!-~]\x00[!-~]"),
    (Mark.INVISIBLE, _TOKEN + _HIGH + r"{1,4}[A-Za-z0-9_\-+/=.:]"),
    (Mark.INVISIBLE, r"(?:" + _SCRIPT + r")" + _TOKEN),
    (Mark.INVISIBLE, _TOKEN + r"(?:" + _SCRIPT + r")"),
    (Mark.INVISIBLE, r"\xe2\x80[\x8b-\x8f\xaa-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xc2\xad"),
    (Mark.INVISIBLE, r"\xef[\xbc\xbd][\x80-\xbf]"),
    (Mark.INVISIBLE, r"\xf0\x9d[\x90-\x9f]|\xe2[\x92\x93][\x80-\xbf]|\xf0\x9f[\x84-\x87]"),
    (Mark.ESCAPED, r"%[0-9a-fA-F]{2}"),
    (
        Mark.ESCAPED,
        r"\\(?:u\{?[0-9a-fA-F]{2}|U[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-3][0-7]{2}|[/_\-])",
    ),
    (Mark.ESCAPED, r"\\[nrt][A-Za-z0-9_\-.:/+=]{16}"),
    (Mark.ESCAPED, r"&(?:#[0-9xX]|[a-zA-Z]{2,8}[0-9]?;)"),
    (Mark.PRINTABLE, _TOKEN + r"=[2-7][A-F]" + _TOKEN),
    (Mark.PRINTABLE, r"=[2-7][0-9A-Fa-f]" + _TOKEN + r"{0,12}=[2-7][0-9A-Fa-f]"),
    (Mark.PRINTABLE, r"=\r?\n[!-~]"),
    (Mark.BASE64, r"(?:" + _B64_TEXT + r"){4}"),
    (Mark.PACKED, r"H4sI[A-Za-z0-9+/_\-]{12}"),
    (Mark.HEX, _PRINTABLE + r"{10}"),
    (Mark.HEX_PAIRS, r"(?:" + _PRINTABLE + r"[ :,\-]){8}"),
    (
        Mark.DUMP,
        r"(?:^|\n)[ \t]{0,4}[0-9a-fA-F]{6,8}:?[ \t]{1,2}(?:" + _HEX + _HEX + r"[ \t]{0,2}){4}",
    ),
    (Mark.HEX_PAIRS, r"(?:0[xX]" + _PRINTABLE + r"[,;]?[ \t]{0,2}){6}"),
    (Mark.DECIMAL, r"(?:" + _ASCII + r"(?:,[ \t]?|[ \t])){11}" + _ASCII),
    (Mark.BASE32, r"(?:" + _B32_TEXT + r"){2}"),
    (Mark.SPACED, r"(?:[!-~][ \t]){11}[!-~]"),
    (Mark.QUOTED, _TOKEN + r"[\"'`][ \t]{0,3}[\"'`]" + _TOKEN),
    (Mark.ADDED, r"[\"'`]\s{0,3}(?:[+.&]|\|\||<>)\s{0,3}[\"'`]"),
    (Mark.CONTINUED, r"[!-~][\\^]\r?\n"),
    (Mark.CONTINUED, r"[A-Za-z0-9\"']=\r?\n[!-~]"),
    (Mark.CONTINUED, r"[!-~]\r?\n[ \t]+[A-Za-z0-9_+/=.\-!#$%&*@^~]+[ \t]*\r?$"),
    (Mark.COVERED, r"\[redacted:"),
)

_ANSI = (
    rb"(?:\x1b\[|\xc2\x9b|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    rb"|\x1b[\]PX^_][^\x07\x1b\n]{0,2000}(?:\x07|\x1b\\)"
    rb"|\x1b[ -/]{0,4}[0-~]|" + _SHOWN_ANSI.encode()
)
_BACKSPACE = rb"[^\n\x08]\x08"
_CONTROL = rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]+|\r(?!\n)"
_WIDE = rb"[\xc2-\xf4][\x80-\xbf]{1,3}"
_UNSEEN = re.compile(b"|".join((_ANSI, _BACKSPACE, _CONTROL, _WIDE)))

# Every branch begins with a letter of its own, so that `re` can pass over what begins none of them.
_ESCAPE = re.compile(
    rb"%(?:25)*([0-9A-Fa-f]{2})"
    rb"|\\\\*u([0-9A-Fa-f]{4})"
    rb"|\\\\*(?:U([0-9A-Fa-f]{8})|u\{0*([0-9A-Fa-f]{1,6})\})"
    rb"|\\\\*x([0-9A-Fa-f]{2})"
    rb"|\\\\*([0-3][0-7]{2})"
    rb"|\\\\*([/_\-])"
    rb"|&#0*([0-9]{1,6});?"
    rb"|&#[xX]0*([0-9A-Fa-f]{1,5});?"
    rb"|&([A-Za-z]{2,8}[0-9]?;)"
    rb"|\\\\*([nrt])"
)
_ENTITY = re.compile(rb"&(?:#|[A-Za-z]{2,8}[0-9]?;)")
_BASES = (None, 16, 16, 16, 16, 16, 8, None, 10, 16, None, None)
_BLANK = {b"n": b" ", b"r": b" ", b"t": b" "}
_QUOTED_PRINTABLE = re.compile(rb"=([2-7][0-9A-Fa-f])|=[ \t]*\r?\n")
_AROUND = 64
"""Bytes on each side of a line break that may belong to the break."""
_SPACES = b" \t\r"
_JOINERS = (b"+", b".", b"&", b"<>", b"||")
_BLANKS = re.compile(rb"[ \t\r\n]+")
_QUOTES = re.compile(rb"[\"'`][ \t]{0,3}[\"'`]")
_ADDED = re.compile(rb"[\"'`]\s{0,40}(?:[+.&]|\|\||<>)\s{0,40}[\"'`]")
_CONTINUED = re.compile(rb"[\\^]\r?\n[ \t]*|(?<==)\r?\n(?=[^\s:=]{4,}(?:\s|$))")
_FOLDED = re.compile(rb"\r?\n[ \t]+(?=[^\s:=]+={0,2}[ \t]*\r?(?:\n|$))")
_SPACED = re.compile(rb"(?<![!-~])[!-~](?:(?:[ \t]|[ \t]{3}|[ \t]\r?\n[ \t])[!-~](?![!-~])){8,}")
_GAP = re.compile(rb"[ \t]\r?\n[ \t]|[ \t]{3}|[ \t]")

_ODD = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\xff]")
_LETTERS = re.compile(rb"[ \t]*[!-~][ \t][!-~][ \t][!-~][ \t][!-~][ \t]")

_STRETCH = re.compile(rb"[\x00\t\n\r\x1b\x20-\x7e]{14,}")

_GAP64 = re.compile(rb"[ \t\"']*\\?\r?\n[ \t>|\"']*|(?:\\+r)?\\+n")
"""Between the lines of one text in base64; escaped as well, as in an answer of a forge's API."""
_RUN64 = re.compile(rb"[A-Za-z0-9+/_\-]+(?:(?:" + _GAP64.pattern + rb")[A-Za-z0-9+/_\-]+)*")
_URLSAFE = bytes.maketrans(b"-_", b"+/")
_RUN_HEX = re.compile(_HEX.encode() + rb"{2,}(?:\\?\r?\n[ \t]*" + _HEX.encode() + rb"{2,})*")
_RUN_PAIRS = re.compile(
    rb"(?:0[xX])?[0-9a-fA-F]{2}"
    rb"(?:(?:[,;:\-]?[ \t]{0,2}|[,;:]?[ \t]?\r?\n[ \t]*)(?:0[xX])?[0-9a-fA-F]{2})+"
)
_PAIR = re.compile(rb"(?:0[xX])?([0-9a-fA-F]{2})")
_HEX_DIGIT = re.compile(_HEX.encode())
_DUMP_LINE = re.compile(
    rb"^[ \t]{0,4}[0-9a-fA-F]{6,8}:?[ \t]{1,2}((?:[0-9a-fA-F]{2}[ \t]{0,2}){0,15}[0-9a-fA-F]{2})"
    rb"(?:[ \t][^\n]*)?$",
    re.M,
)
_RUN_DECIMAL = re.compile(rb"[0-9]{1,3}(?:(?:,[ \t]?|,?\r?\n[ \t]*|[ \t])[0-9]{1,3}(?![0-9.]))+")
_NUMBER = re.compile(rb"[0-9]{1,3}")
_RUN32 = re.compile(rb"[A-Z2-7]+")


def unmasked(text: bytes, marks: dict[Mark, list[int]]) -> Iterator[View]:
    """Views of the text without the disguises whose marks were found (with the ends of each)."""
    for mark, ends in marks.items():
        match mark:
            case Mark.INVISIBLE:
                yield from _kept(substituted(text, _UNSEEN, _seen))
            case Mark.ESCAPED:
                yield from _kept(substituted(text, _ESCAPE, _unescaped))
            case Mark.PRINTABLE:
                yield from _kept(substituted(text, _QUOTED_PRINTABLE, _unquoted))
            case Mark.BASE64:
                yield from _base64(text, ends)
            case Mark.PACKED:
                yield from _packed(text, ends)
            case Mark.HEX:
                yield from _hex(text, ends)
            case Mark.HEX_PAIRS:
                yield from _hex_pairs(text, ends)
            case Mark.DECIMAL:
                yield from _decimal(text, ends)
            case Mark.DUMP:
                yield from _dump(text)
            case Mark.BASE32:
                yield from _base32(text, ends)
            case Mark.SPACED:
                yield from _kept(_spaced(text))
            case Mark.ADDED:
                yield from _kept(substituted(text, _ADDED, _nothing))
            case Mark.CONTINUED:
                yield from _kept(substituted(text, _CONTINUED, _nothing))
                yield from _kept(substituted(text, _FOLDED, _nothing))
            case Mark.QUOTED | Mark.COVERED:
                continue


def joined(text: bytes, marks: dict[Mark, list[int]], *, gaps: bool) -> Iterator[View]:
    """Views of the text with what was torn apart put together: lines, quoted parts, letters.

    `gaps`: blanks are to be closed as well.
    """
    if b"\n" in text:
        yield edited(text, list(_breaks(text)))
    if Mark.QUOTED in marks:
        yield from _kept(substituted(text, _QUOTES, _nothing))
    if gaps:
        yield from _kept(substituted(text, _BLANKS, _nothing))


def unescaped(line: bytes) -> bytes:
    """A line with its escapes resolved, for a first look at many lines at once.

    Addresses are done the quick way; a `%2520` leaves a `%20` there, which is a sign as well.
    """
    if b"\\" not in line and _ENTITY.search(line) is None:
        return unquote_to_bytes(line)
    return _ESCAPE.sub(lambda match: match[0] if (new := _unescaped(match)) is None else new, line)


def clear(line: bytes) -> bytes:
    """A line as a reader sees it: without what has no width, and not letter by letter."""
    if _ODD.search(line):
        line = _UNSEEN.sub(lambda match: match[0] if (new := _seen(match)) is None else new, line)
    if _LETTERS.match(line):
        view = _spaced(line)
        line = view.data if view is not None else line
    return line


def _breaks(text: bytes) -> Iterator[Edit]:
    """Line breaks with what continues a line around them: blanks, a backslash, quotes and a plus.

    By hand, not by an expression: one for this would try every way to share out a run of blanks.
    """
    done = 0
    at = text.find(b"\n")
    while at >= 0:
        left = text[max(done, at - _AROUND) : at].rstrip(_SPACES)
        if left.endswith((b"\\", b",", b"^")):
            left = left[:-1].rstrip(_SPACES)
        operator = next((one for one in _JOINERS if left.endswith(one)), b"")
        bare = left.removesuffix(operator).rstrip(_SPACES) if operator else left
        if bare.endswith((b'"', b"'", b"`")):
            left = bare[:-1]
        start = max(done, at - _AROUND) + len(left)
        after = text[at + 1 : at + 1 + _AROUND]
        right = after.lstrip(b" \t>|#*")
        for one in _JOINERS:
            rest = right.removeprefix(one).lstrip(_SPACES)
            if right.startswith(one) and rest.startswith((b'"', b"'", b"`")):
                right = rest
                break
        if right.startswith((b'"', b"'", b"`")):
            right = right[1:]
        done = at + 1 + len(after) - len(right)
        yield start, done, b""
        at = text.find(b"\n", done)


def _nothing(_match: re.Match[bytes]) -> bytes:
    return b""


def _spaced(text: bytes) -> View | None:
    """Letters that stand apart are put together; three blanks were one, between two words."""
    edits = [
        (gap.start(), gap.end(), b"\n" if b"\n" in gap[0] else b" " if len(gap[0]) == 3 else b"")
        for run in _SPACED.finditer(text)
        for gap in _GAP.finditer(text, *run.span())
    ]
    return edited(text, edits) if edits else None


def _kept(view: View | None) -> Iterable[View]:
    return () if view is None else (view,)


def _seen(match: re.Match[bytes]) -> bytes | None:
    """What a reader sees of it: nothing of what has no width, the plain letter of a lookalike."""
    raw = match[0]
    if raw[0] < 0x80 or raw[0] == 0x9B or raw[:2] == b"\xc2\x9b":
        return b""
    try:
        letters = raw.decode()
    except UnicodeDecodeError:
        return None
    plain = "".join(_plain(letter) for letter in letters)
    return None if plain == letters else plain.encode()


@functools.lru_cache(4096)
def _plain(letter: str) -> str:
    if letter in LOOKALIKE:
        return LOOKALIKE[letter]
    category = unicodedata.category(letter)
    if category == "Nd":
        return str(unicodedata.digit(letter))
    if (
        category in ("Cf", "Mn", "Me", "Cc", "Cn", "Co")
        or letter in "\u3164\u115f\u1160\uffa0\u2800"
    ):
        return ""
    if category in ("Zs", "Zl", "Zp"):
        return " "
    folded = unicodedata.normalize("NFKD", letter)
    return "".join(one for one in folded if unicodedata.category(one) != "Mn")


def _unescaped(match: re.Match[bytes]) -> bytes | None:
    number = match.lastindex
    if number is None:
        return None
    digits = match[number]
    base = _BASES[number]
    if base is not None:
        code = int(digits, base)
        if code < 0x80:
            return bytes((code,))
        if number in (1, 5, 6):
            return bytes((code & 0xFF,))
        return None if code > 0x10FFFF or 0xD800 <= code < 0xE000 else chr(code).encode()
    if digits in (b"/", b"_", b"-"):
        return digits
    if digits in _BLANK:
        return _BLANK[digits]
    entity = match[0].decode("ascii")
    plain = html.unescape(entity)
    return None if plain == entity else plain.encode()


def _unquoted(match: re.Match[bytes]) -> bytes | None:
    return bytes((int(match[1], 16),)) if match[1] else b""


def _run(pattern: re.Pattern[bytes], text: bytes, at: int, back: re.Pattern[bytes]) -> int:
    """Where the run of characters around `at` begins."""
    start = at
    while start > 0 and back.match(text, start - 1):
        start -= 1
    return start


def _base64(text: bytes, ends: list[int]) -> Iterator[View]:
    """Each run once for each way its groups of four may lie."""
    done: set[tuple[int, int]] = set()
    runs = [(match.start(), match.end()) for match in _RUN64.finditer(text)]
    index = 0
    for end in sorted(ends):
        while index < len(runs) and runs[index][1] < end:
            index += 1
        if index == len(runs):
            return
        start, stop = runs[index]
        if (start, start) not in done:
            done.add((start, start))
            places = _without_gaps(text, start, stop)
        phase = bisect.bisect_left(places, end) % 4
        if (start, phase - 4) not in done:
            done.add((start, phase - 4))
            yield from _decoded64(text, places[phase:], stop)


def _without_gaps(text: bytes, start: int, stop: int) -> Sequence[int]:
    """Places of the letters of a run of base64."""
    gaps = [match.span() for match in _GAP64.finditer(text, start, stop)]
    if not gaps:
        return range(start, stop)
    places: list[int] = []
    for left, right in [*gaps, (stop, stop)]:
        places.extend(range(start, left))
        start = right
    return places


def _decoded64(text: bytes, places: Sequence[int], stop: int) -> Iterator[View]:
    torn = not isinstance(places, range)
    letters = bytes(text[n] for n in places) if torn else text[places[0] : stop] if places else b""
    odd = len(letters) % 4
    if odd == 1:
        letters, places, odd = letters[:-1], places[:-1], 0
    data = b64decode(letters.translate(_URLSAFE) + b"=" * (-len(letters) % 4))
    last = stop
    while last < len(text) and text[last : last + 1] == b"=" and last - stop < 2:
        last += 1
    yield from _texts(grouped(data, places, 4, 3, last))


def _texts(view: View) -> Iterator[View]:
    """What of decoded bytes can be text: all of it, or stretches between what cannot."""
    try:
        view.data.decode()
    except UnicodeDecodeError:
        for match in _STRETCH.finditer(view.data):
            if match[0].count(0) * 5 <= len(match[0]) * 3:
                yield part(view, *match.span())
    else:
        if view.data:
            yield view


def _packed(text: bytes, ends: list[int]) -> Iterator[View]:
    for match in _RUN64.finditer(text):
        at = text.find(b"H4sI", match.start(), match.end())
        if at < 0 or not any(match.start() < end <= match.end() for end in ends):
            continue
        letters = _GAP64.sub(b"", text[at : match.end()]).translate(_URLSAFE)
        raw = b64decode(letters[: len(letters) // 4 * 4] + _padded(letters))
        try:
            data = zlib.decompressobj(31).decompress(raw, MOST_UNPACKED)
        except zlib.error:
            continue
        if data:
            yield whole(data, at, match.end())


def _padded(letters: bytes) -> bytes:
    rest = letters[len(letters) // 4 * 4 :]
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _hex(text: bytes, ends: list[int]) -> Iterator[View]:
    done: set[tuple[int, int]] = set()
    for end in sorted(ends):
        for match in _RUN_HEX.finditer(text, _run(_RUN_HEX, text, end - 1, _HEX_DIGIT)):
            places = [n for n in range(*match.span()) if _HEX_DIGIT.match(text, n)]
            phase = sum(1 for n in places if n < end) % 2
            if (match.start(), phase) not in done:
                done.add((match.start(), phase))
                places = places[phase : len(places) - (len(places) - phase) % 2]
                data = bytes.fromhex("".join(chr(text[n]) for n in places))
                if data:
                    yield from _texts(grouped(data, places, 2, 1, places[-1] + 1))
            break


def _hex_pairs(text: bytes, ends: list[int]) -> Iterator[View]:
    for run in _RUN_PAIRS.finditer(text):
        if any(run.start() < end <= run.end() + 2 for end in ends):
            pairs = list(_PAIR.finditer(text, *run.span()))
            data = bytes(int(pair[1], 16) for pair in pairs)
            yield tokens(data, [pair.span() for pair in pairs])


def _decimal(text: bytes, ends: list[int]) -> Iterator[View]:
    """Lists of numbers, as Go, Python and JavaScript print bytes."""
    for run in _RUN_DECIMAL.finditer(text):
        if any(run.start() < end <= run.end() for end in ends):
            numbers = [one for one in _NUMBER.finditer(text, *run.span()) if int(one[0]) < 256]
            yield tokens(bytes(int(one[0]) for one in numbers), [one.span() for one in numbers])


def _dump(text: bytes) -> Iterator[View]:
    """What `xxd`, `od` and `hexdump` print: address, bytes, and letters again beside them. Some
    print words of two bytes, the second first. A byte stands for all of its line."""
    data, swapped = bytearray(), bytearray()
    places: list[tuple[int, int]] = []
    for line in _DUMP_LINE.finditer(text):
        own = bytes.fromhex(line[1].decode())
        data += own
        for group in line[1].split():
            swapped += bytes.fromhex(group.decode())[::-1] if len(group) == 4 else b""
        places.extend([(line.start(1), line.end())] * len(own))
    if data:
        yield tokens(bytes(data), places)
    if len(swapped) == len(data):
        yield tokens(bytes(swapped), places)


def _base32(text: bytes, ends: list[int]) -> Iterator[View]:
    done: set[tuple[int, int]] = set()
    for run in _RUN32.finditer(text):
        for end in ends:
            phase = (end - run.start()) % 8
            if not run.start() < end <= run.end() or (run.start(), phase) in done:
                continue
            done.add((run.start(), phase))
            letters = text[run.start() + phase : run.end()]
            letters = letters[: len(letters) - (1 if len(letters) % 8 in (1, 3, 6) else 0)]
            try:
                data = b32decode(letters + b"=" * (-len(letters) % 8))
            except ValueError:
                continue
            first = run.start() + phase
            last = run.end()
            while last < len(text) and text[last : last + 1] == b"=":
                last += 1
            yield from _texts(grouped(data, range(first, first + len(letters)), 8, 5, last))


__all__ = ["MARKERS", "Mark", "clear", "joined", "unescaped", "unmasked"]
