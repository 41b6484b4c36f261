"""The connection pool: one statement is one transaction, and a restarted server heals by itself."""

from __future__ import annotations

import select
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg import AsyncConnection, AsyncCursor, errors
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from domain.errors import LeaseLost
from store.cleaning import Cleaner, clean_dumpers

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]
Params = Mapping[str, Any] | Sequence[Any]
Model = TypeVar("Model", bound=BaseModel)

LEASE_LOST = "FM001"
"""SQLSTATE raised by `fermata_hold` and friends."""
NOT_COVERED = "FM002"
"""SQLSTATE raised by `fermata_claim` when no decision covers the effect."""

GETTING_SECONDS = 5.0
"""Longest wait for a connection; past it callers get `psycopg_pool.PoolTimeout`."""
RECONNECT_SECONDS = 1.0
"""Pause between rounds of trying to reconnect."""

SESSION = """
SELECT set_config('TimeZone', 'UTC', false),
       set_config('jit', 'off', false),
       set_config('enable_seqscan', 'off', false),
       set_config('lock_timeout', '10s', false),
       set_config('statement_timeout', '60s', false),
       set_config('idle_in_transaction_session_timeout', '5s', false)
"""
"""Every statement here has an index to go by, and a plan that was made (and is kept) while the
tables were still empty must not go on reading them from end to end. A process that is stopped in
the middle of a transaction must not hold a run's row for ever."""

CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)
"""The server undid the whole transaction: doing it again is right."""


class WrongUrl(ValueError):
    """DATABASE_URL is not the address of a PostgreSQL."""


class Database:
    """PostgreSQL behind a pool. Connections are in autocommit: one statement, one transaction.

    Every method raises `LeaseLost` when the statement found the run's fencing token outdated,
    and `psycopg.OperationalError` (of which `PoolTimeout` is one) when the server does not answer.
    """

    def __init__(self, url: str, pool: Pool) -> None:
        self.url = url
        self.pool = pool

    @classmethod
    async def open(
        cls, url: str, *, min_size: int = 2, max_size: int = 20, clean: Cleaner | None = None
    ) -> Database:
        """Connect. What is stored as text or JSON goes through `clean` first.

        `url` is `postgresql://…` or `postgres://…`; sizes are in connections. Raises `WrongUrl`
        for another kind of URL and `psycopg.OperationalError` when the server cannot be reached
        within some seconds.
        """
        check_url(url)
        pool: Pool = AsyncConnectionPool(
            url,
            connection_class=AsyncConnection[TupleRow],
            kwargs={
                "autocommit": True,
                "application_name": "fermata",
                "connect_timeout": 5,
                "keepalives_idle": 15,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
            min_size=min_size,
            max_size=max_size,
            open=False,
            check=still_there,
            configure=partial(_configure, clean=clean),
            timeout=GETTING_SECONDS,
            reconnect_timeout=RECONNECT_SECONDS,
            reconnect_failed=_try_again,
        )
        await pool.open(wait=True, timeout=15.0)
        return cls(url, pool)

    async def close(self) -> None:
        """Close all connections."""
        await self.pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection in autocommit, for a few statements or a pipeline."""
        with translated():
            async with self.pool.connection() as conn:
                yield conn

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction, rolled back when the block raises."""
        async with self.connection() as conn, conn.transaction():
            yield conn

    async def row(self, sql: str, params: Params = ()) -> TupleRow | None:
        """First row of one statement, or None."""
        return await (await one_statement(self.pool, sql, params)).fetchone()

    async def rows(
        self, sql: str, params: Params = (), *, prepare: bool | None = None
    ) -> list[TupleRow]:
        """All rows of one statement. `prepare=False`: planned for exactly these parameters."""
        return await (await one_statement(self.pool, sql, params, prepare=prepare)).fetchall()

    async def value(self, sql: str, params: Params = ()) -> Any:
        """First column of the first row, or None."""
        row = await self.row(sql, params)
        return row[0] if row is not None else None

    async def count(self, sql: str, params: Params = ()) -> int:
        """Run one statement; how many rows it touched."""
        return (await one_statement(self.pool, sql, params)).rowcount

    async def insist(self, sql: str, params: Params = ()) -> Any:
        """`value`, done again when the server broke a deadlock at this statement's expense."""
        async for attempt in again():
            with attempt:
                return await self.value(sql, params)
        raise AssertionError("unreachable")

    async def model(self, kind: type[Model], sql: str, params: Params = ()) -> Model | None:
        """The one JSON column of the first row, as a model."""
        found = await self.value(sql, params)
        return None if found is None else kind.model_validate(found)

    async def models(
        self, kind: type[Model], sql: str, params: Params = (), *, prepare: bool | None = None
    ) -> list[Model]:
        """The one JSON column of every row, as models."""
        found = await self.rows(sql, params, prepare=prepare)
        return [kind.model_validate(row[0]) for row in found]

    async def alive(self) -> bool:
        """Whether the server answers."""
        try:
            return bool(await self.value("SELECT true"))
        except psycopg.Error:
            return False


async def one_statement(
    pool: Pool, sql: str, params: Params = (), *, prepare: bool | None = None
) -> AsyncCursor[TupleRow]:
    """Run one statement on a connection of its own; its rows are here when it returns.

    In autocommit there is nothing to commit or to roll back, which spares a fifth of what
    `pool.connection()` costs. Raises as the methods of `Database` do.
    """
    conn = await pool.getconn()
    try:
        return await conn.execute(sql, params, prepare=prepare)
    except psycopg.DatabaseError as error:
        if (lost := _lost(error)) is not None:
            raise lost from error
        raise
    finally:
        await pool.putconn(conn)


def again(*more: type[Exception]) -> AsyncRetrying:
    """Attempts at a whole transaction that lost a conflict (or failed with one of `more`)."""
    return AsyncRetrying(
        retry=retry_if_exception_type((*CONFLICTS, *more)),
        stop=stop_after_attempt(5),
        wait=wait_random_exponential(multiplier=0.005, max=0.2),
        reraise=True,
    )


@contextmanager
def translated() -> Iterator[None]:
    """Turn the server's word for a lost lease into `LeaseLost`."""
    try:
        yield
    except psycopg.DatabaseError as error:
        if (lost := _lost(error)) is not None:
            raise lost from error
        raise


def _lost(error: psycopg.DatabaseError) -> LeaseLost | None:
    if error.sqlstate != LEASE_LOST:
        return None
    return LeaseLost(error.diag.message_primary or "the lease is lost")


def check_url(url: str) -> None:
    """Raise `WrongUrl` (without the URL in it: it may carry a password) unless it fits."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise WrongUrl(
            "DATABASE_URL does not begin with postgresql:// or postgres://; "
            "write it as postgresql://user:password@host:5432/database"
        )


def jsonb(value: Any) -> Jsonb:
    """A model or plain data as a jsonb parameter. NUL characters, which it cannot hold, go."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return Jsonb(value, dumps=dumps)


def dumps(value: Any) -> bytes:
    """JSON as PostgreSQL takes it."""
    text = orjson.dumps(value, default=_plain)
    return text if b"\\u0000" not in text else orjson.dumps(_without_nul(orjson.loads(text)))


def text(value: str) -> str:
    """A text parameter without NUL characters, which PostgreSQL cannot store."""
    return value.replace("\x00", "") if "\x00" in value else value


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be stored as JSON")


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return text(value)
        case dict():
            return {text(key): _without_nul(one) for key, one in value.items()}
        case list():
            return [_without_nul(one) for one in value]
        case _:
            return value


async def _configure(conn: Connection, clean: Cleaner | None) -> None:
    if clean is not None:
        for kind, dumper in clean_dumpers(clean):
            conn.adapters.register_dumper(kind, dumper)
    conn.prepare_threshold = 2
    await conn.execute(SESSION)


async def still_there(conn: Connection) -> None:
    """Tell a dead connection without a round trip: an idle socket has nothing to be read.

    When the server dies the socket turns readable; only then (or when the server has sent a
    notice meanwhile) is it asked.
    """
    poll = select.poll()
    poll.register(conn.pgconn.socket, select.POLLIN | select.POLLHUP | select.POLLERR)
    if conn.closed or poll.poll(0):
        await conn.execute("")


async def _try_again(pool: Any) -> None:
    """After a failed round of reconnecting, begin the next: the server may be back any moment."""
    await pool.check()
