"""`python -m evals.world.gateway_main SPEC`: the gateway as a process of its own.

SPEC is a JSON file: `kubeconfig`, `seed`, `services` (the fields of `ServiceSpec`), `scenario`.
Says where it listens on the first line of its output, as JSON, and ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from evals.world.gateway import Gateway
from evals.world.scenario import Scenario
from evals.world.seed import ServiceSpec


async def live(told: dict[str, Any]) -> None:
    """Run until told to end. Raises KeyError, TypeError or ValueError for a wrong SPEC."""
    gateway = Gateway(
        Path(told["kubeconfig"]),
        told["seed"],
        [ServiceSpec(**one) for one in told["services"]],
        scenario=Scenario.model_validate(told.get("scenario") or {}),
    )
    end = asyncio.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(one, end.set)
    try:
        await gateway.start()
        said = {"simulated": True, "url": gateway.url, "admin_url": gateway.admin_url}
        print(json.dumps(said), flush=True)
        await end.wait()
    finally:
        await gateway.stop()


if __name__ == "__main__":
    uvloop.run(live(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
