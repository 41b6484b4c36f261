"""Files that tests leave for people to look at, under `test-artifacts/`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parents[1] / "test-artifacts"


def keep(name: str, content: str | bytes) -> Path:
    """Write a file (its folders are made) and return where it is."""
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        path.write_bytes(content)
    return path
