"""Kubernetes answers with an error, hangs, or cuts the connection before or after applying.

All cases run side by side, each on a service of its own; each test then looks at its own run.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from domain.run import RunState
from evals.world.faults import FaultRule
from store.records import RunDetail
from tests.chaos.runs import POLL_SECONDS, Patience
from tests.chaos.scene import Scene, open_scene
from tests.chaos.tally import Tally, Traces
from tests.chaos.test_crash_points import GOOD, WARM, undisturbed
from tests.chaos.workers import Zygote

CANARY = r"/deployments/{}-canary(\?|$)"
ROUTE = r"/httproutes/{}(\?|$)"
STABLE = r"/deployments/{}(\?|$)"
HANG_SECONDS = 12.0
"""Longer than a request is waited for (10 s), and then the request is carried out all the same."""


@dataclass(frozen=True)
class Case:
    """A fault, how the run is to end in spite of it, and what its page has to say of it.

    `path` is a template over the service's name.
    """

    name: str
    path: str
    method: str
    says: str
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    count: int = 1
    hang: float = 0.0
    cut: str = ""
    ends: RunState = RunState.SUCCEEDED

    def rule(self, service: str) -> FaultRule:
        """The rule that makes it happen to a service."""
        return FaultRule(
            path=self.path.format(service),
            method=self.method,
            count=self.count,
            status=self.status,
            headers=dict(self.headers),
            hang=self.hang,
            cut=self.cut or None,  # type: ignore[arg-type]
        )


BACK = RunState.ROLLED_BACK
AFTER_ONE = (("Retry-After", "1"),)
CASES = (
    Case("write-401", CANARY, "PATCH", "does not know our credentials", 401, ends=BACK),
    Case("write-403", CANARY, "PATCH", "(403)", 403, ends=BACK),
    Case("write-404", CANARY, "PATCH", "(404)", 404, ends=BACK),
    Case("write-422", ROUTE, "PATCH", "(422)", 422, ends=BACK),
    Case("read-401", CANARY, "GET", "does not know our credentials", 401, ends=RunState.FAILED),
    Case("read-403", CANARY, "GET", "(403)", 403, ends=RunState.FAILED),
    Case("write-409-once", CANARY, "PATCH", "", 409),
    Case("write-409-often", ROUTE, "PATCH", "injected fault", 409, count=6),
    Case("write-429", CANARY, "PATCH", "(429)", 429, AFTER_ONE),
    Case("read-429", CANARY, "GET", "(429)", 429, AFTER_ONE, count=3),
    Case("write-500", ROUTE, "PATCH", "(500)", 500),
    Case("read-500", STABLE, "GET", "(500)", 500, count=3),
    Case("write-503", STABLE, "PATCH", "(503)", 503, AFTER_ONE),
    Case("write-hangs", CANARY, "PATCH", "no answer within 10 s", hang=HANG_SECONDS),
    Case("read-hangs", ROUTE, "GET", "no answer within 10 s", hang=HANG_SECONDS),
    Case("write-cut-before", CANARY, "PATCH", "connection was lost", cut="before"),
    Case("write-cut-after", CANARY, "PATCH", "connection was lost", cut="after"),
    Case("route-cut-after", ROUTE, "PATCH", "connection was lost", cut="after"),
    Case("stable-cut-after", STABLE, "PATCH", "connection was lost", cut="after"),
    # The HTTP client asks once more by itself, and the adapter up to three times.
    Case("read-cut", CANARY, "GET", "connection was lost", cut="before", count=8),
)


@dataclass
class Played:
    """All cases, played."""

    scene: Scene
    details: dict[str, RunDetail]
    reasons: dict[str, set[str]]
    """What the page of each run gave as its reason, from beginning to end."""
    rules: dict[str, FaultRule]
    expected: Traces


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def played(
    postgres_url: str, zygote: Zygote, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Played]:
    """Play every case: a first release undisturbed, then one with its fault."""
    data: Path = tmp_path_factory.mktemp("faults") / "scene"
    names = ["calm", *(case.name for case in CASES)]
    async with open_scene(postgres_url, data, names) as scene:
        workers = [await zygote.start(scene.order()) for _ in range(2)]
        await scene.ended(*[await scene.release(name, WARM) for name in names])
        for worker in workers:
            worker.send(signal.SIGTERM)
            assert await worker.gone() == 0, scene.log()
        expected, _ = await undisturbed(scene, zygote, "calm", GOOD)
        rules = {case.name: case.rule(case.name) for case in CASES}
        scene.world.faults.rules[:0] = rules.values()
        workers = [await zygote.start(scene.order()) for _ in range(2)]
        runs = {case.name: await scene.release(case.name, GOOD) for case in CASES}
        reasons, details = await _follow(scene, runs)
        for worker in workers:
            worker.send(signal.SIGTERM)
            assert await worker.gone() == 0, scene.log()
        yield Played(scene, details, reasons, rules, expected)


async def _follow(
    scene: Scene, runs: dict[str, UUID]
) -> tuple[dict[str, set[str]], dict[str, RunDetail]]:
    """Wait for all runs, noting each reason that their pages gave on the way."""
    reasons: dict[str, set[str]] = {name: set() for name in runs}
    ended: dict[str, RunDetail] = {}
    patience = Patience()
    while len(ended) < len(runs):
        await scene.vote()
        for run in await scene.books.queries.list_runs(limit=2 * len(runs)):
            name = next((one for one, run_id in runs.items() if run_id == run.id), None)
            if name is None or name in ended:
                continue
            reasons[name].add(run.reason)
            if run.state.is_final:
                ended[name] = await scene.detail(run.id)
        patience.check(
            {name: len(said) for name, said in reasons.items()},
            f"{runs.keys() - ended.keys()}\n{scene.log()}",
        )
        await asyncio.sleep(POLL_SECONDS)
    return reasons, ended


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_cluster_fault_is_survived_and_told(
    played: Played, tally: Tally, case: Case
) -> None:
    detail = played.details[case.name]
    assert played.rules[case.name].hits == case.count
    assert case.says in await played.scene.page(detail.run.id)
    assert detail.run.state is case.ends, detail.run.reason
    if case.ends is RunState.SUCCEEDED:
        await tally.hold(
            played.scene, detail, case.name, played.expected,
            what="Kubernetes fault", points=[case.name],
        )  # fmt: skip
    else:
        assert case.says in detail.run.reason
        assert played.scene.image(case.name) == f"ghcr.io/acme/{case.name}:{WARM}"
        tally.note("Kubernetes fault", case.name, detail.run.state.value)
