"""Composition root: settings → store → toolbox → graph → app. Everything is put together here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from rich.console import Console
from starlette.types import ASGIApp

from backends import open_backends
from domain.clock import Clock
from domain.errors import SourceError, SourceProblem
from domain.service import Catalogue
from evals.simulated import SimulatedWorld
from graph.assembly import Graph, Nodes, assemble
from graph.run import Engine
from graph.serde import checkpointed_types
from graph.worker import LEASE_SECONDS, Worker
from nodes.answering import Answering
from nodes.approve import Approve
from nodes.ballots import Ballots
from nodes.burn import BurnRates
from nodes.burning import Burning
from nodes.conductor import Conductor
from nodes.examining import Examiner
from nodes.execute import Execute
from nodes.gate import Gate
from nodes.happenings import Happenings
from nodes.inquiry import Inquiry
from nodes.judge import JudgeConfig
from nodes.leaks import Leaks
from nodes.manifests import Manifests
from nodes.observe import Observe
from nodes.passage import NoProbe, Probe
from nodes.release import Release
from nodes.report import Report
from nodes.rollback import Rollback
from nodes.settling import Settling
from nodes.share import Share
from nodes.standing import Heads, WhoMay
from nodes.unlocking import Unlocking
from nodes.wait import Wait
from nodes.watch import Watch
from nodes.wording import Wording
from policy.redaction.engine import Redactor
from policy.rules import ManifestRules, Rules
from settings import Settings
from store import embedded, migrate, roles
from store.answers import Answers
from store.books import Books
from store.checkpoints import FencedSaver
from store.cleaning import Cleaner
from store.database import Database
from store.queue import Hints
from surface import Access, make_app, open_access
from tools.catalogue import load_catalogue
from tools.toolbox import Backend, Toolbox
from web.auth import session_key
from web.crew import Berth, Crew, stops_with_parent
from web.logs import set_up_logging
from web.metrics import Metrics
from web.policy_file import PolicyInForce
from web.redacting import known_secrets, open_redactor
from web.serving import Listening, is_loopback, loop_factory
from web.sharing import PictureLinks
from web.sinks import Sinks

log = structlog.get_logger("fermata")

COLLECT_AFTER = (20_000, 20, 50)
"""Allocations before the youngest generation is collected, then collections of the younger ones."""


class Unsafe(RuntimeError):
    """Serving like this would let anybody in."""


class NoRecord(RuntimeError):
    """There is no audit record where it was looked for."""


@dataclass(frozen=True)
class House:
    """Everything a process needs, open and connected."""

    settings: Settings
    base_url: str
    clock: Clock
    books: Books
    toolbox: Toolbox
    policy: PolicyInForce
    catalogue: Catalogue
    graph: Graph
    hints: Hints
    backends: tuple[Backend, ...]
    metrics: Metrics
    sinks: Sinks
    standing: roles.Standing
    """What this process could do to the audit record."""

    def app(self, access: Access, warnings: Callable[[], tuple[str, ...]] = tuple) -> ASGIApp:
        """The web application on this house; `warnings` are told beside its own."""
        return make_app(
            warned=warnings,
            settings=self.settings,
            books=self.books,
            hints=self.hints,
            catalogue=self.catalogue,
            policy=self.policy,
            backends=self.backends,
            clock=self.clock,
            access=access,
            metrics=self.metrics,
            sinks=self.sinks,
            standing=self.standing,
            forge=self.toolbox.readers.forge,
        )

    async def worker(
        self, concurrency: int, probe: Probe | None = None, lease_seconds: float = LEASE_SECONDS
    ) -> Worker:
        """A worker of this process, registered and ready to run."""
        name = f"{socket.gethostname()}:{os.getpid()}"
        worker_id = await self.books.leases.register(name, lease_seconds)
        engine = Engine(
            graph=self.graph,
            leases=self.books.leases,
            runs=self.books.runs,
            clock=self.clock,
            worker_id=worker_id,
            probe=probe or NoProbe(),
        )
        return Worker(
            engine=engine,
            hints=self.hints,
            clock=self.clock,
            advance=self.metrics.timed(engine.advance),
            concurrency=concurrency,
            lease_seconds=lease_seconds,
        )


@contextlib.asynccontextmanager
async def open_house(
    settings: Settings,
    *,
    base_url: str,
    world: SimulatedWorld | None = None,
    host: bool = True,
    alone: bool = True,
) -> AsyncIterator[House]:
    """Open the store, the backends and the graph; close them in the reverse order.

    A process that is not the `host` attaches to the simulated world that another one of the same
    data folder runs. One that is not `alone` decides nothing, and leaves to the process it belongs
    to what one of them has to do: announcing policies, linking the audit record. Raises
    SourceError for a policy or catalogue that is wrong, before anything is started.
    """
    policy, catalogue = load_files(settings)
    settings.fermata_data.mkdir(parents=True, exist_ok=True)
    sinks = Sinks(the_redactor(settings))
    async with contextlib.AsyncExitStack() as stack:
        url, where = await _database_url(settings, stack)
        database, standing = await _as_service(
            url, embedded=settings.database_url is None, clean=sinks.values
        )
        stack.push_async_callback(database.close)
        url = database.url
        books = Books.of(database)

        announce = _announcing(books) if alone else _told_by_another
        await announce(policy.rules(), str(settings.fermata_policy))
        if alone:
            await stack.enter_async_context(books.audit.linking())
        clock, toolbox = await stack.enter_async_context(
            open_backends(settings, catalogue, world, host=host)
        )
        redis = settings.redis_url.get_secret_value() if settings.redis_url else None
        hints = await Hints.open(redis or url)
        stack.push_async_callback(hints.close)
        saver = FencedSaver(database.pool, allowed=checkpointed_types())
        metrics = Metrics()
        toolbox = dataclasses.replace(
            toolbox,
            readers=sinks.read(toolbox.readers),
            writers=metrics.watched(sinks.written(toolbox.writers)),
        )
        pictures = PictureLinks(session_key(settings.fermata_data))

        async def hint(run_id: UUID) -> None:
            await hints.enqueue(run_id)

        await stack.enter_async_context(policy.watched(announce))
        nodes = _nodes(
            policy.rules,
            announce,
            catalogue,
            books,
            toolbox,
            clock,
            base_url,
            pictures,
            Constraints(),
            hint,
            sinks.redactor,
        )
        queue = Backend("queue", "real", "Redis" if redis else "the same PostgreSQL")
        yield House(
            settings=settings,
            base_url=base_url,
            clock=clock,
            books=books,
            toolbox=toolbox,
            policy=policy,
            catalogue=catalogue,
            graph=assemble(nodes, clock, saver),
            hints=hints,
            backends=(Backend("database", "real", where), queue, *toolbox.backends),
            metrics=metrics,
            sinks=sinks,
            standing=standing,
        )


def the_redactor(settings: Settings) -> Redactor:
    """Rules, key and known secrets of this installation. Raises SourceError for a bad rule file."""
    known = known_secrets(settings)
    return open_redactor(settings.fermata_redaction_rules, settings.fermata_data, known)


def load_files(settings: Settings) -> tuple[PolicyInForce, Catalogue]:
    """Policy and catalogue; SourceError names file, line and column of what is wrong."""
    path = settings.fermata_services

    def check(rules: Rules) -> None:
        Examiner.of(rules.manifests.texts)

    policy = PolicyInForce.open(settings.fermata_policy, check)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "set FERMATA_SERVICES to the file, or start in the folder that holds it"
        raise SourceError((SourceProblem(str(path), 1, 1, str(error), hint),)) from error
    return policy, load_catalogue(text, str(path))


@dataclasses.dataclass
class Constraints:
    """The constraints of the policy in force, compiled once for as long as they stay the same."""

    _now: Examiner | None = None

    def __call__(self, rules: ManifestRules) -> Examiner:
        """Raises SourceError."""
        if self._now is None or self._now.texts != rules.texts:
            # The process of the one before ends with it, when nobody asks it any more.
            self._now = Examiner.of(rules.texts)
        return self._now


async def _database_url(settings: Settings, stack: contextlib.AsyncExitStack) -> tuple[str, str]:
    """The given database, or an embedded one that is revived when it is killed."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value(), "DATABASE_URL"
    server = await asyncio.to_thread(embedded.start, settings.fermata_data)
    stack.callback(server.stop)
    watch = asyncio.create_task(server.watch(), name="embedded-postgres")
    stack.callback(watch.cancel)
    return server.url, f"embedded PostgreSQL in {settings.fermata_data}"


async def _as_service(
    url: str, *, embedded: bool, clean: Cleaner
) -> tuple[Database, roles.Standing]:
    """Migrate, then connect as the role that can change no audit row, where there is one."""
    owner = await Database.open(url, min_size=1, max_size=2)
    try:
        await migrate.apply(owner)
        url = await roles.service_url(owner, embedded=embedded)
    finally:
        await owner.close()
    database = await Database.open(url, clean=clean)
    standing = await roles.standing(database)
    if standing.guard != "sealed":
        log.warning("audit rows could be changed", detail=standing.detail)
    return database, standing


def _announcing(books: Books) -> Callable[[Rules, str], Awaitable[None]]:
    """Writes rules down in the audit record before the first decision under them."""
    told: set[str] = set()

    async def announce(rules: Rules, source: str) -> None:
        if rules.digest not in told:
            await books.audit.announce(rules.digest, source, rules.override_roles)
            told.add(rules.digest)

    return announce


async def _told_by_another(_rules: Rules, _source: str) -> None:
    """The process that decides announces what it decides by."""


def _nodes(
    the_rules: Callable[[], Rules],
    announce: Callable[[Rules, str], Awaitable[None]],
    catalogue: Catalogue,
    books: Books,
    toolbox: Toolbox,
    clock: Clock,
    base_url: str,
    pictures: PictureLinks,
    constraints: Callable[[ManifestRules], Examiner],
    hint: Callable[[UUID], Awaitable[None]],
    redactor: Redactor,
) -> Nodes:
    """Each node with exactly the ports it needs; only `execute` gets writers."""
    wording = Wording(base_url)
    readers = toolbox.readers

    def the_catalogue() -> Catalogue:
        return catalogue

    who = WhoMay(readers.forge, the_rules)
    answers = Answers(books.database, hint)
    writers = {**toolbox.writers, "lock_release": Unlocking(books.locks, books.signals)}
    return Nodes(
        conductor=Conductor(
            the_catalogue,
            the_rules,
            readers,
            books.runs,
            books.releases,
            wording,
            clock,
            books.locks,
            Answering(answers, books.queries, who, the_rules, wording),
            Leaks(readers.forge, redactor),
        ),
        release=Release(clock, books.releases),
        gate=Gate(
            the_rules,
            books.runs,
            books.decisions,
            books.locks,
            books.signals,
            Ballots(
                books.approvals,
                books.overrides,
                books.refusals,
                answers,
                who,
                Heads(readers.forge),
                clock,
                lambda: the_rules().override_seconds,
                lambda: the_rules().override_roles,
            ),
            Happenings(books.releases, books.effects, books.verdicts),
            Manifests(readers.renderer, constraints),
            Inquiry(the_catalogue, readers.forge, readers.metrics, clock, announce),
            clock,
        ),
        approve=Approve(),
        wait=Wait(),
        execute=Execute(writers, books.effects, books.leases, clock),
        observe=Observe(
            the_catalogue,
            readers,
            Watch(the_catalogue, readers.metrics, JudgeConfig()),
            Settling(
                readers.cluster,
                Share(the_catalogue, readers.metrics, JudgeConfig()),
                books.verdicts,
                clock,
            ),
            Burning(
                the_catalogue,
                the_rules,
                BurnRates(the_catalogue, readers.metrics),
                books.verdicts,
                books.releases,
                books.locks,
            ),
            books.verdicts,
            books.releases,
            clock,
        ),
        rollback=Rollback(books.releases, readers, clock),
        report=Report(
            the_catalogue,
            wording,
            books.verdicts,
            lambda run_id: f"{base_url}{pictures.path(run_id)}",
        ),
    )


async def serve(settings: Settings, host: str, port: int, workers: int, processes: int = 1) -> int:
    """Serve webhooks, API and pages, and advance runs, until SIGINT or SIGTERM.

    One process does it all; with more, that many serve, and this one does everything else.
    Raises `PortTaken`, `NoCrew`, and `Unsafe` on an address others can reach without
    FERMATA_TOKENS.
    """
    if settings.fermata_tokens is None and not is_loopback(host):
        raise Unsafe(
            f"{host} can be reached by others, and there are no tokens to tell them apart. Set "
            "FERMATA_TOKENS to a token file (docs/settings.md), or listen on 127.0.0.1."
        )
    set_up_logging(settings.fermata_log, the_redactor(settings), for_good=True)
    listening = Listening(host, port)
    stopping = asyncio.Event()
    on_stop(stopping.set)
    base_url = settings.fermata_url or listening.url
    async with contextlib.AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(settings, base_url=base_url))
        access = open_access(settings)
        if processes == 1:
            web = listening.serving(house.app(access))
        else:
            stack.callback(listening.close)
            web = Crew(serve_beside, (settings, base_url, listening), processes).serving()
        async with web, advancing(house, workers):
            print_banner(house, access)
            settle_memory()
            await stopping.wait()
            log.info("stopping: runs are put down at their next step")
    return 0


def serve_beside(settings: Settings, base_url: str, listening: Listening, berth: Berth) -> None:
    """A process that serves on a socket that others share, and does nothing else."""

    async def serving() -> None:
        stopping = asyncio.Event()
        stops_with_parent(stopping.set)
        set_up_logging(settings.fermata_log, the_redactor(settings), for_good=True)
        structlog.contextvars.bind_contextvars(process=berth.number)
        opened = open_house(settings, base_url=base_url, host=False, alone=False)
        async with opened as house:
            app = house.app(open_access(settings), berth.warnings)
            async with listening.serving(app):
                settle_memory()
                berth.is_serving()
                await stopping.wait()

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serving())


@contextlib.asynccontextmanager
async def advancing(house: House, workers: int) -> AsyncIterator[None]:
    """Advance runs for the length of the block; drain at its end. 0 workers: do nothing."""
    if workers <= 0:
        yield
        return
    worker = await house.worker(workers)
    task = asyncio.create_task(worker.run(), name="worker")
    lag = asyncio.create_task(house.metrics.watch_loop(), name="loop-lag")
    try:
        yield
    finally:
        lag.cancel()
        worker.stop()
        await task


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGINT or SIGTERM. A second one ends the process at once: it may be killed
    at any instant anyway."""
    asked = False

    def signalled() -> None:
        nonlocal asked
        if asked:
            os._exit(130)
        asked = True
        stop()

    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, signalled)


async def work(settings: Settings, workers: int) -> int:
    """Advance runs until SIGINT or SIGTERM; the exit code."""
    set_up_logging(settings.fermata_log, the_redactor(settings), for_good=True)
    base_url = settings.fermata_url or "http://127.0.0.1:8321"
    async with open_house(settings, base_url=base_url, host=False) as house:
        worker = await house.worker(workers)
        on_stop(worker.stop)
        settle_memory()
        log.info("worker is ready", backends={b.name: b.mode for b in house.backends})
        await worker.run()
    return 0


def settle_memory() -> None:
    """Take what start-up made out of the garbage collector's sight, and let it come less often.

    The imports leave some hundred thousand objects that live as long as the process. Looking at all
    of them again and again cost a quarter of the time per event, in pauses of tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


async def migrate_only(settings: Settings) -> list[str]:
    """Bring the database up to date; the names of the migrations that were applied."""
    async with contextlib.AsyncExitStack() as stack:
        url, _ = await _database_url(settings, stack)
        database = await Database.open(url)
        stack.push_async_callback(database.close)
        return await migrate.apply(database)


@contextlib.asynccontextmanager
async def open_record(settings: Settings) -> AsyncIterator[Database]:
    """The database alone, also beside a `serve`; nothing in it is migrated.

    Raises `NoRecord` where there is none, or none with an audit record yet.
    """
    if settings.database_url is None and not (settings.fermata_data / embedded.FOLDER).exists():
        raise NoRecord(
            f"there is no database in {settings.fermata_data}; set FERMATA_DATA or "
            "DATABASE_URL to the one that is meant, or name a dump to verify"
        )
    async with contextlib.AsyncExitStack() as stack:
        url, _ = await _database_url(settings, stack)
        database = await Database.open(url, min_size=1, max_size=2)
        stack.push_async_callback(database.close)
        if await database.value("SELECT to_regclass('audit_links')") is None:
            raise NoRecord("the database has no audit record yet; run `fermata db migrate`")
        yield database


def print_banner(house: House, access: Access) -> None:
    """Where it listens, how to come in, and which backends are real."""
    out = Console(stderr=True)
    out.print(f"[bold]Fermata[/bold] listens at {house.base_url}", highlight=False)
    if access.admin_token is not None:
        link = f"{house.base_url}/sign-in?token={access.admin_token}"
        out.print(f"sign in: {link}", highlight=False, soft_wrap=True)
    for backend in house.backends:
        colour = "green" if backend.mode == "real" else "yellow"
        mode = backend.mode.replace("_", " ")
        out.print(
            f"  {backend.name:<12} [{colour}]{mode:<9}[/{colour}] {backend.detail}",
            highlight=False,
        )
    if not house.settings.github_webhook_secret:
        out.print("  GitHub webhooks are refused until GITHUB_WEBHOOK_SECRET is set")
