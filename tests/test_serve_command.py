"""`fermata serve` where it cannot start: one sentence that says what to do, and no trace."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from settings import Settings

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DATABASE_URL", "mysql://ada:geheim@localhost/x", "postgresql://"),
        ("FERMATA_DATA", "{}/a-file", "set FERMATA_DATA"),
        ("GITHUB_TOKEN", "two words", "set GITHUB_TOKEN"),
    ],
)
def test_what_is_set_wrongly_is_named(name: str, value: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    said = {"FERMATA_DATA": str(tmp_path), name: value.format(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "cli", "serve", "--port", "0"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "NO_COLOR": "1", "COLUMNS": "200", **said},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "geheim" not in done.stderr


def test_what_is_set_to_nothing_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert Settings(_env_file=None) == Settings.model_construct()
