"""SIGKILL at each step of a release on a real control plane, and of the way back of a bad one.

An undisturbed release of either kind says which points there are: both sides of each write to the
cluster, and the end of each superstep at a step that is about it. They are dealt out among
releases, side by side on services of their own, and other workers go on with what was killed.
`test_crash_points.py` does the same at more points, on the emulator.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from domain.run import RunState
from tests.chaos.real_scene import REPLICAS, RealScene, Traces, open_real_scene
from tests.chaos.runs import Patience
from tests.chaos.tally import Tally
from tests.chaos.workers import Zygote, crew
from tests.chaos.zygote import locked, struck_out
from tests.e2e.plain_site import Plain

HERE = Path(__file__).parent
GOOD, BAD = "good release", "bad release"
ENDINGS = {GOOD: RunState.SUCCEEDED, BAD: RunState.ROLLED_BACK}
CALM = {GOOD: "calm", BAD: "calm-too"}
WORDS = re.compile(r"\.(announce|notify):")
"""Effects that only say something; a kill beside them, or at their steps, which are the
conductor's, is tried on the emulator."""
END = re.compile(r"node:\w+:after@(forward|rollback)")
LANES = 12
"""Releases that are under way at once."""
WORKERS = 3
KILLS_BESIDE_WRITES, KILLS_AFTER_STEPS = 2, 9
"""How often one release is killed, at most."""
LOOK_SECONDS = 0.2
MOST_MISSED = 8
"""Releases that may go by a point without passing it before it counts as never tried."""


@dataclass(frozen=True)
class Errand:
    """A release that is to be killed at these points."""

    story: str
    points: tuple[str, ...]


@dataclass
class Lane:
    """A service, and its release that is under way."""

    service: str
    errand: Errand | None = None
    version: str = ""
    run_id: UUID | None = None


def plain(name: str) -> Plain:
    """A service whose release takes as long as a few looks at its errors, of three seconds each.

    One is enough for a check, as it begins when the measured share of the traffic is right.
    """
    canary = ({"weight": 10, "bake": "3s"},)
    return Plain(name, canary=canary, bake="3s", interval="3s", replicas=REPLICAS)


def versions(story: str) -> str:
    """The suffix by which the world knows what is bad."""
    return "-bad" if story == BAD else ""


def errands(story: str, points: Sequence[str]) -> Iterable[Errand]:
    """What to try; of a bad release the way back alone, the way there is the same."""
    passed = [one for one in points if story == GOOD or "rollback" in one]
    writes = [one for one in passed if one.startswith("effect:*/prod.") and not WORDS.search(one)]
    spoken = {one.partition("@")[2] for one in points if one.startswith("node:conductor:")}
    ends = [one for one in passed if END.match(one) and one.partition("@")[2] not in spoken]
    for found, at_most in ((writes, KILLS_BESIDE_WRITES), (ends, KILLS_AFTER_STEPS)):
        # Dealt out as cards are: what one release is killed at lies far apart.
        hands = math.ceil(len(found) / at_most)
        for index in range(hands):
            yield Errand(story, tuple(found[index::hands]))


async def undisturbed(
    scene: RealScene, zygote: Zygote
) -> tuple[dict[str, Traces], dict[str, list[str]]]:
    """What either kind leaves behind when nothing happens to it, and the points that it passes."""
    recorded = scene.data / "points"
    worker = await zygote.start(scene.order(record=str(recorded)))
    names = {story: f"2.0.0{versions(story)}" for story in ENDINGS}
    runs = {story: await scene.release(CALM[story], names[story]) for story in ENDINGS}
    details = await scene.ended(*runs.values())
    worker.send(signal.SIGTERM)
    assert await worker.gone() == 0, scene.log()
    expected, points = {}, {}
    lines = recorded.read_text(encoding="utf-8").splitlines()
    for story, detail in zip(runs, details, strict=True):
        assert detail.run.state is ENDINGS[story], detail.run.reason
        await scene.caught_up(CALM[story])
        expected[story] = scene.traces(detail, CALM[story])
        start = f"{names[story]} "
        passed = [
            one.removeprefix(start).replace(f"{CALM[story]}/", "*/")
            for one in lines
            if one.startswith(start)
        ]
        points[story] = list(dict.fromkeys(passed))
    return expected, points


async def test_a_kill_at_any_step_on_a_real_cluster_loses_and_doubles_nothing(
    postgres_url: str,
    data: Path,
    zygote: Zygote,
    tally: Tally,
    program: Callable[[str], str],
    cluster_here: None,
    unused_tcp_port_factory: Callable[[], int],
) -> None:
    lanes = [Lane(f"shop-{index}") for index in range(LANES)]
    services = [plain(one) for one in (*CALM.values(), *(lane.service for lane in lanes))]
    async with open_real_scene(
        postgres_url, data, services, HERE / "policy.yaml", program, unused_tcp_port_factory
    ) as scene:
        expected, points = await undisturbed(scene, zygote)
        each = [list(errands(story, points[story])) for story in ENDINGS]
        waiting = deque(one for pair in itertools.zip_longest(*each) for one in pair if one)
        wanted = Counter(point for one in waiting for point in one.points)
        assert sum(wanted.values()) > 60, wanted
        strikes = data / "strikes"
        strikes.touch()
        # One run at a time: a kill is to hit one run, at one point.
        order = scene.order(at=str(strikes), concurrency=1)
        numbers, missed, patience = itertools.count(1), Counter[str](), Patience()
        async with crew(zygote, order, scene.bury, WORKERS) as check:
            while waiting or any(lane.run_id for lane in lanes):
                check()
                await scene.vote()
                over = await scene.finals(lane.run_id for lane in lanes if lane.run_id)
                for lane in lanes:
                    if lane.run_id is None and waiting:
                        await _begin(scene, lane, waiting.popleft(), next(numbers), strikes)
                    elif lane.run_id in over:
                        for errand in await _look(scene, lane, tally, expected, strikes):
                            missed.update(errand.points)
                            assert missed[errand.points[0]] < MOST_MISSED, errand
                            waiting.append(errand)
                with locked(strikes) as left:
                    mark = (len(waiting), len(left), [lane.version for lane in lanes])
                patience.check(mark, f"{lanes}\n{scene.log()}")
                await asyncio.sleep(LOOK_SECONDS)


async def _begin(scene: RealScene, lane: Lane, errand: Errand, number: int, strikes: Path) -> None:
    """Start a release that is to be killed; the file says where before any worker can see it."""
    lane.errand, lane.version = errand, f"3.{number}.0{versions(errand.story)}"
    with locked(strikes) as lines:
        lines += [
            f"{lane.version} {point.replace('*/', f'{lane.service}/')}\n" for point in errand.points
        ]
    lane.run_id = await scene.release(lane.service, lane.version)


async def _look(
    scene: RealScene, lane: Lane, tally: Tally, expected: dict[str, Traces], strikes: Path
) -> list[Errand]:
    """Examine the lane's release, which has ended, and free the lane; what it did not pass."""
    assert lane.run_id is not None
    assert lane.errand is not None
    story = lane.errand.story
    detail = await scene.detail(lane.run_id)
    left = {point.replace(f"{lane.service}/", "*/") for point in struck_out(strikes, lane.version)}
    found = await scene.examine(detail, lane.service, expected[story])
    tally.count(
        found, detail, scene,
        what=f"SIGKILL on a real cluster, {story}",
        points=[point for point in lane.errand.points if point not in left],
    )  # fmt: skip
    if left != set(lane.errand.points):
        assert "taken over" in [node for node, _ in detail.path]
    lane.errand, lane.run_id = None, None
    return [Errand(story, (point,)) for point in sorted(left)]
