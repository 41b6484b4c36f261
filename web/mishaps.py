"""What befell the engine, in words: the marks that broken passages leave on a run's path."""

from __future__ import annotations

from collections.abc import Sequence

SENTENCES = {
    "taken over": (
        "the worker that had this run stopped or lost touch; another one took it over and went on "
        "from the last checkpoint"
    ),
    "database lost": "the database did not answer; the run was put down and is taken up again",
    "broken off": "an internal error broke this passage off; the run is taken up again",
}
"""What each mark means. The engine sets them, see `graph/run.py`."""
PAUSED = "paused: "
"""Begins the mark of a passage that an error broke off; the error's own words follow."""


def mishap(mark: str) -> str | None:
    """The sentence for an entry of the path; None when it is simply a node."""
    if mark.startswith(PAUSED):
        return f"paused and tried again: {mark.removeprefix(PAUSED)}"
    return SENTENCES.get(mark)


def nodes_alone(path: Sequence[str]) -> list[str]:
    """The nodes of a path, without the marks."""
    return [one for one in path if mishap(one) is None]
