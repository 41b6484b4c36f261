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
from tests.chaos.runs import Stuck
from tests.chaos.tally import Tally
from tests.chaos.workers import Zygote

TALLY = pytest.StashKey[Tally]()
HERE = Path(__file__).parent
LONGEST_TEST_SECONDS = 1500
REPORT = "test-artifacts/crash-points.tsv"


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
        tally = node.config.stash.setdefault(TALLY, Tally())
        tally.stuck += _stuck(call.excinfo.value)


def _stuck(error: BaseException) -> int:
    if isinstance(error, BaseExceptionGroup):
        return sum(_stuck(one) for one in error.exceptions)
    return int(isinstance(error, Stuck))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many points were tried, and what came of it; which ones, in a file and with `-v`."""
    tally = config.stash.get(TALLY, None)
    if tally is None or not (tally.tried or tally.stuck):
        return
    report = config.rootpath / REPORT
    report.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{one.what}\t{one.point}\t{one.ended}" for one in tally.tried]
    report.write_text("\n".join(["what\tpoint\tended", *lines, ""]), encoding="utf-8")
    terminalreporter.section("crashes and faults")
    if config.get_verbosity() > 0:
        for one in tally.tried:
            terminalreporter.write_line(f"{one.what} at {one.point}: {one.ended}")
    for what, count in sorted(tally.kinds().items()):
        terminalreporter.write_line(f"{count:5} {what}")
    terminalreporter.write_line(f"{tally}; each one is named in {REPORT}")
