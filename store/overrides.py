"""Break-glass overrides: who let a change pass against policy, why, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from store.database import Database, text
from store.records import OverrideRow

# A new override wakes the run; the same one again (a node that ran twice) does not.
ADD = """
WITH added AS (
    INSERT INTO overrides (id, run_id, change_key, principal, roles, reason, at, expires_at)
    SELECT %(id)s, r.id, r.change_key, %(principal)s, %(roles)s, %(reason)s, %(at)s, %(expires)s
    FROM runs r WHERE r.id = %(run)s
    ON CONFLICT (run_id, principal, reason, expires_at) DO NOTHING
    RETURNING id
)
SELECT id, fermata_signal(
    %(run)s, 'override_added', jsonb_build_object('override_id', id), NULL) FROM added
"""
FIND = """
SELECT fermata_doc(o) FROM overrides o
WHERE o.run_id = %(run)s AND o.principal = %(principal)s AND o.reason = %(reason)s
  AND o.expires_at = %(expires)s
"""


@dataclass(frozen=True)
class Overrides:
    """Overrides hold for the change, so also for a later run of it, until they expire."""

    db: Database

    async def add(
        self,
        run_id: UUID,
        principal: str,
        roles: tuple[str, ...],
        reason: str,
        at: datetime,
        expires_at: datetime,
    ) -> OverrideRow:
        """Keep an override; whether the roles suffice is policy's business.

        Raises `LookupError` when there is no such run.
        """
        params = {
            "id": uuid4(),
            "run": run_id,
            "principal": text(principal),
            "roles": list(roles),
            "reason": text(reason),
            "at": at,
            "expires": expires_at,
        }
        await self.db.insist(ADD, params)
        found = await self.db.model(OverrideRow, FIND, params)
        if found is None:
            raise LookupError(f"there is no run {run_id}")
        return found
