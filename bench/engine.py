"""(b) Runs through the engine, against the same graph on bare LangGraph, and against DBOS.

The run is the shortest that has everything in it: an alert is planned, ruled on, notified (as a dry
run, so that no network is measured), observed and reported. The engine does it with queue, lease,
fence, decision and ledger; bare LangGraph walks the same graph with nodes that return what the real
ones returned; DBOS takes the same number of steps and returns the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from bench.dbos_twin import Twin
from bench.figures import Figure, Section, Target
from bench.ground import BenchError, Ground
from domain.clock import Clock
from domain.event import Alert, AlertGroup, Event
from domain.run import RunState
from domain.state import State, Update, initial
from graph.assembly import Graph, Nodes, assemble
from graph.serde import checkpointed_types
from nodes.passage import Passage
from server import House
from store.checkpoints import strict_serde
from store.records import Lease
from web.correlate import correlate

CONCURRENCY = 20
RUNS = 150
"""Runs in one round of one contestant."""
WARM_UP = 40
ROUNDS = 5
POOL = 20
LONGEST_ROUND_SECONDS = 60.0
POLL_SECONDS = 0.02

Contestant = Callable[[int], Awaitable[float]]
"""Does so many runs; how many a second."""


@dataclass(frozen=True)
class Recording:
    """One real run: its event, its lease, and what each node returned, in order."""

    event: Event
    lease: Lease
    updates: tuple[tuple[str, Update], ...]


async def measure(ground: Ground, tell: Callable[[str], None]) -> Section:
    """Run the benchmark."""
    began = time.perf_counter()
    async with contextlib.AsyncExitStack() as stack:
        house = await stack.enter_async_context(
            ground.house(await ground.database("engine"), ground.data("engine"))
        )
        recording = await record(house)
        bare = await stack.enter_async_context(
            bare_graphs(await ground.database("bare"), recording, house.clock)
        )
        twin = await Twin.start(ground, await ground.database("dbos"), recording.updates)
        worker = await house.worker(CONCURRENCY)
        task = asyncio.create_task(worker.run(), name="worker")
        try:
            return await _compare(
                {
                    "bare": lambda count: _bare_runs(bare[:1], recording, count),
                    "unlocked": lambda count: _bare_runs(bare, recording, count),
                    "engine": lambda count: _engine_runs(house, count),
                    "dbos": lambda count: twin.runs(count, CONCURRENCY),
                },
                len(recording.updates),
                tell,
                began,
            )
        finally:
            worker.stop()
            await task


async def _compare(
    contestants: dict[str, Contestant], steps: int, tell: Callable[[str], None], began: float
) -> Section:
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        await run(WARM_UP)
    for number in range(ROUNDS):
        for name, run in contestants.items():
            rates[name].append(await run(RUNS))
        said = ", ".join(f"{name} {found[-1]:.0f}/s" for name, found in rates.items())
        tell(f"round {number + 1}: {said}")
    median = {name: statistics.median(found) for name, found in rates.items()}

    def ratio(name: str) -> float:
        return statistics.median(
            one / bare for one, bare in zip(rates[name], rates["bare"], strict=True)
        )

    return Section(
        f"(b) runs of {steps} supersteps, {CONCURRENCY} at a time",
        (
            Figure(
                "engine / bare LangGraph",
                ratio("engine"),
                "x",
                Target("at least", 0.8),
                f"{median['engine']:.0f}/s against {median['bare']:.0f}/s, median of {ROUNDS} "
                f"pairs of {RUNS} runs",
            ),
            Figure(
                "bare LangGraph with a saver a run / with one saver",
                ratio("unlocked"),
                "x",
                detail=f"{median['unlocked']:.0f}/s; a saver lets one write through at a time",
            ),
            Figure(
                "DBOS / bare LangGraph",
                ratio("dbos"),
                "x",
                detail=f"{median['dbos']:.0f}/s, a workflow of {steps} steps that return the same",
            ),
        ),
        time.perf_counter() - began,
    )


def alert(clock: Clock) -> Event:
    """An alert that nobody has sent before."""
    key = uuid4().hex
    now = clock.now()
    return Event(
        id=uuid4(),
        source="alertmanager",
        delivery_id=key,
        body_digest=key * 2,
        received_at=now,
        body=AlertGroup(
            group_key=f"bench:{key}",
            status="firing",
            receiver="fermata",
            alerts=(
                Alert(
                    name="HighErrorRate",
                    status="firing",
                    fingerprint=key[:16],
                    labels={"alertname": "HighErrorRate", "severity": "warning", "job": "bench"},
                    annotations={"summary": "5% of the requests fail"},
                    starts_at=now,
                ),
            ),
        ),
    )


async def accept(house: House, event: Event) -> UUID:
    """Take an event in as the web does; the run that it starts."""
    receipt = await house.books.events.accept(event, correlate(event, house.catalogue), b"{}")
    if receipt.run_id is None:
        raise BenchError(f"the event started no run: {receipt.reason}")
    return receipt.run_id


async def record(house: House) -> Recording:
    """Do one run by hand and note what its nodes return."""
    event = alert(house.clock)
    run_id = await accept(house, event)
    worker_id = await house.books.leases.register("recorder", 60.0)
    lease = await house.books.leases.take(run_id, worker_id, house.clock.now())
    if lease is None:
        raise BenchError("the run to be recorded is somebody else's")
    updates: list[tuple[str, Update]] = []
    chunks: AsyncIterator[Any] = house.graph.astream(
        initial(run_id, lease.event, lease.goal),
        {
            "configurable": {
                "thread_id": str(lease.thread_id),
                "run_id": str(run_id),
                "fence": lease.fence,
            }
        },
        context=Passage(lease=lease),
        stream_mode="updates",
        durability="sync",
    )
    async for chunk in chunks:
        updates.extend(chunk.items())
    names = [name for name, _ in updates]
    if len(set(names)) != len(names):
        raise BenchError(f"a node was passed twice, so that it cannot be replaced: {names}")
    await house.books.leases.release(lease, state=RunState.SUCCEEDED, reason="recorded")
    await house.books.leases.deregister(worker_id)
    return Recording(event, lease, tuple(updates))


@contextlib.asynccontextmanager
async def bare_graphs(
    url: str, recording: Recording, clock: Clock
) -> AsyncIterator[tuple[Graph, ...]]:
    """The same graph with nodes that only return, and LangGraph's own saver as it comes.

    As many as there are runs at a time, on one pool of connections: one saver is how it is used,
    and since it has a lock around its connections, one for each run is what it could do without.
    """
    async with AsyncConnectionPool(
        url,
        connection_class=AsyncConnection[DictRow],
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        min_size=2,
        max_size=POOL,
        open=False,
    ) as pool:
        serde = strict_serde(checkpointed_types())
        await AsyncPostgresSaver(pool, serde=serde).setup()
        updates = dict(recording.updates)

        def returning(name: str) -> Callable[[State], Awaitable[Update]]:
            update = updates.get(name, Update())

            async def node(state: State) -> Update:
                return update

            return node

        nodes = Nodes(**{name: returning(name) for name in Nodes.__dataclass_fields__})
        yield tuple(
            assemble(nodes, clock, AsyncPostgresSaver(pool, serde=serde))
            for _ in range(CONCURRENCY)
        )


async def _bare_runs(graphs: Sequence[Graph], recording: Recording, count: int) -> float:
    left = iter(range(count))

    async def some(graph: Graph) -> None:
        for _ in left:
            await graph.ainvoke(
                initial(uuid4(), recording.event, recording.lease.goal),
                {"configurable": {"thread_id": str(uuid4())}},
                context=Passage(lease=recording.lease),
                durability="sync",
            )

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(CONCURRENCY):
            group.create_task(some(graphs[number % len(graphs)]))
    return count / (time.perf_counter() - began)


async def _engine_runs(house: House, count: int) -> float:
    """From the first event to the end of the last run."""
    left = iter(range(count))
    runs: list[UUID] = []

    async def some() -> None:
        for _ in left:
            run_id = await accept(house, alert(house.clock))
            runs.append(run_id)
            await house.hints.enqueue(run_id)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(some())
    while await _unfinished(house, runs):
        if time.perf_counter() - began > LONGEST_ROUND_SECONDS:
            raise BenchError(f"{count} runs took longer than {LONGEST_ROUND_SECONDS:.0f} s")
        await asyncio.sleep(POLL_SECONDS)
    took = time.perf_counter() - began
    good = await house.books.database.value(
        "SELECT count(*) FROM runs r JOIN effects f ON f.run_id = r.id "
        "WHERE r.id = ANY (%s) AND r.state = 'succeeded' AND f.state = 'applied'",
        (runs,),
    )
    if good != count:
        raise BenchError(f"only {good} of {count} runs went as they should")
    return count / took


async def _unfinished(house: House, runs: list[UUID]) -> bool:
    found: bool = await house.books.database.value(
        "SELECT EXISTS (SELECT FROM runs WHERE id = ANY (%s) AND finished_at IS NULL)", (runs,)
    )
    return found
