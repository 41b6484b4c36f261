"""Streams: bytes come in pieces of any size, and go out as soon as nothing can change them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from policy.redaction.documents import Documents
from policy.redaction.engine import Found, Redactor
from policy.redaction.units import HEAD, MOST, OVERLAP

_ENOUGH = MOST + OVERLAP + HEAD + 2


@dataclass
class Stream:
    """Redacts a stream. Whatever the pieces, the output is that of the whole.

    What is held back is the unit that is not over yet, about 80 kB at most, and the part of a
    document that is not decided yet, 128 kB at most and a line.
    """

    redactor: Redactor
    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often each (rule, fingerprint) was covered."""
    taken: int = 0
    """Bytes that came in."""
    given: int = 0
    """Bytes that went out."""
    _documents: Documents = field(init=False)
    _held: bytes = b""
    _from: int = 0
    """Before this offset no line break ends a unit."""

    def __post_init__(self) -> None:
        self._documents = self.redactor.documents()

    def feed(self, data: bytes) -> bytes:
        """Take a piece; what is ready to go out, which may be nothing."""
        self.taken += len(data)
        self._take(self._documents.feed(data))
        ready = self._ready()
        out = [self._out(self.redactor.find_in_lines(ready), ready)] if ready else []
        while len(self._held) >= _ENOUGH:
            # One unit, longer than is ever looked at in one go.
            found, cut = self.redactor.long_part(self._held[: MOST + OVERLAP])
            out.append(self._out(found, self._held[:cut]))
            self._held, self._from = self._held[cut:], 0
        return b"".join(out)

    def close(self) -> bytes:
        """The end of the stream: all that was held back."""
        self._take(self._documents.close())
        rest, self._held = self._held, b""
        return self._out(self.redactor.find_in_lines(rest), rest)

    def _take(self, data: bytes) -> None:
        self._held += data
        for edit in self._documents.edits:
            self.found[(edit.named.rule, self.redactor.fingerprint(edit.named.secret))] += 1
        self._documents.edits.clear()

    def _out(self, found: list[Found], data: bytes) -> bytes:
        for one in found:
            self.found[(one.rule, self.redactor.fingerprint(one.secret))] += 1
        out = self.redactor.covered(data, found)
        self.given += len(out)
        return out

    def _ready(self) -> bytes:
        """Take off everything up to the last line break that is known to end a unit."""
        held = self._held
        end = held.rfind(b"\n", self._from)
        undecided = len(held)
        while end >= 0:
            line = held[held.rfind(b"\n", 0, end) + 1 : end]
            stop = held.find(b"\n", end + 1)
            following = held[end + 1 : stop if stop >= 0 else len(held)]
            whole = stop >= 0 or len(following) >= HEAD
            if not self.redactor.joins.open(line):
                break
            if not whole:
                undecided = end
            elif not self.redactor.joins.inside(line, following):
                break
            end = held.rfind(b"\n", self._from, end)
        if end < 0:
            self._from = min(undecided, len(held))
            return b""
        self._held, self._from = held[end + 1 :], 0
        return held[: end + 1]
