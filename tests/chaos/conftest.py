"""A PostgreSQL and a zygote for all scenes, and the counts at the end of the run."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from store import embedded
from store.embedded import EmbeddedPostgres
from tests.chaos.tally import Tally
from tests.chaos.workers import Zygote

TALLY = pytest.StashKey[Tally]()


@contextmanager
def running_postgres() -> Iterator[EmbeddedPostgres]:
    """A server. Not in pytest's folder: that one is closed to the user that a server runs as."""
    with tempfile.TemporaryDirectory(prefix="fermata-chaos-") as folder:
        server = embedded.start(Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A server for the scenes that do not kill it."""
    with running_postgres() as server:
        yield server.url


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A server that the test kills."""
    with running_postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def zygote() -> AsyncIterator[Zygote]:
    """Where workers come from."""
    opened = Zygote()
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Folder of a scene."""
    return tmp_path / "scene"


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts that all tests here add to; they are printed at the end."""
    return request.config.stash.setdefault(TALLY, Tally())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many points were tried, and what came of it."""
    tally = config.stash.get(TALLY, None)
    if tally is not None and tally.points:
        terminalreporter.write_line(str(tally))
