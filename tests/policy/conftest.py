"""Tells at the end of the run how many cases the properties of policy were held against."""

from __future__ import annotations

import pytest

from tests.policy.counting import CASES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CASES:
        terminalreporter.section("policy: properties and their cases")
        for property, cases in sorted(CASES.items()):
            terminalreporter.write_line(f"{property}: {cases:,}")
