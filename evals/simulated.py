"""The simulated world as backends: what stands in where no real backend is set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from domain.clock import Clock
from domain.configuration import ConfigObjects
from domain.service import Catalogue
from evals.world.clock import ClockSpec, WorldClock
from evals.world.remote import RemoteWorld
from evals.world.scenario import Rule, Scenario
from evals.world.seed import ServiceSpec
from evals.world.world import World
from tools.stand_in import route_of

SEED = 20_260_304
FIRST_TAG = "1.0.0"
"""Version that everything runs when a simulated world begins."""
TICK_SECONDS = 1.0
"""How often the world counts requests, in simulated seconds: judged windows are a few of them."""
BAD_VERSIONS = "*bad*"


@dataclass(frozen=True)
class Simulated:
    """Where the simulated backends listen, and the clock that they live by."""

    clock: Clock
    kubeconfig: Path | None
    prometheus_url: str | None


def specs(catalogue: Catalogue, *, emulated: bool = True) -> list[ServiceSpec]:
    """The catalogue's services as the world knows them, each running its first version.

    Where the cluster is `emulated` it stands in for other executors, too.
    """
    found: list[ServiceSpec] = []
    for service in catalogue.services:
        environments = service.environments
        config = service.workload.config or ConfigObjects()
        found.append(
            ServiceSpec(
                name=service.name,
                image=service.image.format(sha=FIRST_TAG, tag=FIRST_TAG),
                namespaces={one.name: one.namespace for one in environments},
                deployment=service.workload.deployment,
                container=service.workload.container,
                port=service.workload.port,
                replicas=max(one.replicas for one in environments),
                route=(route_of(service.workload) if emulated else service.workload.route) or "",
                configmaps=config.configmaps,
                secrets=config.secrets,
                request_rate={one.namespace: one.request_rate for one in environments},
            )
        )
    return found


def scenario() -> Scenario:
    """Versions whose tag contains `bad` fail 8% of their requests, in production alone: the kind
    of fault that staging does not show."""
    return Scenario(rules=(Rule(version=BAD_VERSIONS, namespace="prod*", error_rate=0.08),))


class SimulatedWorld:
    """Runs the world in this process and leaves a note in the data folder for other workers."""

    def __init__(
        self,
        catalogue: Catalogue,
        data: Path,
        *,
        clock: WorldClock | None = None,
        kubeconfig: Path | None = None,
        persist: bool = True,
    ) -> None:
        self._data = data
        self.clock: WorldClock = clock or WorldClock(datetime.now(UTC))
        known = specs(catalogue, emulated=kubeconfig is None)
        self.world: World | RemoteWorld
        if kubeconfig is None:
            folder = data / "world"
            folder.mkdir(parents=True, exist_ok=True)
            self.world = World(
                SEED,
                self.clock,
                known,
                folder if persist else None,
                scenario=scenario(),
                tick=TICK_SECONDS,
            )
        else:
            # A real cluster without real metrics: traffic is made up from what runs there. Routes
            # stay the business of the cluster's own gateway.
            self.world = RemoteWorld(
                kubeconfig,
                SEED,
                self.clock,
                known,
                scenario=scenario(),
                tick=TICK_SECONDS,
                report_routes=False,
            )

    async def start(self) -> Simulated:
        """Listen on a free loopback port; returns where."""
        await self.world.start()
        kubeconfig: Path | None = None
        if isinstance(self.world, World):
            kubeconfig = self.world.kubeconfig(self._data / "world-kubeconfig")
        note = {
            "clock": json.loads(self.clock.spec.dumps()),
            "kubeconfig": str(kubeconfig.resolve()) if kubeconfig else None,
            "prometheus_url": self.world.prometheus_url,
        }
        (self._data / NOTE).write_text(json.dumps(note), encoding="utf-8")
        return Simulated(self.clock, kubeconfig, self.world.prometheus_url)

    async def stop(self) -> None:
        """Stop listening and take the note away."""
        (self._data / NOTE).unlink(missing_ok=True)
        await self.world.stop()


NOTE = "world.json"


def attach(data: Path) -> Simulated | None:
    """The world that a `serve` on the same data folder runs, or None when there is none."""
    try:
        note: Mapping[str, Any] = json.loads((data / NOTE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    clock = WorldClock.from_spec(ClockSpec.loads(json.dumps(note["clock"])))
    kubeconfig = Path(note["kubeconfig"]) if note.get("kubeconfig") else None
    return Simulated(clock, kubeconfig, note["prometheus_url"])
