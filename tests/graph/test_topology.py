"""The state has the channels it names, and no other; the drawing is current."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domain.state import State, Update
from graph.blueprint import blueprint
from graph.drawing import drawing

ROOT = Path(__file__).resolve().parents[2]


def test_each_key_of_the_state_is_a_channel_and_no_other_channel_holds_data() -> None:
    channels = {name for name in blueprint().channels if not name.startswith(("__", "branch:"))}
    assert channels == set(State.__annotations__)


def test_nodes_can_change_only_keys_of_the_state() -> None:
    assert set(Update.__annotations__) <= set(State.__annotations__)


def test_the_drawing_in_the_docs_is_the_graph_as_compiled() -> None:
    assert (ROOT / "docs" / "graph.md").read_text(encoding="utf-8") == drawing(blueprint())


def test_the_graph_refuses_to_run_without_a_lease() -> None:
    with pytest.raises(PermissionError, match="POST /event"):
        asyncio.run(blueprint().ainvoke({"run_id": "r"}))  # type: ignore[arg-type]
