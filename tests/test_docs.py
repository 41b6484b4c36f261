"""Documentation that can fail: pages that are written from the code are current, links lead on."""

from __future__ import annotations

import re
from pathlib import Path

import settings

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#]+)")


def test_the_page_about_settings_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == settings.page()


def test_links_in_the_documentation_lead_to_files_that_exist() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []


def test_every_source_that_the_roadmap_names_exists() -> None:
    text = (ROOT / "docs" / "roadmap.md").read_text(encoding="utf-8")
    named = re.findall(r"`([a-z_]+(?:/[a-z_]*)*(?:\.(?:py|md|yaml))?)`", text)
    paths = {name for name in named if "/" in name or name.endswith((".py", ".yaml", ".md"))}
    assert sorted(name for name in paths if not (ROOT / name).exists()) == []
