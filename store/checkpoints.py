"""Checkpoints under a fence: LangGraph's PostgreSQL saver, which a zombie worker cannot write to.

The tables and the reading are LangGraph's own. Writing differs in three ways:

- A config that carries `run_id` and `fence` is checked in the statement that writes.
- One statement is one round trip and one commit; the stock saver holds one lock for a whole
  process and pipelines several statements.
- What a task wrote is not stored beside the checkpoint that follows it at once (see `keep_writes`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from psycopg import AsyncConnection, AsyncCursor
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from store.database import Pool, jsonb, one_statement, translated

NULL_TASK_ID = "00000000-0000-0000-0000-000000000000"
"""Task id under which LangGraph files what comes from outside, not from a node."""

SEPARATOR = "\x1f"
"""Between the names in one parameter: arrays of text, and of bytes as text, cost more to be written
down than all else in these statements."""

# `held` raises when the fence is outdated; both writes read from it, so it is evaluated first.
PUT = r"""
WITH held AS MATERIALIZED (
    SELECT CASE WHEN %(run)s::uuid IS NOT NULL
           THEN fermata_hold(%(run)s::uuid, %(fence)s::integer) END AS run_id
), blobs AS (
    INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    SELECT %(thread)s, %(ns)s, b.channel, b.version, b.type, b.blob
    FROM held, unnest(string_to_array(%(channels)s, E'\x1f'),
                      string_to_array(%(versions)s, E'\x1f'),
                      string_to_array(%(types)s, E'\x1f'),
                      %(blobs)b::bytea[]) AS b (channel, version, type, blob)
    ON CONFLICT (thread_id, checkpoint_ns, channel, version) DO NOTHING
)
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
                         checkpoint, metadata)
SELECT %(thread)s, %(ns)s, %(id)s, %(parent)s, %(checkpoint)s, %(metadata)s FROM held
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata
"""
PUT_WRITES = r"""
WITH held AS MATERIALIZED (
    SELECT CASE WHEN %(run)s::uuid IS NOT NULL
           THEN fermata_hold(%(run)s::uuid, %(fence)s::integer) END AS run_id
)
INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx,
                               channel, type, blob)
SELECT %(thread)s, %(ns)s, %(id)s, %(task)s, %(path)s, w.idx, w.channel, w.type, w.blob
FROM held, unnest(%(indexes)s::integer[],
                  string_to_array(%(channels)s, E'\x1f'),
                  string_to_array(%(types)s, E'\x1f'),
                  %(blobs)b::bytea[]) AS w (idx, channel, type, blob)
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
"""
KEEP_FIRST = PUT_WRITES + "DO NOTHING"
KEEP_LAST = (
    PUT_WRITES
    + "DO UPDATE SET channel = excluded.channel, type = excluded.type, blob = excluded.blob"
)

AllowedTypes = Iterable[tuple[str, str] | type]


def strict_serde(allowed: AllowedTypes = ()) -> JsonPlusSerializer:
    """Msgpack that brings back plain values and exactly the `allowed` types, nothing else."""
    return JsonPlusSerializer(allowed_msgpack_modules=list(allowed) or None)


class FencedSaver(AsyncPostgresSaver):
    """AsyncPostgresSaver whose writes need a valid fence, where the config carries one.

    `keep_writes=False` leaves out the rows that hold what a task returned, because the checkpoint
    of the next superstep, which follows at once, holds the same. After a crash between the two
    the node runs again, which ours may: effects are kept apart, in their ledger. Interrupts,
    resumes, errors and everything that came from outside are stored always. With `True` it stores
    what LangGraph stores; graphs whose nodes must not run twice need that.

    Raises `LeaseLost` when another worker has taken the run over.
    """

    def __init__(
        self, pool: Pool, *, allowed: AllowedTypes = (), keep_writes: bool = False
    ) -> None:
        super().__init__(
            cast("AsyncConnectionPool[AsyncConnection[DictRow]]", pool),
            serde=strict_serde(allowed),
        )
        self.keep_writes = keep_writes
        self._ahead: dict[tuple[str, int], CheckpointTuple | None] = {}

    async def ahead(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Read the newest checkpoint of a thread on behalf of whoever holds its run's lease.

        The graph, entered right after, gets the same one from `aget_tuple` without reading and
        unpacking it a second time: nobody else can have written in between. Call `forget` when it
        was not entered after all.
        """
        found = await super().aget_tuple(config)
        self._ahead[_holder(config)] = found
        return found

    def forget(self, config: RunnableConfig) -> None:
        """Drop what `ahead` has read, if nobody took it."""
        self._ahead.pop(_holder(config), None)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that a config names, or the thread's newest."""
        at = config["configurable"]
        if at.get("fence") is not None and not get_checkpoint_id(config):
            holder = _holder(config)
            if holder in self._ahead:
                return self._ahead.pop(holder)
        return await super().aget_tuple(config)

    async def _load_checkpoint_tuple(self, value: DictRow) -> CheckpointTuple:
        """As the stock saver does, but without a thread: what a task wrote is a few hundred bytes,
        unpacked sooner than a thread wakes up."""
        at = {"thread_id": value["thread_id"], "checkpoint_ns": value["checkpoint_ns"]}
        parent = value["parent_checkpoint_id"]
        stored = value["checkpoint"]
        inline = stored.get("channel_values") or {}
        return CheckpointTuple(
            {"configurable": {**at, "checkpoint_id": value["checkpoint_id"]}},
            cast(
                "Checkpoint",
                {**stored, "channel_values": inline | self._load_blobs(value["channel_values"])},
            ),
            value["metadata"],
            {"configurable": {**at, "checkpoint_id": parent}} if parent else None,
            self._load_writes(value["pending_writes"]),
        )

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint and the channels that changed, in one statement."""
        at = config["configurable"]
        inline, blobs = _split(checkpoint)
        changed = {k: str(v) for k, v in new_versions.items() if k in blobs}
        dumped = [self.serde.dumps_typed(blobs[channel]) for channel in changed]
        params = {
            **_fence(at),
            "thread": at["thread_id"],
            "ns": at["checkpoint_ns"],
            "id": checkpoint["id"],
            "parent": at.get("checkpoint_id"),
            "checkpoint": jsonb(inline),
            "metadata": jsonb(get_serializable_checkpoint_metadata(config, metadata)),
            "channels": SEPARATOR.join(changed),
            "versions": SEPARATOR.join(changed.values()),
            "types": SEPARATOR.join([kind for kind, _ in dumped]),
            "blobs": [blob for _, blob in dumped],
        }
        await one_statement(cast("Pool", self.conn), PUT, params)
        return {
            "configurable": {
                "thread_id": at["thread_id"],
                "checkpoint_ns": at["checkpoint_ns"],
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote, unless the next checkpoint makes it superfluous."""
        special = [channel in WRITES_IDX_MAP for channel, _ in writes]
        if not (self.keep_writes or any(special) or task_id == NULL_TASK_ID):
            return
        at = config["configurable"]
        dumped = [self.serde.dumps_typed(value) for _, value in writes]
        params = {
            **_fence(at),
            "thread": at["thread_id"],
            "ns": at["checkpoint_ns"],
            "id": at["checkpoint_id"],
            "task": task_id,
            "path": task_path,
            "indexes": [
                WRITES_IDX_MAP.get(channel, index) for index, (channel, _) in enumerate(writes)
            ],
            "channels": SEPARATOR.join([channel for channel, _ in writes]),
            "types": SEPARATOR.join([kind for kind, _ in dumped]),
            "blobs": [blob for _, blob in dumped],
        }
        sql = KEEP_LAST if all(special) else KEEP_FIRST
        await one_statement(cast("Pool", self.conn), sql, params)

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[AsyncCursor[DictRow]]:
        """A cursor on a connection of its own: the pool needs no lock around it."""
        pool = cast("Pool", self.conn)
        with translated():
            async with pool.connection() as conn:
                if pipeline:
                    async with (
                        conn.pipeline(),
                        conn.cursor(binary=True, row_factory=dict_row) as cursor,
                    ):
                        yield cursor
                else:
                    async with conn.cursor(binary=True, row_factory=dict_row) as cursor:
                        yield cursor


def _split(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """The checkpoint with primitive channel values in it, and the other values apart.

    As in the stock saver, so that either reads what the other has written.
    """
    inline: dict[str, Any] = {}
    blobs: dict[str, Any] = {}
    for channel, value in checkpoint["channel_values"].items():
        if isinstance(value, _DeltaSnapshot):
            blobs[channel] = value
            inline[channel] = True
        elif value is None or isinstance(value, str | int | float | bool):
            inline[channel] = value
        else:
            blobs[channel] = value
    return {**checkpoint, "channel_values": inline}, blobs


def _holder(config: RunnableConfig) -> tuple[str, int]:
    """Which lease a config belongs to."""
    at = config["configurable"]
    return str(at["thread_id"]), int(at["fence"])


def _fence(configurable: dict[str, Any]) -> dict[str, Any]:
    """Run and fencing token of the config; both None for whoever writes without a lease."""
    run, fence = configurable.get("run_id"), configurable.get("fence")
    if run is None or fence is None:
        return {"run": None, "fence": None}
    return {"run": str(run), "fence": int(fence)}
