"""Decisions of the gate, and the questions to people that some of them are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from domain.approval import ApprovalRequest
from domain.decision import Decision
from domain.plan import Step
from store.database import Connection, Database, jsonb, text
from store.leases import hold
from store.records import DecisionRow, Lease

RECORD = """
INSERT INTO decisions (id, run_id, seq, step_id, action_kind, action_digest, scope, scope_digest,
                       plan_digest, outcome, decision, facts, approval_id)
SELECT %(id)s, held.run_id,
       (SELECT coalesce(max(seq), 0) + 1 FROM decisions WHERE run_id = %(run)s),
       %(step)s, %(kind)s, %(digest)s, %(scope)s, %(scope_digest)s, %(plan_digest)s, %(outcome)s,
       %(decision)s, %(facts)s, %(approval)s
FROM (SELECT fermata_hold(%(run)s, %(fence)s) AS run_id) held
"""
DISMISS = """
UPDATE approvals SET state = 'dismissed', settled_at = clock_timestamp()
WHERE run_id = %(run)s AND state = 'pending' AND digest <> %(digest)s
"""
ASK = """
INSERT INTO approvals (id, run_id, step_id, scope, digest, policy_digest, environment, risk,
                       question, author, requirement, requested_at, expires_at, plan_digest,
                       head, base, authors)
VALUES (%(id)s, %(run)s, %(step)s, %(scope)s, %(digest)s, %(policy)s, %(environment)s, %(risk)s,
        %(question)s, %(author)s, %(requirement)s, %(requested)s, %(expires)s, %(plan)s, %(head)s,
        %(base)s, %(authors)s)
ON CONFLICT (run_id, digest) WHERE state = 'pending' DO NOTHING
RETURNING id
"""
PENDING = """
SELECT id FROM approvals WHERE run_id = %(run)s AND digest = %(digest)s AND state = 'pending'
"""
LAST = """
SELECT fermata_doc(d) FROM decisions d
WHERE run_id = %(run)s AND step_id = %(step)s ORDER BY seq DESC LIMIT 1
"""
GET = "SELECT fermata_doc(d) FROM decisions d WHERE id = %(id)s"


@dataclass(frozen=True)
class Recorded:
    """Ids of a recorded decision and of the approval it waits for or rests on."""

    decision_id: UUID
    approval_id: UUID | None


@dataclass(frozen=True)
class Decisions:
    """The record of what the gate said. Decisions are only ever added."""

    db: Database

    async def record(
        self,
        lease: Lease,
        *,
        step: Step,
        action_digest: str,
        scope_digest: str,
        plan_digest: str,
        decision: Decision,
        facts: dict[str, Any],
        approval_id: UUID | None = None,
        ask: ApprovalRequest | None = None,
    ) -> Recorded:
        """Write a decision down and, with `ask`, put the question to people.

        `approval_id` is the approval that an `allow` rests on. A question that is already pending
        for the same digest is kept, and its id is returned; pending ones of the run for another
        digest are dismissed. Raises `LeaseLost`.
        """
        decision_id = uuid4()
        params = {
            "id": decision_id,
            "run": lease.run_id,
            "fence": lease.fence,
            "step": step.id,
            "kind": step.action.kind,
            "digest": action_digest,
            "scope": step.scope,
            "scope_digest": scope_digest,
            "plan_digest": plan_digest,
            "outcome": decision.outcome.value,
            "decision": jsonb(decision),
            "facts": jsonb(facts),
            "approval": approval_id,
        }
        if ask is None:
            await self.db.count(RECORD, params)
            return Recorded(decision_id, approval_id)
        async with self.db.transaction() as conn:
            await hold(conn, lease)
            asked = await _ask(conn, ask)
            await conn.execute(RECORD, {**params, "approval": asked})
        return Recorded(decision_id, asked)

    async def last(self, run_id: UUID, step_id: str) -> DecisionRow | None:
        """The latest decision on a step."""
        return await self.db.model(DecisionRow, LAST, {"run": run_id, "step": step_id})

    async def get(self, decision_id: UUID) -> DecisionRow | None:
        """One decision, or None."""
        return await self.db.model(DecisionRow, GET, {"id": decision_id})


async def _ask(conn: Connection, ask: ApprovalRequest) -> UUID:
    """Put the question, unless it is pending already; the id it has."""
    key = {"run": ask.run_id, "digest": ask.digest}
    await conn.execute(DISMISS, key)
    row = await (
        await conn.execute(
            ASK,
            {
                **key,
                "id": ask.id,
                "step": ask.step_id,
                "scope": ask.scope,
                "policy": ask.policy_digest,
                "environment": ask.environment,
                "risk": ask.risk,
                "question": text(ask.question),
                "author": text(ask.author),
                "requirement": jsonb(ask.requirement),
                "requested": ask.requested_at,
                "expires": ask.expires_at,
                "plan": ask.plan_digest,
                "head": ask.head,
                "base": ask.base,
                "authors": [text(one) for one in ask.authors],
            },
        )
    ).fetchone()
    if row is None:
        row = await (await conn.execute(PENDING, key)).fetchone()
    assert row is not None
    return UUID(str(row[0]))
