"""The audit record: linked into one chain after the fact, and given out as a dump.

Rows are written by triggers (`migrations/0011_audit.sql`), never from here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import structlog
from psycopg import AsyncConnection, IsolationLevel
from psycopg.rows import TupleRow

from domain.audit import (
    FORMAT,
    GENESIS,
    MOST_OMITTED,
    digest,
    header_line,
    omitted_line,
    row_line,
)
from store.database import Database

log = structlog.get_logger("fermata.audit")

LINK_SECONDS = 0.25
"""How long rows stay unlinked at most, while there are any."""
IDLE_SECONDS = 1.0
"""How often is looked when there were none."""
HEAD_SECONDS = 600.0
"""How often the head is logged: whoever keeps the log can tell a record that was cut off."""
MOST_LINKED = 5000
BATCH = 2000

LINK = "SELECT fermata_audit_link(%(most)s, %(wait)s)"
HEAD = "SELECT seq, encode(hash, 'hex'), linked_at FROM audit_links ORDER BY seq DESC LIMIT 1"
PAGE = """
SELECT l.seq, a.record::json, encode(l.hash, 'hex')
FROM audit_links l JOIN audit a ON a.id = l.audit_id
WHERE (%(run)s::uuid IS NULL OR a.run_id = %(run)s)
  AND (%(kind)s::text IS NULL OR a.kind = %(kind)s)
  AND (%(before)s::bigint IS NULL OR l.seq < %(before)s)
ORDER BY l.seq DESC LIMIT %(limit)s
"""
UNLINKED = """
SELECT count(*) FROM audit a
WHERE a.id > (SELECT done_to FROM audit_progress)
  AND NOT EXISTS (SELECT FROM audit_links l WHERE l.audit_id = a.id)
"""
WAITING = """
SELECT a.record::json FROM audit a
WHERE a.id > (SELECT done_to FROM audit_progress)
  AND NOT EXISTS (SELECT FROM audit_links l WHERE l.audit_id = a.id) ORDER BY a.id
"""
TABLES = """
SELECT 'events', id::text, status || ' ' || body_digest FROM events
UNION ALL SELECT 'decisions', id::text, concat_ws(' ', outcome, action_digest, scope_digest)
FROM decisions
UNION ALL SELECT 'approvals', id::text, state FROM approvals
UNION ALL SELECT 'votes', approval_id::text, count(*)::text FROM votes GROUP BY approval_id
UNION ALL SELECT 'overrides', id::text, principal FROM overrides
UNION ALL SELECT 'effects', id::text, state FROM effects
"""
UNHURRIED = """
SELECT set_config('statement_timeout', '0', true),
       set_config('idle_in_transaction_session_timeout', '0', true)
"""
ROWS = """
SELECT fermata_audit_text(l.seq, l.linked_at, a.record), l.hash,
       coalesce(l.seq = ANY (%(chosen)s::bigint[]), true)
FROM audit_links l JOIN audit a ON a.id = l.audit_id ORDER BY l.seq
"""
# Everything from then on, and all of the runs that have a part in it: a decision from before may
# be what an effect rests on. Policies are few, and every decision needs its own.
CHOSEN = """
WITH wanted AS MATERIALIZED (
    SELECT DISTINCT run_id FROM audit
    WHERE run_id IS NOT NULL AND (%(run)s::uuid IS NULL OR run_id = %(run)s)
      AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
), changes AS MATERIALIZED (
    SELECT DISTINCT record::jsonb #>> '{data,change}' AS change FROM audit
    WHERE kind = 'plan' AND run_id IN (SELECT run_id FROM wanted)
)
SELECT array_agg(l.seq)
FROM audit_links l JOIN audit a ON a.id = l.audit_id
WHERE a.kind = 'policy'
   OR a.run_id IN (SELECT run_id FROM wanted)
   OR (%(run)s::uuid IS NULL AND a.at >= %(since)s)
   OR (a.kind = 'event' AND EXISTS (
       SELECT FROM jsonb_array_elements_text(a.record::jsonb #> '{data,runs}') AS r
       WHERE r::uuid IN (SELECT run_id FROM wanted)))
   OR (a.kind IN ('override', 'override.changed')
       AND a.record::jsonb #>> '{data,change_key}' IN (SELECT change FROM changes))
"""
ANNOUNCE = """
INSERT INTO policies (digest, source, override_roles)
SELECT %(digest)s::text, %(source)s::text, %(roles)s::text[]
WHERE (SELECT (digest, source, override_roles) FROM policies
       WHERE source <> 'a decision' ORDER BY seq DESC LIMIT 1)
      IS DISTINCT FROM (%(digest)s::text, %(source)s::text, %(roles)s::text[])
"""


@dataclass(frozen=True)
class Head:
    """The newest link: whoever has seen it can tell when the record was rewritten before it."""

    seq: int
    hash: str
    linked_at: datetime


@dataclass(frozen=True)
class AuditRow:
    """A linked row. `record` holds `at`, `kind`, `run` and `data`."""

    seq: int
    record: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class AuditLog:
    """The record. Whoever links it first, the chain is one and the same."""

    db: Database

    async def link(self, *, wait: bool = True) -> int:
        """Link all that was committed before the call; how many rows that were.

        Without `wait`, another process that is at it keeps the work.
        """
        linked = 0
        while True:
            found = int(await self.db.value(LINK, {"most": MOST_LINKED, "wait": wait}))
            linked += found
            if found < MOST_LINKED:
                return linked

    async def head(self) -> Head | None:
        """The newest link; None while the record is empty."""
        row = await self.db.row(HEAD)
        return None if row is None else Head(int(row[0]), str(row[1]), row[2])

    async def page(
        self,
        *,
        run_id: UUID | None = None,
        kind: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """Linked rows, newest first; `before` is the seq that they have to be under."""
        asked = {"run": run_id, "kind": kind, "before": before, "limit": limit}
        return [AuditRow(*row) for row in await self.db.rows(PAGE, asked, prepare=False)]

    async def unlinked(self) -> int:
        """How many rows wait to be linked."""
        return int(await self.db.value(UNLINKED))

    async def announce(
        self, policy_digest: str, source: str, override_roles: Sequence[str]
    ) -> None:
        """A policy is in force from now on. The same one again is not written twice."""
        roles = sorted(override_roles)
        await self.db.count(ANNOUNCE, {"digest": policy_digest, "source": source, "roles": roles})

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reading]:
        """All of the record and of the tables at one moment, for the length of the block."""
        async with self.db.connection() as conn:
            await conn.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            try:
                async with conn.transaction():
                    await conn.execute(UNHURRIED)
                    yield Reading(conn)
            finally:
                await conn.set_isolation_level(None)

    @asynccontextmanager
    async def linking(self) -> AsyncIterator[None]:
        """Keep the record linked for the length of the block, and leave it linked."""
        await self.link(wait=False)
        stopping = asyncio.Event()
        task = asyncio.create_task(self._keep_linked(stopping), name="audit")
        try:
            yield
        finally:
            # Set as well: a cancellation in the middle of a database call may be lost.
            stopping.set()
            task.cancel()
            await asyncio.wait({task})
            try:
                await self.link(wait=False)
            except psycopg.Error as error:
                log.warning("audit rows wait for the next start", error=type(error).__name__)

    async def _keep_linked(self, stopping: asyncio.Event) -> None:
        """Link what is there again and again, and log the head."""
        logged = ""
        since_logged = HEAD_SECONDS
        while not stopping.is_set():
            pause = IDLE_SECONDS
            try:
                if await self.link(wait=False):
                    pause = LINK_SECONDS
                head = await self.head() if since_logged >= HEAD_SECONDS else None
                if head is not None and head.hash != logged:
                    log.info("audit head", seq=head.seq, hash=head.hash)
                    logged, since_logged = head.hash, 0.0
            except psycopg.Error as error:
                # Rows wait meanwhile; none is lost, and whoever links next begins where this ended.
                log.warning("audit rows were not linked", error=type(error).__name__)
            await asyncio.sleep(pause)
            since_logged += pause


@dataclass(frozen=True)
class Reading:
    """The record as it is at one moment."""

    conn: AsyncConnection[TupleRow]

    async def lines(
        self, *, since: datetime | None = None, run_id: UUID | None = None
    ) -> AsyncIterator[bytes]:
        """The lines of a dump of all that is linked, the header first.

        With `since` or `run_id` a selection: the rows from then on, or those of the run, with all
        that they rest on; of the others only their digests, so that the chain can be followed.
        """
        head = await (await self.conn.execute(HEAD)).fetchone()
        chosen: list[int] | None = None
        if since is not None or run_id is not None:
            found = await self.conn.execute(CHOSEN, {"since": since, "run": run_id})
            chosen = ((await found.fetchone()) or (None,))[0] or []
        last = int(head[0]) if head else 0
        yield header_line(
            {
                "format": FORMAT,
                "exported": datetime.now(UTC).isoformat(timespec="seconds"),
                "rows": last if chosen is None else len(chosen),
                "last": last,
                "head": str(head[1]) if head else GENESIS.hex(),
                "selection": None if chosen is None else _selection(since, run_id),
            }
        )
        async for line in _lines(self.conn, chosen):
            yield line

    async def waiting(self) -> list[dict[str, Any]]:
        """Rows that are not linked yet, as they were written."""
        found = await self.conn.execute(WAITING)
        return [row[0] for row in await found.fetchall()]

    async def tables(self) -> AsyncIterator[tuple[str, str, str]]:
        """Table, id and a word about each row that has to be in the record."""
        async with self.conn.cursor("fermata_audit_tables") as rows:
            rows.itersize = BATCH
            await rows.execute(TABLES)
            async for table, key, word in rows:
                yield table, key, word


async def _lines(
    conn: AsyncConnection[TupleRow], chosen: Sequence[int] | None
) -> AsyncIterator[bytes]:
    before = GENESIS
    left_out: list[bytes] = []
    seq = 0
    async with conn.cursor("fermata_audit_dump") as rows:
        rows.itersize = BATCH
        await rows.execute(ROWS, {"chosen": chosen})
        async for line, own, wanted in rows:
            seq += 1
            row_text = line.encode()
            if wanted:
                if left_out:
                    yield omitted_line(seq - len(left_out), left_out, before)
                    left_out = []
                yield row_line(row_text, before, own)
            else:
                left_out.append(digest(row_text))
                if len(left_out) == MOST_OMITTED:
                    yield omitted_line(seq - len(left_out) + 1, left_out, own)
                    left_out = []
            before = own
    if left_out:
        yield omitted_line(seq - len(left_out) + 1, left_out, before)


def _selection(since: datetime | None, run_id: UUID | None) -> dict[str, str]:
    told = {"since": since.isoformat() if since else "", "run": str(run_id) if run_id else ""}
    return {name: value for name, value in told.items() if value}
