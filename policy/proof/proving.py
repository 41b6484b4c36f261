"""Proving a dump: the chain and the laws together, with the counts for whoever asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.audit import Broken
from policy.proof.chain import Chain
from policy.proof.laws import Laws


@dataclass(frozen=True)
class Proof:
    """What a dump proves. `broken` is the first row that does not hold; None: all hold."""

    rows: int
    omitted: int
    last: int
    head: str
    kinds: Mapping[str, int]
    header: Mapping[str, Any]
    broken: Broken | None = None

    @property
    def holds(self) -> bool:
        """Whether everything in it is proven."""
        return self.broken is None


@dataclass
class Prover:
    """Takes a dump line by line, as bytes with their ends, up to the first row that is broken.

    `anchors` are beginnings of hashes that were seen elsewhere, by seq: the chain has to go through
    them, which shows when it was rewritten or cut off as a whole.
    """

    anchors: Mapping[int, str] = field(default_factory=dict)
    laws: Laws = field(default_factory=Laws)
    broken: Broken | None = None
    _chain: Chain = field(default_factory=Chain)

    def __post_init__(self) -> None:
        self._chain.hashes = dict.fromkeys(self.anchors, "")

    def feed(self, line: bytes) -> bool:
        """Take one line; False when a row is broken, so that the rest need not be read."""
        if self.broken is None:
            try:
                row = self._chain.take(line)
                if row is not None:
                    self.laws.partial = bool(self._chain.header.get("selection"))
                    self.laws.take(row)
            except Broken as error:
                self.broken = error
        return self.broken is None

    def finish(self) -> Proof:
        """What all the lines together prove."""
        chain = self._chain
        if self.broken is None:
            try:
                chain.end()
                self.laws.end()
                self._meet_anchors()
            except Broken as error:
                self.broken = error
        return Proof(
            rows=chain.count,
            omitted=chain.omitted,
            last=chain.last,
            head=chain.head.hex(),
            kinds=dict(sorted(self.laws.kinds.items())),
            header=chain.header,
            broken=self.broken,
        )

    def _meet_anchors(self) -> None:
        for seq, wanted in sorted(self.anchors.items()):
            found = (self._chain.hashes or {}).get(seq, "")
            if not found:
                last = self._chain.last
                what = f"the record ends at row {last}; row {seq} was seen before, so it was cut"
                raise Broken(last + 2, seq, "", what)
            if not found.startswith(wanted.lower()):
                what = f"its hash is {found[:16]}…, but {wanted[:16]}… was seen: it was rewritten"
                raise Broken(seq + 1, seq, "", what)


def prove(lines: Iterable[bytes], anchors: Mapping[int, str] | None = None) -> Proof:
    """What a whole dump proves; see `Prover`."""
    prover = Prover(anchors or {})
    for line in lines:
        if not prover.feed(line):
            break
    return prover.finish()
