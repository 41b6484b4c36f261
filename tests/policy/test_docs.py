"""docs/policy.md tells every section and every rule, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from policy.raw import RawPolicy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
SAID = re.compile(r'"([a-z]+\.[a-z_]+)"')
"""In the families nothing else has the shape of a rule's id."""


def rules_in_the_code() -> set[str]:
    files = [ROOT / "policy" / "evaluate.py", *(ROOT / "policy" / "families").glob("*.py")]
    return {id for file in files for id in SAID.findall(file.read_text(encoding="utf-8"))}


def test_every_rule_is_told_and_no_other() -> None:
    told = set(re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)) - {"metrics_check"}
    assert told - {"slo.<phase>.<kind>", "manifests.<rule>"} == rules_in_the_code()
    assert len(rules_in_the_code()) > 25


def test_every_section_has_its_heading() -> None:
    headings = set(re.findall(r"^### `([a-z]+)`$", PAGE, re.MULTILINE))
    assert headings == set(RawPolicy.model_fields) - {"version"}
