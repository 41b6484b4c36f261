"""The checkpointer keeps what LangGraph needs, for whoever holds the lease and nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, TypedDict, cast
from uuid import uuid4

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from domain.action import K8sDeploy
from domain.errors import LeaseLost
from domain.event import Actor
from domain.plan import Change, Plan, Step
from domain.service import Target, Workload
from store.checkpointer import create
from store.checkpoints import FencedSaver
from store.records import Lease
from tests.store.house import House, plan


class Channels(TypedDict):
    """A state with a primitive, a model and a list."""

    count: int
    plan: Plan | None
    words: tuple[str, ...]


RAN: list[str] = []


async def first(state: Channels) -> dict[str, Any]:
    RAN.append("first")
    return {"count": state["count"] + 1, "plan": plan(), "words": (*state["words"], "first")}


async def asking(state: Channels) -> dict[str, Any]:
    RAN.append("asking")
    answer = interrupt({"question": "go on?"})
    return {"words": (*state["words"], str(answer))}


async def last(state: Channels) -> dict[str, Any]:
    RAN.append("last")
    if "fail" in state["words"]:
        raise RuntimeError("broken")
    return {"count": state["count"] + 1}


def build(saver: AsyncPostgresSaver) -> Any:
    """Three nodes in a row, the second asks."""
    RAN.clear()
    graph = StateGraph(Channels)
    graph.add_node("first", first)
    graph.add_node("asking", asking)
    graph.add_node("last", last)
    graph.add_edge(START, "first")
    graph.add_edge("first", "asking")
    graph.add_edge("asking", "last")
    graph.add_edge("last", END)
    return graph.compile(checkpointer=saver)


def config(lease: Lease) -> Any:
    """What the engine puts into the config."""
    return {
        "configurable": {
            "thread_id": str(lease.thread_id),
            "run_id": str(lease.run_id),
            "fence": lease.fence,
        }
    }


FRESH: Channels = {"count": 0, "plan": None, "words": ()}


@pytest.mark.parametrize("keep", [False, True])
async def test_an_interrupted_run_goes_on_in_another_process(house: House, keep: bool) -> None:
    lease = await house.leased()
    graph = build(FencedSaver(house.db.pool, allowed=_types(), keep_writes=keep))
    values = await graph.ainvoke(FRESH, config(lease), durability="sync")
    assert values["__interrupt__"][0].value == {"question": "go on?"}
    heir = await house.robbed(lease)
    graph = build(FencedSaver(house.db.pool, allowed=_types(), keep_writes=keep))
    snapshot = await graph.aget_state(config(heir))
    [pending] = snapshot.interrupts
    assert snapshot.values["plan"] == plan()
    resume: Command[Any] = Command(resume={pending.id: "yes"})
    values = await graph.ainvoke(resume, config(heir), durability="sync")
    assert values == {"count": 2, "plan": plan(), "words": ("first", "yes")}
    assert RAN == ["asking", "last"]
    assert (await graph.aget_state(config(heir))).next == ()


async def test_what_was_read_ahead_is_handed_over_once_to_whoever_holds_the_lease(
    house: House,
) -> None:
    lease = await house.leased()
    saver = FencedSaver(house.db.pool, allowed=_types())
    graph = build(saver)
    assert await saver.ahead(config(lease)) is None
    await graph.ainvoke(FRESH, config(lease), durability="sync")
    found = await saver.ahead(config(lease))
    assert found is not None
    other = await saver.aget_tuple({"configurable": {"thread_id": str(lease.thread_id)}})
    assert other is not None
    assert other is not found
    assert await saver.aget_tuple(config(lease)) is found
    assert await saver.aget_tuple(config(lease)) is not found
    forgotten = await saver.ahead(config(lease))
    saver.forget(config(lease))
    assert await saver.aget_tuple(config(lease)) is not forgotten
    # Entered with what was read ahead, the graph goes on from the interrupt, and later from there.
    await saver.ahead(config(lease))
    values = await graph.ainvoke(Command(resume="yes"), config(lease), durability="sync")
    assert values["words"] == ("first", "yes")
    assert (await graph.aget_state(config(lease))).next == ()


async def test_after_a_failure_it_goes_on_at_the_node_that_failed(house: House) -> None:
    lease = await house.leased()
    graph = build(FencedSaver(house.db.pool, allowed=_types()))
    await graph.ainvoke(FRESH, config(lease), durability="sync")
    with pytest.raises(RuntimeError, match="broken"):
        await graph.ainvoke(Command(resume="fail"), config(lease), durability="sync")
    snapshot = await graph.aget_state(config(lease))
    assert snapshot.next == ("last",)
    assert "broken" in str(snapshot.tasks[0].error)
    RAN.clear()
    with pytest.raises(RuntimeError, match="broken"):
        await graph.ainvoke(None, config(lease), durability="sync")
    assert RAN == ["last"]


async def test_a_zombie_cannot_write_a_checkpoint(house: House) -> None:
    lease = await house.leased()
    saver = FencedSaver(house.db.pool, allowed=_types())
    graph = build(saver)
    await graph.ainvoke(FRESH, config(lease), durability="sync")
    heir = await house.robbed(lease)
    before = await _everything(house, lease)
    with pytest.raises(LeaseLost):
        await graph.ainvoke(Command(resume="late"), config(lease), durability="sync")
    with pytest.raises(LeaseLost):
        await graph.ainvoke(FRESH, config(lease), durability="sync")
    saved = await saver.aget_tuple(config(lease))
    assert saved is not None
    at = saved.config["configurable"]
    zombie: Any = {"configurable": {**at, **config(lease)["configurable"]}}
    with pytest.raises(LeaseLost):
        await saver.aput(zombie, empty_checkpoint(), {}, {})
    with pytest.raises(LeaseLost):
        await saver.aput_writes(zombie, [("__interrupt__", "x")], str(uuid4()))
    assert await _everything(house, lease) == before
    await graph.ainvoke(Command(resume="mine"), config(heir), durability="sync")


async def test_it_leaves_out_only_what_the_next_checkpoint_holds(house: House) -> None:
    rows: dict[bool, list[str]] = {}
    for keep in (False, True):
        lease = await house.leased()
        graph = build(FencedSaver(house.db.pool, allowed=_types(), keep_writes=keep))
        await graph.ainvoke(FRESH, config(lease), durability="sync")
        await graph.ainvoke(Command(resume="yes"), config(lease), durability="sync")
        found = await house.db.rows(
            "SELECT DISTINCT channel FROM checkpoint_writes WHERE thread_id = %s ORDER BY 1",
            (str(lease.thread_id),),
        )
        rows[keep] = [row[0] for row in found]
    assert {"__interrupt__", "__resume__"} <= set(rows[False])
    assert "count" in rows[True]
    assert "plan" not in rows[False]


@pytest.mark.parametrize("keep", [False, True])
async def test_what_comes_from_outside_survives(house: House, keep: bool) -> None:
    """An update of the state beside a resume is not something a node could do again."""
    lease = await house.leased()
    graph = build(FencedSaver(house.db.pool, allowed=_types(), keep_writes=keep))
    await graph.ainvoke(FRESH, config(lease), durability="sync")
    await graph.aupdate_state(config(lease), {"count": 40}, as_node="first")
    values = await graph.ainvoke(Command(resume="x"), config(lease), durability="sync")
    if "__interrupt__" in values:
        values = await graph.ainvoke(Command(resume="x"), config(lease), durability="sync")
    assert values["count"] == 41


@pytest.mark.parametrize("keep", [False, True])
async def test_parallel_tasks_and_history_read_as_with_the_stock_saver(
    house: House, keep: bool
) -> None:
    async def fan(state: dict[str, Any]) -> dict[str, Any]:
        return {"words": [f"w{state['n']}"]}

    def add(left: list[str], right: list[str]) -> list[str]:
        return sorted([*left, *right])

    shape: Any = TypedDict("shape", {"words": Annotated[list[str], add], "n": int})
    graph: Any = StateGraph(shape)
    graph.add_node("fan", fan)
    graph.add_conditional_edges(START, lambda _: [Send("fan", {"n": n}) for n in range(3)])
    seen = []
    for saver in (
        FencedSaver(house.db.pool, keep_writes=keep),
        AsyncPostgresSaver(cast(Any, house.db.pool)),
    ):
        lease = await house.leased()
        built = graph.compile(checkpointer=saver)
        await built.ainvoke({"words": ["a"], "n": 0}, config(lease), durability="sync")
        history = [one async for one in built.aget_state_history(config(lease))]
        seen.append([(one.values, one.next, one.metadata["step"]) for one in history])
    assert seen[0] == seen[1]
    assert seen[0][0][0]["words"] == ["a", "w0", "w1", "w2"]


async def test_types_that_were_not_named_do_not_come_back(house: House) -> None:
    lease = await house.leased()
    saver = FencedSaver(house.db.pool)
    put = empty_checkpoint()
    put["channel_values"] = {"plan": plan()}
    put["channel_versions"] = {"plan": "1"}
    at: Any = {"configurable": {**config(lease)["configurable"], "checkpoint_ns": ""}}
    await saver.aput(at, put, {}, {"plan": "1"})
    got = await saver.aget_tuple(at)
    assert got is not None
    assert not isinstance(got.checkpoint["channel_values"]["plan"], Plan)
    saver = FencedSaver(house.db.pool, allowed=_types())
    got = await saver.aget_tuple(at)
    assert got is not None
    assert got.checkpoint["channel_values"]["plan"] == plan()


async def test_langgraph_s_own_server_gets_a_saver(new_database: Callable[[], str]) -> None:
    async with create(new_database(), allowed=_types()) as saver:
        graph = build(saver)
        at: Any = {"configurable": {"thread_id": str(uuid4())}}
        await graph.ainvoke(FRESH, at)
        assert (await graph.aget_state(at)).next == ("asking",)
        await saver.adelete_thread(at["configurable"]["thread_id"])
        assert await saver.aget_tuple(at) is None


async def test_an_embedded_server_ends_when_it_cannot_be_reached(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stopped: list[bool] = []
    server = SimpleNamespace(url="postgresql://nobody", stop=lambda: stopped.append(True))

    async def unreachable(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError("no answer")

    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr("store.embedded.start", lambda _folder: server)
    monkeypatch.setattr("store.database.Database.open", unreachable)
    with pytest.raises(psycopg.OperationalError):
        async with create(data=tmp_path):
            raise AssertionError("unreachable")
    assert stopped == [True]


async def _everything(house: House, lease: Lease) -> list[Any]:
    thread = (str(lease.thread_id),)
    return [
        await house.db.rows("SELECT * FROM checkpoints WHERE thread_id = %s", thread),
        await house.db.rows("SELECT * FROM checkpoint_writes WHERE thread_id = %s", thread),
        await house.db.rows("SELECT * FROM checkpoint_blobs WHERE thread_id = %s", thread),
    ]


def _types() -> list[type]:
    """Every domain type that a plan holds."""
    return [Plan, Step, Change, Actor, K8sDeploy, Target, Workload]
