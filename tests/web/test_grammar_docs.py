"""docs/commands.md tells every command as the grammar has it."""

from __future__ import annotations

from pathlib import Path

from domain.event import CommandName
from domain.grammar import USAGES

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")


def test_every_command_has_a_usage() -> None:
    assert {one.name for one in USAGES} == set(CommandName)


def test_the_page_has_a_row_for_every_command() -> None:
    for one in USAGES:
        usage = one.usage.replace("|", "\\|")
        assert f"| `{usage}` | {one.does} |" in PAGE
