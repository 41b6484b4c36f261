"""A PostgreSQL and a zygote for all scenes, and counts that are told at the end of the run."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from store import embedded
from store.embedded import EmbeddedPostgres
from tests.chaos.runs import Stuck
from tests.chaos.tally import Tally
from tests.chaos.workers import Zygote
from tests.crashes import CRASHES

HERE = Path(__file__).parent
LONGEST_TEST_SECONDS = 1500


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
    return _tally(request.config)


def _tally(config: pytest.Config) -> Tally:
    tally = config.stash.setdefault(CRASHES, Tally())
    assert isinstance(tally, Tally)
    return tally


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave it to the tests here to say what is stuck: they know whether anything still moves."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LONGEST_TEST_SECONDS))


def pytest_exception_interact(
    node: pytest.Item, call: pytest.CallInfo[object], report: pytest.TestReport
) -> None:
    """Count runs that did not come to their end."""
    if call.excinfo is not None:
        _tally(node.config).stuck += _stuck(call.excinfo.value)


def _stuck(error: BaseException) -> int:
    if isinstance(error, BaseExceptionGroup):
        return sum(_stuck(one) for one in error.exceptions)
    return int(isinstance(error, Stuck))
