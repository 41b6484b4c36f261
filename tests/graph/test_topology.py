"""The state has the channels it names, and no other; the drawing is current."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from langgraph._internal._runnable import RunnableCallable

from domain.event import Event, Unhandled
from domain.state import State, Update, initial
from graph.blueprint import blueprint
from graph.drawing import drawing
from graph.noted import NoLease

ROOT = Path(__file__).resolve().parents[2]


def test_each_key_of_the_state_is_a_channel_and_no_other_channel_holds_data() -> None:
    channels = {name for name in blueprint().channels if not name.startswith(("__", "branch:"))}
    assert channels == set(State.__annotations__)


def test_nodes_can_change_only_keys_of_the_state() -> None:
    assert set(Update.__annotations__) <= set(State.__annotations__)


def test_the_drawing_in_the_docs_is_the_graph_as_compiled() -> None:
    assert (ROOT / "docs" / "graph.md").read_text(encoding="utf-8") == drawing(blueprint())


def test_no_route_is_given_to_a_thread() -> None:
    paths = [
        branch.path for found in blueprint().builder.branches.values() for branch in found.values()
    ]
    assert len(paths) == 5
    assert all(isinstance(one, RunnableCallable) and one.func is None for one in paths)


def test_the_graph_refuses_to_run_without_a_lease() -> None:
    event = Event(
        id=uuid4(),
        source="api",
        delivery_id="d",
        body_digest="b",
        received_at=datetime(2026, 3, 4, tzinfo=UTC),
        body=Unhandled(what="nothing"),
    )
    with pytest.raises(NoLease, match="POST /event"):
        asyncio.run(blueprint().ainvoke(initial(uuid4(), event, "release")))
