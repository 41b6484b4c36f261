"""Composition root: settings → store → toolbox → graph → app. Everything is put together here."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from fastapi import FastAPI
from rich.console import Console

from domain.clock import Clock
from domain.service import Catalogue
from evals.simulated import SimulatedWorld, attach
from graph.assembly import Graph, Nodes, assemble
from graph.run import Engine
from graph.worker import Worker
from nodes.approve import Approve
from nodes.ballots import Ballots
from nodes.conductor import Conductor
from nodes.execute import Execute
from nodes.gate import Gate
from nodes.judge import JudgeConfig
from nodes.observe import Observe
from nodes.passage import NoProbe, Probe
from nodes.release import Release
from nodes.report import Report
from nodes.rollback import Rollback
from nodes.wait import Wait
from nodes.watch import Watch
from nodes.wording import Wording
from policy.rules import Rules, load_policy
from settings import Settings
from store.books import Books
from store.checkpoints import fenced_saver
from store.database import Database
from store.embedded import start as start_embedded
from store.migrate import apply as migrate
from store.queue import Hints
from tools.catalogue import load_catalogue
from tools.toolbox import Backend, Toolbox
from tools.wiring import Wiring, open_toolbox
from web.app import Desk, make_app
from web.logs import set_up_logging

log = structlog.get_logger("fermata")


@dataclass(frozen=True)
class House:
    """Everything a process needs, open and connected."""

    settings: Settings
    clock: Clock
    books: Books
    toolbox: Toolbox
    rules: Rules
    catalogue: Catalogue
    graph: Graph
    hints: Hints
    backends: tuple[Backend, ...]

    async def worker(self, concurrency: int, probe: Probe | None = None) -> Worker:
        """A worker of this process, registered and ready to run."""
        worker_id = await self.books.leases.register(f"{socket.gethostname()}")
        engine = Engine(
            graph=self.graph,
            leases=self.books.leases,
            runs=self.books.runs,
            clock=self.clock,
            worker_id=worker_id,
            probe=probe or NoProbe(),
        )
        return Worker(engine=engine, hints=self.hints, clock=self.clock, concurrency=concurrency)


@contextlib.asynccontextmanager
async def open_house(
    settings: Settings,
    *,
    base_url: str,
    with_world: bool = True,
    world: SimulatedWorld | None = None,
) -> AsyncIterator[House]:
    """Open the store, the backends and the graph; close them in the reverse order.

    `with_world` starts the simulated world where backends are unset; a second process of the same
    data folder passes False and attaches to the one that runs. Raises SourceError for a policy or
    catalogue that is wrong, before anything is started.
    """
    rules = load_policy(_read(settings.fermata_policy), str(settings.fermata_policy))
    catalogue = load_catalogue(_read(settings.fermata_services), str(settings.fermata_services))
    settings.fermata_data.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        url, where = _database_url(settings, stack)
        database = await Database.open(url)
        stack.push_async_callback(database.close)
        await migrate(database)
        books = Books.of(database)
        wiring = await _wiring(settings, catalogue, stack, with_world, world)
        toolbox = await stack.enter_async_context(open_toolbox(wiring))
        hints = await stack.enter_async_context(
            Hints.open(settings.redis_url.get_secret_value() if settings.redis_url else url)
        )
        graph = assemble(
            _nodes(rules, catalogue, books, toolbox, wiring.clock, base_url),
            wiring.clock,
            fenced_saver(database),
        )
        queue = Backend("queue", "real", "Redis" if settings.redis_url else "PostgreSQL")
        yield House(
            settings=settings,
            clock=wiring.clock,
            books=books,
            toolbox=toolbox,
            rules=rules,
            catalogue=catalogue,
            graph=graph,
            hints=hints,
            backends=(Backend("database", "real", where), queue, *toolbox.backends),
        )
