"""What all tests share: naming what this machine lacks, at the end of the run."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.cluster.cluster import available
from tests.crashes import CRASHES, KEY, Crashes

# How fast an example runs says something of the machine's load, not of the code.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", unhurried)
# The same examples each time where a red run has to mean that the change did it; elsewhere new
# ones each time, so that the search goes on.
settings.register_profile("ci", unhurried, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

HOW_TO_GET = {
    "prometheus": "apt-get install prometheus",
    "alertmanager": "apt-get install prometheus-alertmanager",
    "prometheus-alertmanager": "apt-get install prometheus-alertmanager",
    "redis-server": "apt-get install redis-server",
    "chromium": "apt-get install chromium",
    "npm": "install Node.js with npm",
}
MOST_LINES = 12
_SKIPPED: dict[str, list[str]] = defaultdict(list)
_SYSTEM = ("tests/chaos/", "tests/cluster/", "tests/contract/", "tests/e2e/")
"""Whole programs, real servers, real time: on a busy machine one may miss a moment it needed."""
_SECOND_TRIES: list[tuple[str, str]] = []
"""Each with what went wrong at the first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of whole systems get a second try; the end of the run names each that took it."""
    for item in items:
        if item.nodeid.startswith(_SYSTEM):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def lacks() -> Callable[[str, str], None]:
    """Call `lacks(what, how_to_get_it)` to end a test that this machine cannot run."""

    def end(what: str, how: str) -> None:
        pytest.skip(f"{what} is missing: {how}")

    return end


@pytest.fixture(scope="session")
def program(lacks: Callable[[str, str], None]) -> Callable[[str], str]:
    """Path of a program; ends the test, named at the end of the run, when it is not there."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            lacks(name, HOW_TO_GET.get(name, f"put {name} on PATH"))
            raise AssertionError("unreachable")
        return path

    return find


@pytest.fixture(scope="session")
def cluster_here(lacks: Callable[[str, str], None]) -> None:
    """For what starts the test cluster: ends the test where it is not built."""
    why_not = available()
    if why_not is not None:
        lacks("the test cluster", why_not)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome: str = report.outcome  # the plugin for second tries adds one of its own
    if outcome == "rerun":
        _SECOND_TRIES.append((report.nodeid, report.longreprtext))
    if report.skipped and isinstance(report.longrepr, tuple):
        _SKIPPED[report.longrepr[2].removeprefix("Skipped: ")].append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that runs a part of the tests hands its counts to the one that tells of them."""
    handed: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if handed is not None:
        handed[KEY] = session.config.stash.get(CRASHES, Crashes()).plain()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Such a process has ended (pytest-xdist)."""
    handed = getattr(node, "workeroutput", {}).get(KEY)
    if handed is not None:
        node.config.stash.setdefault(CRASHES, Crashes()).add(handed)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Tell the counts of crashes, name everything that did not run and how to make it run."""
    config.stash.get(CRASHES, Crashes()).tell(terminalreporter, config)
    if _SECOND_TRIES:
        terminalreporter.section("passed or failed only at the second try")
        for test, why in _SECOND_TRIES:
            terminalreporter.write_line(test)
            said = [line for line in why.splitlines() if line.startswith("E ")]
            for line in said[:MOST_LINES]:
                terminalreporter.write_line(f"    {line}")
    if not _SKIPPED:
        terminalreporter.write_line("Nothing was missing on this machine: every test ran.")
        return
    terminalreporter.section("not run on this machine")
    for reason, tests in sorted(_SKIPPED.items()):
        terminalreporter.write_line(f"{reason} ({len(tests)} tests, first: {tests[0]})")
