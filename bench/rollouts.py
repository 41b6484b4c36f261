"""(g) Rollouts in flight on one worker process: how late their looks come, and what they cost.

One real rollout bakes at 10%, judged every 30 seconds. Its copies (`bench/clones.py`) bake, too,
each begun at another moment, as evenly as a fleet's. `serve` with one worker advances them; the
cluster is the emulator and the metrics are constant, both in this process, and both count what is
asked of them. How late a look is: from when it was due to its verdict's row.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs
from uuid import UUID

import httpx
import psutil  # type: ignore[import-untyped]
import psycopg
import yaml
from prometheus_client.parser import text_string_to_metric_families
from psycopg.rows import TupleRow
from rich.table import Table
from starlette.types import Receive, Scope, Send

from bench.clones import clone
from bench.figures import Figure, Section, Target, percentile
from bench.ground import LISTENS, ROOT, BenchError, Ground, Program, cpu_seconds
from bench.releasing import ask, until
from domain.state import Progress, Proposal, Ruling
from evals.simulated import specs
from evals.world.clock import WorldClock
from evals.world.faults import FaultRule
from evals.world.serving import LocalServer
from evals.world.world import World
from graph.serde import checkpointed_types
from server import House, load_files, open_house
from store import embedded
from store.checkpoints import strict_serde
from store.records import RunRow
from tests.e2e.policies import everyday_policy
from tools.prometheus_joined import MARK

SIZES = (10, 100, 1_000)
INTERVAL_SECONDS = 30.0
SETTLE_SECONDS = 5.0
"""From the making of the copies to the first look: the planner's statistics are fresh by then."""
WATCHED_LOOKS = {1_000: 2}
"""Looks of every rollout for which a size is watched; one where it is not named."""
CONCURRENCY = "20"
BAKING = "checkout/staging.canary-10.check"
REQUESTS = {"bad": 4.0, "total": 9_000.0}
"""What any query finds: no version is worse than another."""

PART = re.compile(rf'label_replace\((.*?)\n, "{MARK}", "(\d+)", "", ""\)', re.DOTALL)

LOOKS = """
SELECT c.n, extract(epoch FROM v.at)::float8 FROM verdicts v JOIN clones c USING (run_id)
WHERE v.step_id = %s ORDER BY c.n, v.at
"""
BLOBS = """
SELECT b.thread_id, b.channel, b.version, b.type, b.blob, c.n FROM checkpoint_blobs b
JOIN clones c ON c.thread_id::text = b.thread_id
WHERE b.channel IN ('progress', 'proposal', 'ruling') AND c.n BETWEEN %s AND %s
"""
MOVED = """
UPDATE checkpoint_blobs SET blob = %s WHERE thread_id = %s AND channel = %s AND version = %s
"""
DUE = "UPDATE runs SET due_at = %s WHERE id = (SELECT run_id FROM clones WHERE n = %s)"


class Prometheus:
    """ASGI app: answers every instant query, and each part of a joined one, with one constant
    sample; counts the requests."""

    def __init__(self) -> None:
        self.queries = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked = {**parse_qs(scope["query_string"].decode()), **parse_qs(body.decode())}
        query = asked.get("query", [""])[0]
        self.queries += 1
        result = [
            {"metric": {MARK: mark} if mark else {}, "value": [time.time(), str(_requests(part))]}
            for part, mark in PART.findall(query) or [(query, "")]
        ]
        told = {"status": "success", "data": {"resultType": "vector", "result": result}}
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})


def _requests(query: str) -> float:
    return REQUESTS["bad" if 'code=~"5.."' in query or 'le="0.3"' in query else "total"]


@dataclass(frozen=True)
class Taken:
    """What one size showed over the time it was watched. Seconds and bytes; CPU in cores."""

    rollouts: int
    seconds: float
    """How long it was watched."""
    late: list[float]
    lag: float
    """p99 of the event loop's lateness, at most (the bound of its histogram's bucket)."""
    looks: int
    queries: int
    calls: int
    worker: float
    postgres: float
    memory: int

    def per_minute(self, count: int) -> float:
        """A count as one rollout's share in a minute."""
        return count / self.rollouts / (self.seconds / 60)

    def __str__(self) -> str:
        half, most = (percentile(self.late, share) for share in (0.5, 0.99))
        return (
            f"{self.looks} looks, p50 {half * 1000:.0f} ms late, p99 {most * 1000:.0f} ms; worker "
            f"{self.worker:.2f} cores, PostgreSQL {self.postgres:.2f}, {self.memory / 2**20:.0f} MB"
        )


@dataclass(frozen=True)
class Place:
    """The processes and stand-ins of one benchmark."""

    url: str
    postgres: Path
    """The data folder of its PostgreSQL."""
    served: Program
    address: str
    token: str
    world: World
    counted: FaultRule
    prometheus: Prometheus
    house: House


async def measure(ground: Ground, tell: Callable[[str], None]) -> Section:
    """Run the benchmark."""
    began = time.perf_counter()
    url, data = await ground.database("rollouts"), ground.data("rollouts")
    services, policy = _services(data), everyday_policy(data)
    settings = ground.settings(url, data).model_copy(
        update={"fermata_services": services, "fermata_policy": policy}
    )
    _, catalogue = load_files(settings)
    world = World(7, WorldClock(datetime.now(UTC)), specs(catalogue), tick=60.0)
    counted = world.faults.add(FaultRule(path="/k8s/", count=None))
    prometheus = Prometheus()
    metrics = LocalServer(prometheus, keep_seconds=300)
    await world.start()
    try:
        backends = {
            "kubeconfig": str(world.kubeconfig(data / "kubeconfig")),
            "prometheus_url": f"http://127.0.0.1:{await metrics.start('127.0.0.1', 0)}",
        }
        served = await ground.program(
            "rollouts-serve",
            *("cli", "serve", "--port", "0", "--workers", CONCURRENCY),
            settings={
                "DATABASE_URL": url,
                "FERMATA_DATA": str(data),
                "FERMATA_POLICY": str(policy),
                "FERMATA_SERVICES": str(services),
                "KUBECONFIG": backends["kubeconfig"],
                "PROMETHEUS_URL": backends["prometheus_url"],
            },
        )
        address = await served.until_said(LISTENS)
        token = (data / "admin-token").read_text().strip()
        settings = settings.model_copy(update=backends)
        async with open_house(settings, base_url=address, host=False) as house:
            postgres = ground.folder / embedded.FOLDER
            place = Place(url, postgres, served, address, token, world, counted, prometheus, house)
            original = await ask(house, "staging")
            await until(house, original, _is_baking, "bake")
            taken: list[Taken] = []
            begun: dict[int, float] = {}
            for size in SIZES:
                begun |= await _copies(place, original, len(begun), size)
                taken.append(await _watched(place, begun))
                tell(f"{size:,} in flight: {taken[-1]}")
        await served.stop()
    finally:
        await metrics.stop()
        await world.stop()
    return _section(taken, time.perf_counter() - began)


def _services(folder: Path) -> Path:
    """The shipped catalogue's first service, judged every 30 seconds for an hour at 10%."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    catalogue["defaults"]["interval"] = f"{INTERVAL_SECONDS:g}s"
    service = next(one for one in catalogue["services"] if one["name"] == "checkout")
    # What is constant for every version agrees with no weight.
    service["workload"]["share_wait"] = "0s"
    stage = {"weight": 10, "bake": "60m"}
    service["environments"] = [
        {"name": "staging", "namespace": "staging", "replicas": 2, "bake": "10m", "canary": [stage]}
    ]
    catalogue["services"] = [service]
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


def _is_baking(run: RunRow) -> bool:
    """Whether a rollout has got as far as its first canary check."""
    return run.step_id == BAKING and run.due_at is not None


async def _copies(place: Place, original: UUID, had: int, size: int) -> dict[int, float]:
    """More copies, up to `size`, their looks spread evenly over an interval; when the bake of each
    began (Unix seconds), by its number."""
    await clone(place.url, original, had + 1, size, baking=True)
    serde = strict_serde(checkpointed_types())
    soon = place.house.clock.now() + timedelta(seconds=SETTLE_SECONDS)
    due = {
        number: soon + timedelta(seconds=INTERVAL_SECONDS * number / size)
        for number in range(had + 1, size + 1)
    }
    # As the owner of the database: the house itself may not see the table of the copies.
    async with await psycopg.AsyncConnection.connect(place.url) as conn, conn.cursor() as cursor:
        await cursor.execute(BLOBS, (had + 1, size))
        blobs = [
            (serde.dumps_typed(_moved(serde.loads_typed((kind, blob)), due[n]))[1], *key)
            for *key, kind, blob, n in await cursor.fetchall()
        ]
        await cursor.executemany(MOVED, blobs)
        await cursor.executemany(DUE, [(at, number) for number, at in due.items()])
    return {number: at.timestamp() - INTERVAL_SECONDS for number, at in due.items()}


def _moved(value: object, due: datetime) -> object:
    """What a copy waits with, as if its bake had begun one interval before `due`."""
    match value:
        case Progress():
            since = due - timedelta(seconds=INTERVAL_SECONDS)
            return value.model_copy(update={"since": since, "windows": ()})
        case Proposal():
            return value.model_copy(update={"not_before": due})
        case Ruling():
            decision = value.decision.model_copy(update={"until": due})
            return value.model_copy(update={"decision": decision})
        case _:
            raise BenchError(f"a run that bakes has {type(value).__name__} where it should not")


async def _watched(place: Place, begun: Mapping[int, float]) -> Taken:
    """Let every copy have its first look, then watch."""
    await asyncio.sleep(SETTLE_SECONDS + INTERVAL_SECONDS)
    # A little longer, or a look that is late could miss both the beginning and the end.
    seconds = INTERVAL_SECONDS * WATCHED_LOOKS.get(len(begun), 1) + 2.0
    worker = psutil.Process(place.served.pid)
    postgres = _postgres(place)
    since = datetime.now(UTC)

    def counted() -> tuple[float, float, int, int]:
        used = (cpu_seconds([worker]), cpu_seconds(postgres))
        return *used, place.prometheus.queries, place.counted.hits

    before = counted()
    lag_before = await _lag(place)
    await asyncio.sleep(seconds)
    after = counted()
    lag = await _lag(place)
    async with await psycopg.AsyncConnection.connect(place.url) as conn:
        rows = await (await conn.execute(LOOKS, (BAKING,))).fetchall()
    late = _lateness(rows, begun, since.timestamp(), seconds)
    return Taken(
        rollouts=len(begun),
        seconds=seconds,
        late=late,
        lag=_p99({le: count - lag_before.get(le, 0.0) for le, count in lag.items()}),
        looks=len(late),
        queries=after[2] - before[2],
        calls=after[3] - before[3],
        worker=(after[0] - before[0]) / seconds,
        postgres=(after[1] - before[1]) / seconds,
        memory=int(worker.memory_info().rss),
    )


def _lateness(
    rows: Sequence[TupleRow], begun: Mapping[int, float], since: float, seconds: float
) -> list[float]:
    """How late each look since then was. Rows: number of a copy, time of a verdict.

    A look is due when the first window ends that the look before has not read. Whoever had no look
    at all in the `seconds` since then is late by no less than that.
    """
    late: list[float] = []
    read: dict[int, int] = {}
    looked: set[int] = set()
    for number, at in rows:
        windows = int((at - begun[number]) // INTERVAL_SECONDS)
        if windows < 1:
            continue  # a verdict of the original's, copied with it
        due = begun[number] + (read.get(number, 0) + 1) * INTERVAL_SECONDS
        read[number] = windows
        if at >= since:
            late.append(at - due)
            looked.add(number)
    return late + [seconds] * (len(begun) - len(looked))


def _postgres(place: Place) -> list[psutil.Process]:
    """The server of this benchmark and its connections, as they are now."""
    pid = int((place.postgres / "postmaster.pid").read_text().split("\n", 1)[0])
    server = psutil.Process(pid)
    return [server, *server.children()]


async def _lag(place: Place) -> dict[float, float]:
    """The histogram of the event loop's lateness: counts by upper bound."""
    headers = {"Authorization": f"Bearer {place.token}"}
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{place.address}/metrics", headers=headers)
    found: dict[float, float] = {}
    for family in text_string_to_metric_families(answer.text):
        if family.name == "fermata_event_loop_lag_seconds":
            for sample in family.samples:
                if sample.name.endswith("_bucket"):
                    found[float(sample.labels["le"])] = sample.value
    if not found:
        raise BenchError(f"/metrics tells no lag of the event loop: {answer.status_code}")
    return found


def _p99(counts: dict[float, float]) -> float:
    total = max(counts.values())
    return min(bound for bound, count in counts.items() if count >= 0.99 * total)


def _section(taken: Sequence[Taken], seconds: float) -> Section:
    table = Table(
        title="Lateness of looks, p99 of the loop's lag, requests to Prometheus and calls of the "
        "cluster a rollout and minute, cores of worker and PostgreSQL",
        title_justify="left",
        box=None,  # ten columns in a terminal of 80
        padding=(0, 1, 0, 0),
    )
    for name in (
        *("rollouts", "looks", "p50", "p99", "loop", "requests", "calls", "worker", "database"),
        "memory",
    ):
        table.add_column(name, justify="right")
    for one in taken:
        table.add_row(
            f"{one.rollouts:,}",
            f"{one.looks:,}",
            f"{percentile(one.late, 0.5) * 1000:,.0f} ms",
            f"{percentile(one.late, 0.99) * 1000:,.0f} ms",
            f"≤{one.lag * 1000:,.0f} ms",
            f"{one.per_minute(one.queries):.1f}",
            f"{one.per_minute(one.calls):.1f}",
            f"{one.worker:.2f}",
            f"{one.postgres:.2f}",
            f"{one.memory / 2**20:,.0f} MB",
        )
    last = taken[-1]
    return Section(
        f"(g) up to {last.rollouts:,} rollouts in flight, judged every {INTERVAL_SECONDS:g} s",
        (
            Figure(
                f"p99 from a look being due to its verdict, {last.rollouts:,} in flight",
                percentile(last.late, 0.99),
                "s",
                Target("at most", 2.0),
                f"p50 {percentile(last.late, 0.5) * 1000:,.0f} ms",
            ),
            Figure("p99 of the event loop's lag", last.lag, "s", Target("at most", 2.0)),
            Figure(
                "memory of a rollout in flight",
                (last.memory - taken[0].memory) / (last.rollouts - taken[0].rollouts) / 1024,
                "KiB",
                detail="growth of the resident set",
            ),
        ),
        seconds,
        (table,),
    )
