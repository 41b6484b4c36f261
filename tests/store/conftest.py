"""One embedded PostgreSQL for all store tests, and one migrated database for each module."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def folder() -> Iterator[Path]:
    """A data folder. Not pytest's own: those are closed to the user that a server runs as."""
    path = Path(tempfile.mkdtemp(prefix="fermata-store-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder of the test's own."""
    with folder() as path:
        yield path


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server that the store tests share."""
    with folder() as path:
        server = embedded.start(path)
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


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(new_database: Callable[[], str]) -> AsyncIterator[Database]:
    """A migrated database of the test's own, as its owner."""
    database = await Database.open(new_database(), min_size=1, max_size=10)
    await migrate.apply(database)
    yield database
    await database.close()


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
async def house(db: Database) -> House:
    """All parts of the store on that database, and a registered worker."""
    return await House.on(db)
