"""The last thing before the database: every text and every JSON parameter goes through a cleaner.

Raw bodies of deliveries are bytes and stay as they came, for replays and for their digests; nothing
shows them. Checkpoints are bytes as well: what is in them was clean before it got there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from psycopg.abc import Buffer, Dumper
from psycopg.types.json import Jsonb, JsonbDumper
from psycopg.types.string import StrDumperUnknown


class Cleaner(Protocol):
    """Takes secrets out of what is about to be stored."""

    def text(self, text: str) -> str:
        """A text without secrets; the very same one when it has none."""
        ...

    def json(self, raw: bytes) -> bytes:
        """The same for JSON in UTF-8."""
        ...


def clean_dumpers(clean: Cleaner) -> Iterator[tuple[type, type[Dumper]]]:
    """Adapters for one connection: (Python type, what turns it into a parameter)."""

    class CleanText(StrDumperUnknown):
        def dump(self, obj: str) -> Buffer | None:
            return super().dump(clean.text(obj))

    class CleanJson(JsonbDumper):
        def dump(self, obj: Any) -> Buffer | None:
            raw = super().dump(obj)
            return None if raw is None else clean.json(bytes(raw))

    yield str, CleanText
    yield Jsonb, CleanJson
