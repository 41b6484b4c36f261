"""`docs/events.md` says what is so."""

from __future__ import annotations

import re
from pathlib import Path

from web.cloudevents import CDEVENT_TYPES, CDEVENTS
from web.event_forms import FORMS
from web.tokens import TokenBook

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")


def table(heading: str) -> list[str]:
    """First cells of the table whose head begins with `heading`."""
    rows = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [row.split("|")[1] for row in rows]


def test_the_page_lists_every_plain_form() -> None:
    assert [cell.strip(" `") for cell in table("`type`")] == list(FORMS)


def test_the_page_names_only_cdevents_that_exist() -> None:
    named = [name for cell in table("CDEvent") for name in re.findall(r"`(\w+\.\w+)`", cell)]
    assert named
    assert {CDEVENTS + name for name in named} <= set(CDEVENT_TYPES)


def test_the_token_file_on_the_page_can_be_read() -> None:
    example = PAGE.rsplit("```yaml\n", 1)[1].split("```", 1)[0]
    (entry,) = TokenBook.parse(example, "docs/events.md").entries
    assert entry.principal.roles == ("developer", "release-manager")
