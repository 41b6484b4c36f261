"""The whole house in this process, its simulated world beginning at a moment of the test's choice.

Everything is what `fermata serve` puts together, listening on a port of its own; only the clock of
the world is set, and the people who may come in are named.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import SecretStr

import server
from commands.audit import prove_database
from evals.simulated import SimulatedWorld
from evals.world.clock import WorldClock
from settings import Settings
from store.audit import AuditLog
from surface import Access, open_access
from tests.e2e.api import Api
from tests.e2e.served import ROOT, SECRET
from web.auth import Gatekeeper
from web.serving import Listening
from web.tokens import TokenBook

SPEED = 150.0
"""Seconds of the world in one real second."""
PEOPLE = {
    "grace": ("release-manager",),
    "lin": ("sre-lead",),
    "ada": ("developer", "release-manager"),
    "vic": ("viewer",),
}
"""Who has a token, and which roles it gives; the token is the name with `-token` after it."""


@dataclass(frozen=True)
class Town:
    """A house that is open, how to call it, its world, and the clock of that."""

    admin: Api
    clock: WorldClock
    house: server.House
    world: SimulatedWorld

    def who(self, name: str) -> Api:
        """The API as one of the people sees it."""
        return self.admin.as_(f"{name}-token")


def slow_services(folder: Path, bake: str) -> Path:
    """The shipped catalogue, but a canary of 10% bakes for so long, and staging for ten minutes
    (four real seconds): time to say something."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    for service in catalogue["services"]:
        for environment in service["environments"]:
            for step in environment.get("canary", [])[:1]:
                step["bake"] = bake
            if environment.get("canary"):
                environment["interval"] = "1m"
                environment["bake"] = "1m"
                for step in environment["canary"][1:]:
                    step["bake"] = "1m"
            else:
                environment["bake"] = "10m"
                environment["interval"] = "1m"
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


def production_alone(folder: Path, **settings: Any) -> Path:
    """The shipped services in production alone, each with these settings of its environment."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    for service in catalogue["services"]:
        service["environments"] = [service["environments"][1] | settings]
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


@contextlib.asynccontextmanager
async def open_town(
    data: Path,
    opening: datetime,
    services: Path,
    policy: Path = ROOT / "policy.yaml",
    **changes: Any,
) -> AsyncIterator[Town]:
    """The house for the length of the block, its world's clock set to `opening`; `changes` are
    settings that are to be otherwise. At the end its audit record is proven, whatever went on."""
    told: dict[str, Any] = {
        "database_url": None,
        "redis_url": None,
        "kubeconfig": None,
        "kubernetes_service_host": None,
        "prometheus_url": None,
        "github_webhook_secret": (SecretStr(SECRET),),
        "github_token": None,
        "github_app_id": None,
        "slack_webhook_url": None,
        "notify_webhook_url": None,
        "fermata_tokens": None,
        "fermata_data": data,
        "fermata_policy": policy,
        "fermata_services": services,
    }
    settings = Settings(_env_file=None, **{**told, **changes})
    _, catalogue = server.load_files(settings)
    clock = WorldClock(opening, SPEED)
    world = SimulatedWorld(catalogue, data, clock=clock, persist=False)
    listening = Listening("127.0.0.1", 0)
    async with server.open_house(settings, base_url=listening.url, world=world) as house:
        access = _access(settings)
        async with (
            listening.serving(house.app(access)),
            server.advancing(house, 20),
            httpx.AsyncClient(timeout=30, trust_env=False) as http,
        ):
            yield Town(Api(listening.url, SECRET, http, access.admin_token), clock, house, world)
        await AuditLog(house.books.database).link()
        proof, more = await prove_database(house.books.database, {})
        assert proof.holds, str(proof.broken)
        assert more["gaps"] == []


def _access(settings: Settings) -> Access:
    access = open_access(settings)
    book = access.gatekeeper.tokens
    assert isinstance(book, TokenBook)
    for name, roles in PEOPLE.items():
        book = book.with_token(f"{name}-token", name, roles)
    return replace(access, gatekeeper=Gatekeeper(book, access.gatekeeper.sessions))
