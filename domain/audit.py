"""The audit record as text: one line a row, chained by hashes so that every byte counts.

A dump is JSON lines. The first is the header, every other one a row or a run of rows that were left
out of a selection. `docs/audit.md` describes the format for those who want to check it themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from domain.errors import FermataError

FORMAT = "fermata-audit/1"
GENESIS = bytes(32)
"""What stands in for the hash before the first row."""
MOST_OMITTED = 1000
"""Rows left out that share a line at most."""

_PREV = b', "prev": "'
_HASH = b'", "hash": "'
_END = b'"}'
_SEAL = b', "hash": "'


class Broken(FermataError):
    """The first row of a dump that does not hold. `seq` is None for the header."""

    def __init__(self, line: int, seq: int | None, kind: str, what: str) -> None:
        place = "the header" if seq is None else f"row {seq}" + (f" ({kind})" if kind else "")
        super().__init__(f"line {line}, {place}: {what}")
        self.line = line
        self.seq = seq
        self.kind = kind
        self.what = what


class NotARow(ValueError):
    """A line is not built like a row; the text says what is missing."""


def digest(text: bytes) -> bytes:
    """What stands for a row in the chain."""
    return hashlib.sha256(text).digest()


def chained(before: bytes, row_digest: bytes) -> bytes:
    """The hash of a row: over the hash before it and its own digest."""
    return hashlib.sha256(before + row_digest).digest()


def row_line(text: bytes, before: bytes, own: bytes) -> bytes:
    """A row's line: its text (a JSON object), with the hash before it and its own at the end."""
    return b"".join(
        (text[:-1], _PREV, before.hex().encode(), _HASH, own.hex().encode(), _END, b"\n")
    )


def parted(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Text, hash before and own hash of a row's line. Raises `NotARow`."""
    if not line.endswith(b"\n"):
        raise NotARow("the line does not end; the file was cut off or the end of line was changed")
    body = line[:-1]
    own_at = len(body) - len(_END) - 64
    before_at = own_at - len(_HASH) - 64
    text_end = before_at - len(_PREV)
    if (
        text_end < 2
        or body[own_at + 64 :] != _END
        or body[own_at - len(_HASH) : own_at] != _HASH
        or body[text_end:before_at] != _PREV
    ):
        raise NotARow("the line does not end in prev and hash, as a row does")
    return body[:text_end] + b"}", _raw(body[before_at : before_at + 64]), _raw(body[own_at:-2])


def header_line(fields: dict[str, Any]) -> bytes:
    """The header, sealed by a hash over itself."""
    text = json.dumps(fields, ensure_ascii=False).encode()
    return text[:-1] + _SEAL + digest(text).hex().encode() + _END + b"\n"


def unsealed(line: bytes) -> bytes:
    """The header's text without its seal. Raises `NotARow` when the seal does not fit."""
    body = line.removesuffix(b"\n")
    own_at = len(body) - len(_END) - 64
    text = body[: own_at - len(_SEAL)] + b"}"
    if line != text[:-1] + _SEAL + digest(text).hex().encode() + _END + b"\n":
        raise NotARow("the header does not match its own hash")
    return text


def omitted_line(first: int, digests: Sequence[bytes], own: bytes) -> bytes:
    """Rows left out: their digests, from which the chain can be gone through all the same."""
    fields = {
        "omitted": len(digests),
        "first": first,
        "digests": b"".join(digests).hex(),
        "hash": own.hex(),
    }
    return json.dumps(fields).encode() + b"\n"


def _raw(digits: bytes) -> bytes:
    """32 bytes of 64 lower-case hex digits. Raises `NotARow`: `AB` is not how we write `ab`."""
    try:
        raw = bytes.fromhex(digits.decode("ascii"))
    except ValueError as error:
        raise NotARow("prev or hash is not hexadecimal") from error
    if raw.hex().encode() != digits:
        raise NotARow("prev or hash is not written in lower case")
    return raw
