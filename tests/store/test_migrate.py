"""Migrations: applied once, by one process at a time, and never over a database that differs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import psycopg
import pytest
import pytest_asyncio

from store import migrate
from store.database import Database, check_url


@pytest_asyncio.fixture(loop_scope="session")
async def empty(new_database: Callable[[], str]) -> AsyncIterator[Database]:
    """An empty database."""
    db = await Database.open(new_database(), min_size=1, max_size=5)
    yield db
    await db.close()


async def test_two_processes_that_start_together_migrate_once(empty: Database) -> None:
    second = await Database.open(empty.url, min_size=1, max_size=5)
    third = await Database.open(empty.url, min_size=1, max_size=5)
    assert len(await migrate.pending(empty)) == len(migrate.known())
    async with asyncio.timeout(60):
        applied = await asyncio.gather(*(migrate.apply(db) for db in (empty, second, third)))
    names = [one.name for one in migrate.known()]
    assert sorted(applied, key=len) == [[], [], names]
    assert await migrate.apply(empty) == []
    assert await migrate.pending(empty) == []
    for table in ("runs", "checkpoints", "saq_jobs"):
        assert await empty.value("SELECT to_regclass(%s)::text", (table,)) == table
    await second.close()
    await third.close()


async def test_a_newer_database_is_refused(empty: Database) -> None:
    newer = migrate.known()
    await migrate.apply(empty, newer)
    with pytest.raises(migrate.MigrationError, match="start the newer version"):
        await migrate.apply(empty, newer[:-1])


async def test_an_edited_migration_is_refused(empty: Database) -> None:
    first, *rest = migrate.known()
    await migrate.apply(empty, (first, *rest))
    edited = replace(first, checksum="0" * 64)
    with pytest.raises(migrate.MigrationError, match="was changed after it had been applied"):
        await migrate.apply(empty, (edited, *rest))


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Database) -> None:
    good = migrate.known()
    broken = migrate.Migration(
        len(good) + 1, "0099_broken", "CREATE TABLE half (a int); SELECT no_such();", "x"
    )
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await migrate.apply(empty, (*good, broken))
    assert await empty.value("SELECT to_regclass('half')") is None
    assert await migrate.apply(empty, good) == []


def test_urls_of_other_databases_are_refused_without_repeating_them() -> None:
    check_url("postgresql://u:p@h/d")
    check_url("postgres://u:p@h/d")
    with pytest.raises(ValueError, match="postgresql://") as caught:
        check_url("mysql://u:secret@h/d")
    assert "secret" not in str(caught.value)
