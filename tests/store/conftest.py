"""One embedded PostgreSQL for all store tests, and one migrated database for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from store import embedded, migrate
from store.database import Database
from store.embedded import EmbeddedPostgres
from tests.store.house import House


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """The server that the store tests share."""
    server = embedded.start(tmp_path_factory.mktemp("pg"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def new_database(postgres: EmbeddedPostgres) -> object:
    """Call it for the URL of a new, empty database."""

    def create() -> str:
        name = f"t_{uuid4().hex[:12]}"
        with psycopg.connect(postgres.url, autocommit=True) as conn:
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return database_url(postgres.url, name)

    return create


def database_url(url: str, name: str) -> str:
    """The same server, another database."""
    head, _, query = url.partition("?")
    return f"{head.rsplit('/', 1)[0]}/{name}?{query}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def db(new_database) -> AsyncIterator[Database]:  # type: ignore[no-untyped-def]
    """A migrated database of the module's own."""
    database = await Database.open(new_database(), min_size=2, max_size=20)
    await migrate.apply(database)
    yield database
    await database.close()


@pytest_asyncio.fixture(loop_scope="session")
async def house(db: Database, tmp_path: Path) -> House:
    """All parts of the store on that database, and a registered worker."""
    return await House.on(db)
