"""`fermata redact` and `fermata secrets` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import app
from tests.policy.redaction.making import credentials

TOKEN, _ = credentials()["personal access token"]
RUN = CliRunner()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FERMATA_REDACTION_RULES", raising=False)


def test_the_filter_covers_and_reports(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["redact", "--report", "told.json"], input=f"a {TOKEN} b\n{TOKEN}\n")
    assert done.exit_code == 0
    assert TOKEN not in done.stdout
    assert done.stdout.startswith("a [redacted:github-pat:")
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["covered"] == 2
    assert [one["count"] for one in told["secrets"]] == [2]


def test_the_filter_makes_no_files_of_its_own(tmp_path: Path) -> None:
    assert RUN.invoke(app, ["redact"], input="nothing\n").exit_code == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["secrets", "scan"], ["redact", "--scan"]])
def test_a_scan_names_place_rule_and_advice_but_not_the_secret(
    tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "a.txt").write_text(f"one\ntoken = {TOKEN}\n")
    done = RUN.invoke(app, [*command, "a.txt"])
    assert done.exit_code == 1
    assert "a.txt:2: github-pat" in done.stdout
    assert "Revoke" in done.stdout
    for form in ("--json", "--sarif"):
        told = RUN.invoke(app, [*command, form, "a.txt"])
        assert told.exit_code == 1
        assert json.loads(told.stdout)
        assert TOKEN not in told.stdout
    (tmp_path / "a.txt").write_text("one\n")
    assert RUN.invoke(app, [*command, "a.txt"]).exit_code == 0
    assert RUN.invoke(app, [*command, "nowhere.txt"]).exit_code == 2
