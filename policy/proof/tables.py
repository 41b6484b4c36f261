"""The record against the tables it records: nothing there without a row, nothing told otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Key = tuple[str, str]
"""Table and id."""


@dataclass
class Mirror:
    """What the record says of each row of the tables, as far as it can be told in one word."""

    rows: dict[Key, str] = field(default_factory=dict)

    def note(self, kind: str, data: dict[str, Any]) -> None:
        """Take up one row of the record."""
        match kind:
            case "event":
                self.rows["events", data["id"]] = f"{data['status']} {data['digest']}"
            case "decision":
                said = (data["outcome"], data["action_digest"], data["scope_digest"])
                self.rows["decisions", data["id"]] = " ".join(said)
            case "approval.asked":
                self.rows["approvals", data["id"]] = "pending"
            case "approval.granted":
                self.rows["approvals", data["id"]] = "approved"
            case "approval.rejected" | "approval.expired" | "approval.dismissed" | "approval.spent":
                self.rows["approvals", data["id"]] = kind.removeprefix("approval.")
            case "vote.counted" | "vote.refused":
                key = ("votes", data["approval_id"])
                self.rows[key] = str(int(self.rows.get(key, "0")) + 1)
            case "override":
                self.rows["overrides", data["id"]] = data["principal"]
            case "effect.claimed" | "effect.applied" | "effect.refused" | "effect.unknown":
                self.rows["effects", data["id"]] = data["state"]
            case _:
                return

    def gaps(self, tables: Iterable[tuple[str, str, str]]) -> tuple[list[str], int]:
        """What the tables hold and the record does not, in words, and how many rows the record
        has that the tables no longer hold. Takes (table, id, word) of every row there is."""
        found: list[str] = []
        seen = 0
        for table, key, word in tables:
            told = self.rows.get((table, key))
            if told is None:
                found.append(f"{table}: {key} is not in the record")
                continue
            seen += 1
            if told != word:
                found.append(f"{table}: {key} says {word}, the record says {told}")
        return found, len(self.rows) - seen
