"""Migrations: numbered SQL files, each in one transaction, guarded against a second process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import AsyncConnectionPool
from saq.queue.postgres import PostgresQueue

from domain.digest import digest_of_bytes
from domain.errors import FermataError
from store import roles
from store.database import Connection, Database

FOLDER = Path(__file__).parent / "migrations"
GUARD = 0x6665726D617461
"""Advisory lock of whoever is migrating ("fermata" in ASCII)."""
POLL_SECONDS = 0.05

CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS fermata_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
READ_LEDGER = "SELECT version, name, checksum FROM fermata_migrations ORDER BY version"
ADD_TO_LEDGER = "INSERT INTO fermata_migrations (version, name, checksum) VALUES (%s, %s, %s)"


class MigrationError(FermataError):
    """The database's schema is not one that this version of Fermata can work with."""


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file. `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    sql: str
    checksum: str


def known(folder: Path = FOLDER) -> tuple[Migration, ...]:
    """The migrations of this version of Fermata, in order."""
    found = []
    for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql")):
        sql = path.read_text(encoding="utf-8")
        found.append(Migration(int(path.name[:4]), path.stem, sql, digest_of_bytes(sql.encode())))
    if len({one.version for one in found}) != len(found):
        raise MigrationError(f"two files in {folder.name}/ have the same number")
    return tuple(found)


async def apply(db: Database, migrations: tuple[Migration, ...] | None = None) -> list[str]:
    """Bring the schema up to date, LangGraph's and saq's tables included.

    Returns the names of the migrations that were applied now, and sees to the rights of the role
    that the service works as. Raises `MigrationError` when the database is newer than this version
    of Fermata, was changed by an edited migration, or is another role's to migrate.
    """
    wanted = known() if migrations is None else migrations
    async with db.connection() as conn, _guard(conn):
        if not await roles.owns(conn):
            _refuse_strangers(_missing(wanted, await (await conn.execute(READ_LEDGER)).fetchall()))
            return []
        await conn.execute("SELECT set_config('statement_timeout', '0', false)")
        try:
            await conn.execute(CREATE_LEDGER)
            missing = _missing(wanted, await (await conn.execute(READ_LEDGER)).fetchall())
            await _libraries(db.url, conn)
            for one in missing:
                async with conn.transaction():
                    await conn.execute(one.sql.encode())
                    await conn.execute(ADD_TO_LEDGER, (one.version, one.name, one.checksum))
            if migrations is None:
                await roles.grant(conn)
        finally:
            await conn.execute("SELECT set_config('statement_timeout', '60s', false)")
    return [one.name for one in missing]


async def pending(db: Database) -> list[str]:
    """Names of the migrations that `apply` would apply; raises `MigrationError` as it does."""
    wanted = known()
    if await db.value("SELECT to_regclass('fermata_migrations')") is None:
        return [one.name for one in wanted]
    return [one.name for one in _missing(wanted, await db.rows(READ_LEDGER))]


def _refuse_strangers(missing: list[Migration]) -> None:
    """A role that does not own the tables may work with them once they are current."""
    if missing:
        names = ", ".join(one.name for one in missing)
        raise MigrationError(
            f"the database lacks {names}, and DATABASE_URL's role does not own its tables; run "
            "`fermata db migrate` with the owner's DATABASE_URL first"
        )


def _missing(wanted: tuple[Migration, ...], rows: list[tuple[int, str, str]]) -> list[Migration]:
    """Which of the wanted migrations the database does not have yet, in order."""
    versions = {one.version for one in wanted}
    strange = [row for row in rows if row[0] not in versions]
    if strange:
        raise MigrationError(
            f"the database is at migration {strange[-1][1]}, which this version of Fermata does "
            f"not know (it ends at {wanted[-1].name if wanted else 'none'}); start the newer "
            "version, or restore the backup from before the upgrade"
        )
    recorded = {row[0]: row for row in rows}
    for want in wanted:
        have = recorded.get(want.version)
        if have is not None and have[2] != want.checksum:
            raise MigrationError(
                f"migration {want.name} was changed after it had been applied (recorded as "
                f"{have[1]}, checksum {have[2][:12]}, now {want.checksum[:12]}); restore the file "
                "and put the change into a new migration"
            )
    return [one for one in wanted if one.version not in recorded]


@asynccontextmanager
async def _guard(conn: Connection) -> AsyncIterator[None]:
    """Hold the advisory lock.

    Asked for again and again instead of waited for: a statement that waits keeps a snapshot open,
    and `CREATE INDEX CONCURRENTLY`, which LangGraph's set-up uses, waits for all snapshots.
    """
    while True:
        row = await (await conn.execute("SELECT pg_try_advisory_lock(%s)", (GUARD,))).fetchone()
        if row is not None and row[0]:
            break
        await asyncio.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        await conn.execute("SELECT pg_advisory_unlock(%s)", (GUARD,))


async def _libraries(url: str, conn: Connection) -> None:
    """Tables of the checkpointer and of the queue, made by their own migrations."""
    conn.row_factory = dict_row  # type: ignore[assignment]
    try:
        await AsyncPostgresSaver(cast("AsyncConnection[dict[str, object]]", conn)).setup()
    finally:
        conn.row_factory = tuple_row
    # A pool of its own: saq keeps a session's advisory lock for as long as the connection lives.
    async with AsyncConnectionPool(
        url, kwargs={"autocommit": True}, min_size=1, max_size=1, open=False
    ) as pool:
        await PostgresQueue(pool=pool, name="fermata").init_db()
