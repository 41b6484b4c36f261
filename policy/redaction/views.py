"""Views: a text as it reads once a disguise is taken off, with the way back to where it stood."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Edit = tuple[int, int, bytes]
"""Start and end of what is replaced, and what is put there."""
Table = tuple[Sequence[int], Sequence[int]]
"""For each byte of a view where its source begins, and where it ends."""


@dataclass
class View:
    """Decoded bytes. `table` is only worked out when something was found."""

    data: bytes
    table: Callable[[], Table]

    def source(self, start: int, end: int) -> tuple[int, int]:
        """Where bytes `start` to `end` of the view stood."""
        starts, ends = self.table()
        return starts[start], ends[end - 1]


def edited(text: bytes, edits: Sequence[Edit]) -> View:
    """The text with edits made, in order and apart from one another."""
    parts: list[bytes] = []
    at = 0
    for start, end, new in edits:
        parts.append(text[at:start])
        parts.append(new)
        at = end
    parts.append(text[at:])

    def table() -> Table:
        starts: list[int] = []
        ends: list[int] = []
        here = 0
        for start, end, new in edits:
            starts.extend(range(here, start))
            ends.extend(range(here + 1, start + 1))
            starts.extend([start] * len(new))
            ends.extend([end] * len(new))
            here = end
        starts.extend(range(here, len(text)))
        ends.extend(range(here + 1, len(text) + 1))
        return starts, ends

    return View(b"".join(parts), table)


def substituted(
    text: bytes, pattern: re.Pattern[bytes], new: Callable[[re.Match[bytes]], bytes | None]
) -> View | None:
    """The text with every match replaced, unless `new` says None; None when nothing changed."""
    edits = [
        (match.start(), match.end(), put)
        for match in pattern.finditer(text)
        if (put := new(match)) is not None
    ]
    return edited(text, edits) if edits else None


def grouped(data: bytes, places: Sequence[int], taken: int, given: int, end: int) -> View:
    """A view in which each `taken` source characters (at `places`) gave `given` bytes.

    `end` is where the source ends, padding included.
    """

    def table() -> Table:
        starts: list[int] = []
        ends: list[int] = []
        for index in range(len(data)):
            group = index // given
            last = min((group + 1) * taken, len(places)) - 1
            starts.append(places[min(group * taken, len(places) - 1)])
            ends.append(end if last == len(places) - 1 else places[last] + 1)
        return starts, ends

    return View(data, table)


def whole(data: bytes, start: int, end: int) -> View:
    """A view of which every byte stands for all of its source (compressed data)."""
    return View(data, lambda: ([start] * len(data), [end] * len(data)))


def tokens(data: bytes, places: Iterable[tuple[int, int]]) -> View:
    """A view in which each byte has a place of its own."""
    kept = list(places)
    return View(data, lambda: ([a for a, _ in kept], [b for _, b in kept]))


def part(view: View, start: int, end: int) -> View:
    """Some of a view."""

    def table() -> Table:
        starts, ends = view.table()
        return starts[start:end], ends[start:end]

    return View(view.data[start:end], table)
