"""`python -m tests.e2e.world_main SPEC`: a `RemoteWorld` as a process of its own.

So that it is scraped in time while the test that began it has its hands full. SPEC is a JSON file:
`kubeconfig`, `services` (the fields of `ServiceSpec`), `scenario`, `report` (whether it is the
gateway's controller). Says where it listens on the first line of its output, and ends with its
standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import uvloop

from domain.clock import SystemClock
from evals.world.clock import WorldClock
from evals.world.remote import RemoteWorld
from evals.world.scenario import Scenario
from evals.world.seed import ServiceSpec

SEED = 7


async def live(told: dict[str, Any]) -> None:
    """Run until whoever began it has ended, or closes the pipe."""
    world = RemoteWorld(
        Path(told["kubeconfig"]),
        SEED,
        WorldClock(SystemClock().now()),
        [ServiceSpec(**one) for one in told["services"]],
        scenario=Scenario.model_validate(told["scenario"]),
        tick=0.5,
        poll=0.25,
        report_routes=told["report"],
    )
    await world.start()
    print(world.url, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await world.stop()


if __name__ == "__main__":
    uvloop.run(live(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
