"""Copies of one waiting run, made in SQL: each a change, a thread and a question of its own.

A copy has what the original has, row for row, under ids of its own: event, run, path, verdicts,
decisions, the request for approval, and the checkpoint it waits at, with its channels and its
interrupt. Earlier checkpoints, which only a replay reads, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import psycopg

from bench.ground import BenchError

CHUNK = 10_000
EMPTY = ("effects", "locks", "lock_queue", "signals")
"""A run that has only just asked has no rows there; the copies would have to have them, too."""

MAP = """
CREATE UNLOGGED TABLE IF NOT EXISTS clones (
    n integer PRIMARY KEY, run_id uuid NOT NULL, thread_id uuid NOT NULL, event_id uuid NOT NULL)
"""
ADD = """
INSERT INTO clones SELECT n, gen_random_uuid(), gen_random_uuid(), gen_random_uuid()
FROM generate_series(%s::integer, %s::integer) n
"""
COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO'
ORDER BY ordinal_position
"""

# An id that follows from the original's and the copy's: references within a copy come out right.
OWN_ID = "md5(s.id::text || c.run_id::text)::uuid"
OWN_APPROVAL = "md5(s.approval_id::text || c.run_id::text)::uuid"
LAST = "(SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = %(thread)s)"

COPIES: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "events",
        "s.id = %(event)s",
        {
            "id": "c.event_id",
            "thread_id": "c.thread_id",
            "run_ids": "ARRAY[c.run_id]",
            "delivery_id": "c.event_id::text",
            "body_digest": "c.event_id::text",
        },
    ),
    (
        "runs",
        "s.id = %(run)s",
        {
            "id": "c.run_id",
            "thread_id": "c.thread_id",
            "event_id": "c.event_id",
            "change_key": "'command:' || c.event_id",
        },
    ),
    (
        "run_services",
        "s.run_id = %(run)s",
        {"run_id": "c.run_id", "run_seq": "(SELECT seq FROM runs WHERE id = c.run_id)"},
    ),
    ("run_path", "s.run_id = %(run)s", {"run_id": "c.run_id"}),
    ("verdicts", "s.run_id = %(run)s", {"run_id": "c.run_id"}),
    ("metric_windows", "s.run_id = %(run)s", {"run_id": "c.run_id"}),
    ("approvals", "s.run_id = %(run)s", {"run_id": "c.run_id", "id": OWN_ID}),
    (
        "decisions",
        "s.run_id = %(run)s",
        {"run_id": "c.run_id", "id": OWN_ID, "approval_id": OWN_APPROVAL},
    ),
    (
        "checkpoints",
        f"s.thread_id = %(thread)s AND s.checkpoint_id = {LAST}",
        {
            "thread_id": "c.thread_id::text",
            "parent_checkpoint_id": "NULL",
            "checkpoint": "jsonb_set(s.checkpoint, '{channel_values,run_id}', to_jsonb(c.run_id))",
        },
    ),
    (
        "checkpoint_blobs",
        "s.thread_id = %(thread)s AND (s.channel, s.version) IN (SELECT key, value FROM "
        "checkpoints k, jsonb_each_text(k.checkpoint -> 'channel_versions') "
        f"WHERE k.thread_id = %(thread)s AND k.checkpoint_id = {LAST})",
        {"thread_id": "c.thread_id::text"},
    ),
    (
        "checkpoint_writes",
        f"s.thread_id = %(thread)s AND s.checkpoint_id = {LAST}",
        {"thread_id": "c.thread_id::text"},
    ),
)


BAKING: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    (
        "effects",
        "s.run_id = %(run)s",
        {
            "run_id": "c.run_id",
            "id": OWN_ID,
            "decision_id": "md5(s.decision_id::text || c.run_id::text)::uuid",
            "approval_id": OWN_APPROVAL,
        },
    ),
)
"""What a run that bakes has besides. Its lock stays the original's alone: looks need none."""
TOMORROW = {"due_at": "now() + interval '1 day'"}
"""A copy that bakes is not due before it is told when."""


async def clone(url: str, run_id: UUID, first: int, last: int, *, baking: bool = False) -> None:
    """Make the copies numbered `first` to `last`, and let the planner know about them.

    The original has only just asked for an approval, or (`baking`) waits for its next look.
    """
    copies = (*COPIES, *BAKING) if baking else COPIES
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute("SET synchronous_commit = off")
        await _check(conn, run_id, ("lock_queue", "signals") if baking else EMPTY)
        await conn.execute(MAP)
        await conn.execute(ADD, (first, last))
        found = await conn.execute("SELECT event_id, thread_id FROM runs WHERE id = %s", (run_id,))
        row = await found.fetchone()
        assert row is not None
        ids = {"run": run_id, "event": row[0], "thread": str(row[1])}
        for start in range(first, last + 1, CHUNK):
            chunk = {"first": start, "last": min(start + CHUNK - 1, last), **ids}
            async with conn.transaction():
                for table, which, own in copies:
                    own = {**own, **TOMORROW} if baking and table == "runs" else own
                    await conn.execute(await _copy(conn, table, which, own), chunk)
        # As autovacuum and checkpointer would within minutes, but before the clock runs.
        for table, _, _ in copies:
            await conn.execute(f"VACUUM ANALYZE {table}".encode())
        await conn.execute("CHECKPOINT")


async def _copy(
    conn: psycopg.AsyncConnection, table: str, which: str, own: Mapping[str, str]
) -> bytes:
    rows = await (await conn.execute(COLUMNS, (table,))).fetchall()
    columns = [str(row[0]) for row in rows]
    values = [own.get(column, f"s.{column}") for column in columns]
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} "
        f"FROM {table} s, clones c WHERE {which} AND c.n BETWEEN %(first)s AND %(last)s"
    ).encode()


async def _check(conn: psycopg.AsyncConnection, run_id: UUID, empty: tuple[str, ...]) -> None:
    for table in empty:
        query = f"SELECT count(*) FROM {table} WHERE run_id = %s".encode()
        row = await (await conn.execute(query, (run_id,))).fetchone()
        if row is None or row[0]:
            raise BenchError(f"the run to be copied has rows in {table}")
