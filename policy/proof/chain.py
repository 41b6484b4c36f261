"""The chain: every line of a dump read in order, each proven before anything in it is believed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from domain.audit import (
    FORMAT,
    GENESIS,
    MOST_OMITTED,
    Broken,
    NotARow,
    chained,
    digest,
    omitted_line,
    parted,
    unsealed,
)

_KIND = re.compile(rb'"kind": "([a-z.]{1,40})"')


@dataclass(frozen=True, slots=True)
class Row:
    """A proven row. `line` is its line in the dump, 1-based; times are aware, as text."""

    line: int
    seq: int
    at: str
    linked: str
    kind: str
    run: str | None
    data: dict[str, Any]

    def broken(self, what: str) -> Broken:
        """The finding that this row does not hold."""
        return Broken(self.line, self.seq, self.kind, what)


@dataclass
class Chain:
    """Takes the lines of a dump one by one, as bytes with their ends, then `end`.

    Raises `Broken` at the first line that does not hold.
    """

    header: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    omitted: int = 0
    head: bytes = GENESIS
    hashes: dict[int, str] | None = None
    """Where given: filled with the hash of every seq that it has as a key."""
    _seq: int = 0
    _line: int = 0
    _linked: str = ""

    def take(self, line: bytes) -> Row | None:
        """The row of a line; None for the header and for rows left out."""
        self._line += 1
        if self._line == 1:
            self._read_header(line)
        elif line.startswith(b'{"omitted"'):
            self._pass_over(line)
        else:
            return self._row(line)
        return None

    @property
    def last(self) -> int:
        """The seq that the lines so far lead to."""
        return self._seq

    def _read_header(self, line: bytes) -> None:
        try:
            header = json.loads(unsealed(line))
        except NotARow as error:
            raise Broken(1, None, "", str(error)) from error
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise Broken(1, None, "", f"this is no audit dump of the format {FORMAT}")
        self.header = header

    def _row(self, line: bytes) -> Row:
        wanted = self._seq + 1
        try:
            text, before, own = parted(line)
        except NotARow as error:
            raise Broken(self._line, wanted, _kind(line), str(error)) from error
        row_digest = digest(text)
        if chained(before, row_digest) != own:
            mended = chained(self.head, row_digest) == own
            what = (
                "its prev was changed: it is not the hash of the row before"
                if mended
                else "its content does not match its hash: it was changed after it was written"
            )
            raise Broken(self._line, wanted, _kind(line), what)
        row = self._decoded(text, wanted, line)
        if row.seq != wanted:
            raise Broken(self._line, row.seq, row.kind, _misplaced(row.seq, wanted))
        if before != self.head:
            raise row.broken(
                "it does not continue the row before it: that one, or this one, was replaced"
            )
        if row.linked < self._linked:
            raise row.broken(f"it was linked at {row.linked}, before the row before it")
        self._linked = row.linked
        self._step(own)
        self.count += 1
        return row

    def _decoded(self, text: bytes, wanted: int, line: bytes) -> Row:
        try:
            raw = orjson.loads(text)
            row = Row(
                self._line,
                raw["seq"],
                raw["at"],
                raw["linked"],
                raw["kind"],
                raw["run"],
                raw["data"],
            )
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Broken(self._line, wanted, _kind(line), f"it is no audit row: {error}") from error
        return row

    def _pass_over(self, line: bytes) -> None:
        wanted = self._seq + 1
        try:
            raw = orjson.loads(line)
            joined = bytes.fromhex(raw["digests"])
            digests = [joined[at : at + 32] for at in range(0, len(joined), 32)]
            own = self.head
            for one in digests:
                own = chained(own, one)
            fits = line == omitted_line(wanted, digests, own) and 0 < len(digests) <= MOST_OMITTED
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            what = f"this line about rows left out cannot be read: {error}"
            raise Broken(self._line, wanted, "", what) from error
        if not fits:
            raise Broken(
                self._line,
                wanted,
                "",
                "this line about rows left out was changed, or does not belong here",
            )
        for one in digests:
            self._step(chained(self.head, one))
        self.omitted += len(digests)

    def _step(self, own: bytes) -> None:
        self.head = own
        self._seq += 1
        if self.hashes is not None and self._seq in self.hashes:
            self.hashes[self._seq] = own.hex()

    def end(self) -> None:
        """All that the header promises was there, and ends in its head."""
        if self._line == 0:
            raise Broken(1, None, "", "the file is empty")
        last, head = self.header.get("last"), self.header.get("head")
        if self._seq != last:
            missing = f"row {self._seq + 1} is missing: the header promises rows up to {last}"
            if isinstance(last, int) and self._seq > last:
                missing = f"the header promises rows up to {last} only"
            raise Broken(self._line + 1, self._seq + 1, "", missing)
        if self.head.hex() != head:
            what = "its hash is not the head that the header names"
            raise Broken(self._line, self._seq, "", what)
        if self.count != self.header.get("rows"):
            what = f"it promises {self.header.get('rows')} rows, and there are {self.count}"
            raise Broken(1, None, "", what)


def _misplaced(seq: int, wanted: int) -> str:
    if seq < wanted:
        return f"it stands here a second time, or too late: row {wanted} belongs here"
    missing = f"row {wanted} is" if seq == wanted + 1 else f"rows {wanted} to {seq - 1} are"
    return f"{missing} missing before it: removed, or moved to another place"


def _kind(line: bytes) -> str:
    found = _KIND.search(line)
    return found[1].decode() if found else ""
