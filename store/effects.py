"""Effects: the ledger that makes sure that nothing is done twice, or without being allowed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import psycopg

from domain.action import Action
from domain.effect import Attempt, EffectState
from store.database import NOT_COVERED, Database, jsonb, text
from store.records import Claim, EffectRow, Lease

CLAIM = """
SELECT fermata_claim(
    %(id)s, %(run)s, %(fence)s, %(step)s, %(kind)s, %(digest)s, %(scope_digest)s, %(decision)s,
    %(approval)s::uuid, %(action)s, %(now)s)
"""
FINISH = """
UPDATE effects f
SET state = %(state)s, result = %(result)s, error = %(error)s, finished_at = %(now)s
FROM (SELECT fermata_hold(%(run)s, %(fence)s) AS run_id) held
WHERE f.id = %(id)s AND f.run_id = held.run_id AND f.state <> 'applied'
"""
OF_RUN = """
SELECT fermata_doc(f) FROM effects f WHERE run_id = %(run)s ORDER BY started_at, id
"""
BEGAN = """
SELECT min(started_at) FROM effects WHERE run_id = %(run)s AND starts_with(step_id, %(prefix)s)
"""


@dataclass(frozen=True)
class Effects:
    """Claims effects before they are tried, and keeps what came of them."""

    db: Database

    async def claim(
        self,
        lease: Lease,
        *,
        step_id: str,
        action: Action,
        digest: str,
        scope_digest: str,
        decision_id: UUID,
        approval_id: UUID | None,
        now: datetime,
    ) -> Claim:
        """Ask to perform an action; the answer says whether to do it, read back, or leave it.

        The claim stands only if the decision allows exactly this action in this run and step,
        and the approval it rests on was given for it; the first claim spends the approval.
        Raises `LeaseLost`, and `ValueError` when no decision covers it (law 2).
        """
        try:
            claim = await self.db.model(
                Claim,
                CLAIM,
                {
                    "id": uuid4(),
                    "run": lease.run_id,
                    "fence": lease.fence,
                    "step": step_id,
                    "kind": action.kind,
                    "digest": digest,
                    "scope_digest": scope_digest,
                    "decision": decision_id,
                    "approval": approval_id,
                    "action": jsonb(action),
                    "now": now,
                },
            )
        except psycopg.DatabaseError as error:
            if error.sqlstate == NOT_COVERED:
                raise ValueError(error.diag.message_primary) from error
            raise
        assert claim is not None
        return claim

    async def finish(
        self, lease: Lease, effect_id: UUID, attempt: Attempt, *, now: datetime
    ) -> None:
        """Write down how it went. What was applied stays applied.

        `refused` means that nothing was changed, so that the next claim may simply try again;
        `unknown` that the world has to be read first. Raises `LeaseLost`.
        """
        if attempt.state is EffectState.STARTED:
            raise ValueError("an attempt that is finished is applied, refused or unknown")
        await self.db.count(
            FINISH,
            {
                "run": lease.run_id,
                "fence": lease.fence,
                "id": effect_id,
                "state": attempt.state.value,
                "result": jsonb(attempt.applied) if attempt.applied is not None else None,
                "error": text(attempt.error),
                "now": now,
            },
        )

    async def of_run(self, run_id: UUID) -> list[EffectRow]:
        """All effects of a run, oldest first."""
        return await self.db.models(EffectRow, OF_RUN, {"run": run_id})

    async def began(self, run_id: UUID, key: str) -> datetime | None:
        """When the run first changed a target (`service/environment`); None: not yet."""
        found = await self.db.value(BEGAN, {"run": run_id, "prefix": f"{key}."})
        return found if isinstance(found, datetime) else None
