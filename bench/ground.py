"""The ground a benchmark stands on: a temporary folder, its own PostgreSQL, its own processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil  # type: ignore[import-untyped]
import psycopg
from psycopg import sql

from evals.simulated import SimulatedWorld
from evals.world.clock import WorldClock
from server import House, load_files, open_house
from settings import Settings
from store import embedded

ROOT = Path(__file__).resolve().parents[1]
WEDNESDAY = datetime(2026, 3, 25, 12, tzinfo=UTC)
"""When it is in the simulated world: inside the change windows of the policy that ships."""
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")
START_SECONDS = 60.0
STOP_SECONDS = 30.0
LISTENS = re.compile(r"listens at (http://\S+)")
READY = re.compile(r"worker is ready")


class BenchError(RuntimeError):
    """A benchmark could not be carried out; the message says why."""


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Seconds of CPU that these have used; what has ended is left out."""
    used = 0.0
    for one in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            used += times.user + times.system
    return used


@dataclass
class Program:
    """A process that this benchmark started, and the file that its output goes to."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def until_said(self, wanted: re.Pattern[str]) -> str:
        """The last group of the first match in its output. Raises `BenchError` without one."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            said = self.log.read_text(errors="replace")
            if found := wanted.search(said):
                return found[found.lastindex or 0]
            if self.process.returncode is not None or time.monotonic() > deadline:
                raise BenchError(
                    f"{self.log.stem} did not come up; its output ends:\n{said[-2000:]}"
                )
            await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """SIGKILL, as a crash would end it."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        if self.process.returncode is None:
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            await self.kill()


@dataclass
class Ground:
    """Folder and database server of one benchmark; everything on it goes when it is left."""

    folder: Path
    postgres: embedded.EmbeddedPostgres
    _stack: contextlib.AsyncExitStack
    _programs: list[Program] = field(default_factory=list)

    async def database(self, name: str) -> str:
        """A new, empty database; its URL."""
        conn = await psycopg.AsyncConnection.connect(self.postgres.url, autocommit=True)
        async with conn:
            await conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        parts = urlsplit(self.postgres.url)
        # The host is a folder, given in the query.
        return urlunsplit(parts._replace(path=f"/{name}"))

    def data(self, name: str) -> Path:
        """A data folder."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    async def program(
        self,
        name: str,
        *command: str,
        settings: Mapping[str, str] | None = None,
        talk: bool = False,
    ) -> Program:
        """Start `python -m …` with these settings and no others.

        With `talk` its stdin and stdout are pipes; otherwise all it says goes to its log.
        """
        environment = {one: os.environ[one] for one in INHERITED if one in os.environ}
        log = self.folder / f"{name}.log"
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *command,
                cwd=self.folder,
                env=environment
                | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
                | {
                    "FERMATA_POLICY": str(ROOT / "policy.yaml"),
                    "FERMATA_SERVICES": str(ROOT / "services.yaml"),
                    "FERMATA_LOG": "warning",
                }
                | dict(settings or {}),
                stdin=asyncio.subprocess.PIPE if talk else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if talk else out,
                stderr=out,
            )
        program = Program(process, log)
        self._stack.push_async_callback(program.stop)
        return program

    def settings(self, url: str, data: Path) -> Settings:
        """Settings of a house in this process; nothing is taken from the environment."""
        return Settings(
            _env_file=None,
            database_url=url,
            redis_url=None,
            kubeconfig=None,
            kubernetes_service_host=None,
            prometheus_url=None,
            github_token=None,
            github_app_id=None,
            slack_webhook_url=None,
            notify_webhook_url=None,
            fermata_tokens=None,
            fermata_policy=ROOT / "policy.yaml",
            fermata_services=ROOT / "services.yaml",
            fermata_data=data,
            fermata_url="http://127.0.0.1:8321",
        )

    @contextlib.asynccontextmanager
    async def house(self, url: str, data: Path) -> AsyncIterator[House]:
        """A house in this process, with a simulated world in which it is Wednesday noon."""
        settings = self.settings(url, data)
        _, catalogue = load_files(settings)
        world = SimulatedWorld(catalogue, data, clock=WorldClock(WEDNESDAY), persist=False)
        base_url = settings.fermata_url or ""
        async with open_house(settings, base_url=base_url, world=world) as house:
            yield house


@contextlib.asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """A fresh ground: PostgreSQL of its own, which flushes every commit to disk."""
    folder = Path(tempfile.mkdtemp(prefix="fermata-bench-"))
    try:
        postgres = await asyncio.to_thread(embedded.start, folder)
        try:
            async with contextlib.AsyncExitStack() as stack:
                yield Ground(folder, postgres, stack)
        finally:
            await asyncio.to_thread(postgres.stop)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
