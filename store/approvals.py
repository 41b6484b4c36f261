"""Approvals: the questions, the votes on them (refused ones too), and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from domain.approval import ApprovalRequest, ApprovalState, Vote, unheard_owners
from domain.statement import Statement
from store import signals
from store.database import CONFLICTS, Connection, Database, again, jsonb, text
from store.leases import hold
from store.records import Lease

Judge = Callable[[ApprovalRequest, Vote, str], str | None]
"""Whether one vote may count: None, or the reason why not. Pure: it runs inside a transaction."""

GET = "SELECT fermata_doc(a) FROM approvals a WHERE a.id = %(id)s"
LIST = """
SELECT fermata_doc(a) FROM approvals a
WHERE (%(state)s::text IS NULL OR a.state = %(state)s) ORDER BY a.seq DESC LIMIT %(limit)s
"""
OF_RUN = "SELECT fermata_doc(a) FROM approvals a WHERE a.run_id = %(run)s ORDER BY a.seq"
REFUSALS = """
SELECT json_build_object('principal', v.principal, 'roles', v.roles, 'decision', v.decision,
                         'comment', v.comment, 'via', v.via, 'at', v.at, 'teams', v.teams,
                         'statement', coalesce(v.statement_digest, '')), v.refused
FROM votes v WHERE v.approval_id = %(id)s AND v.refused IS NOT NULL ORDER BY v.id
"""
LOCK_RUN = """
SELECT id FROM runs WHERE id = (SELECT run_id FROM approvals WHERE id = %(id)s)
FOR NO KEY UPDATE
"""
ADD_VOTE = """
INSERT INTO votes (approval_id, principal, roles, teams, decision, comment, via, at, refused,
                   digest, statement, statement_digest, event_id, signal_key)
VALUES (%(id)s, %(principal)s, %(roles)s, %(teams)s, %(decision)s, %(comment)s, %(via)s, %(at)s,
        %(refused)s, %(digest)s, %(statement)s, %(statement_digest)s, %(event)s, %(key)s)
"""
CAST = "SELECT refused FROM votes WHERE signal_key = %(key)s"
SETTLE = """
UPDATE approvals SET state = %(state)s, settled_at = clock_timestamp()
WHERE id = %(id)s AND state = 'pending'
"""
EXPIRE = """
UPDATE approvals SET state = 'expired', settled_at = clock_timestamp()
WHERE id = %(id)s AND run_id = %(run)s AND state = 'pending'
"""
SPEND = """
UPDATE approvals SET state = 'spent', settled_at = clock_timestamp()
WHERE id = %(id)s AND run_id = %(run)s AND state IN ('approved', 'spent')
"""


@dataclass(frozen=True)
class Approvals:
    """Requests for approval and their votes."""

    db: Database

    async def get(self, approval_id: UUID) -> ApprovalRequest | None:
        """One request with the votes that count, or None."""
        return await self.db.model(ApprovalRequest, GET, {"id": approval_id})

    async def list(
        self, state: ApprovalState | None = None, limit: int = 100
    ) -> list[ApprovalRequest]:
        """Requests in a state (None: all), newest first."""
        return await self.db.models(
            ApprovalRequest, LIST, {"state": state.value if state else None, "limit": limit}
        )

    async def refusals(self, approval_id: UUID) -> tuple[tuple[Vote, str], ...]:
        """Votes that do not count, each with the reason."""
        found = await self.db.rows(REFUSALS, {"id": approval_id})
        return tuple((Vote.model_validate(vote), str(reason)) for vote, reason in found)

    async def vote(
        self,
        approval_id: UUID,
        vote: Vote,
        digest: str,
        judge: Judge,
        *,
        key: str | None = None,
        event_id: UUID | None = None,
    ) -> tuple[ApprovalRequest, str | None]:
        """Cast a vote; the request as it is now, and the reason if the vote was refused.

        A refused vote is kept as well, with the reason. `key` names the signal that brought the
        vote: the same one counts once, however often a node that crashed comes back to it.

        `judge` decides on the vote alone; the request is approved when as many different people
        as it requires have approved, and rejected by any one rejection. Either wakes the run.
        Votes on one run are counted one after the other. Raises `LookupError` for no such request.
        """
        async for attempt in again(*CONFLICTS):
            with attempt:
                async with self.db.transaction() as conn:
                    cast = _Cast(approval_id, vote, digest, judge, key, event_id)
                    return await _vote(conn, cast)
        raise AssertionError("unreachable")

    async def expire(self, lease: Lease, approval_id: UUID) -> bool:
        """Let a pending request expire; False when it was no longer pending."""
        async with self.db.transaction() as conn:
            await hold(conn, lease)
            done = await conn.execute(EXPIRE, {"id": approval_id, "run": lease.run_id})
            return done.rowcount == 1

    async def spend(self, lease: Lease, approval_id: UUID) -> None:
        """Use an approval up, as the first effect that rests on it does.

        Raises `ValueError` unless it was given, and given to this run.
        """
        async with self.db.transaction() as conn:
            await hold(conn, lease)
            done = await conn.execute(SPEND, {"id": approval_id, "run": lease.run_id})
            if done.rowcount != 1:
                raise ValueError(f"approval {approval_id} was not given to run {lease.run_id}")


@dataclass(frozen=True)
class _Cast:
    """A vote on its way into the ballot box."""

    approval_id: UUID
    vote: Vote
    digest: str
    judge: Judge
    key: str | None
    event_id: UUID | None


async def _vote(conn: Connection, cast: _Cast) -> tuple[ApprovalRequest, str | None]:
    # The run's row first, as everywhere; it also makes votes on one run wait for each other.
    await conn.execute(LOCK_RUN, {"id": cast.approval_id})
    before = await _read(conn, cast.approval_id)
    if cast.key is not None:
        row = await (await conn.execute(CAST, {"key": cast.key})).fetchone()
        if row is not None:
            return before, row[0]
    vote = cast.vote
    refused = cast.judge(before, vote, cast.digest)
    if refused is None and before.state is not ApprovalState.PENDING:
        refused = f"the request is no longer pending, it is {before.state.value}"
    if refused is None and vote.decision not in ("approve", "reject"):
        refused = "a vote is either approve or reject"
    statement = Statement.of(before, vote)
    await conn.execute(
        ADD_VOTE,
        {
            "id": cast.approval_id,
            "principal": text(vote.principal),
            "roles": list(vote.roles),
            "teams": list(vote.teams),
            "decision": "approve" if vote.decision == "approve" else "reject",
            "comment": text(vote.comment),
            "via": vote.via,
            "at": vote.at,
            "refused": refused,
            "digest": text(cast.digest),
            "statement": jsonb(statement),
            "statement_digest": statement.digest,
            "event": cast.event_id,
            "key": cast.key,
        },
    )
    if refused is not None:
        return before, refused
    after = await _read(conn, cast.approval_id)
    settled = _settled(after)
    if settled is not None:
        await conn.execute(SETTLE, {"id": cast.approval_id, "state": settled.value})
    payload = {
        "approval_id": str(cast.approval_id),
        "principal": vote.principal,
        "decision": vote.decision,
        "state": (settled or after.state).value,
    }
    await signals.send(conn, after.run_id, "vote", payload)
    return after.model_copy(update={"state": settled or after.state}), None


async def _read(conn: Connection, approval_id: UUID) -> ApprovalRequest:
    row = await (await conn.execute(GET, {"id": approval_id})).fetchone()
    if row is None:
        raise LookupError(f"there is no approval {approval_id}")
    return ApprovalRequest.model_validate(row[0])


def _settled(request: ApprovalRequest) -> ApprovalState | None:
    """What the votes that count have made of a pending request, or None: not settled yet."""
    if any(vote.decision == "reject" for vote in request.votes):
        return ApprovalState.REJECTED
    approvers = {vote.principal.casefold() for vote in request.votes}
    enough = len(approvers) >= request.requirement.count
    if enough and not unheard_owners(request.requirement, request.votes):
        return ApprovalState.APPROVED
    return None
