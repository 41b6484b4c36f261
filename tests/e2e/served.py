"""Fermata's own processes, started as a person would start them, each with settings of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.api import Api

ROOT = Path(__file__).resolve().parents[2]
SECRET = "an-end-to-end-secret"
START_SECONDS = 90.0
"""Generous: it takes six seconds on an idle machine, most of it the first start of PostgreSQL."""
STOP_SECONDS = 40.0
LISTENS = re.compile(r"listens at (http://\S+)")
INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")


@dataclass
class Program:
    """One process of `fermata`, and the file that its output goes to."""

    process: asyncio.subprocess.Process
    log: Path

    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    async def until_said(self, wanted: re.Pattern[str], seconds: float = START_SECONDS) -> str:
        """The first group of the first match in its output. Fails when it ends before."""
        deadline = time.monotonic() + seconds
        while True:
            found = wanted.search(self.said())
            if found:
                return found[1] if found.groups() else found[0]
            gone = self.process.returncode is not None
            assert not gone, f"it ended with {self.process.returncode}:\n{self.said()[-3000:]}"
            assert time.monotonic() < deadline, f"no {wanted.pattern!r}:\n{self.said()[-3000:]}"
            await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """End it as a crash would."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Ask it to end, and wait until it has; its exit code. Killed when it takes too long."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            await self.kill()
            raise AssertionError(f"it did not end on SIGTERM:\n{self.said()[-3000:]}") from None


async def start(log: Path, *arguments: str, **settings: str) -> Program:
    """Run `fermata ARGUMENTS` with these settings and no others."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "cli",
            *arguments,
            cwd=ROOT,
            env=environment | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"} | settings,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    return Program(process, log)


@dataclass
class Served:
    """A `fermata serve`, its data folder, and how to call it."""

    program: Program
    data: Path
    api: Api
    """With the token of the administrator that the first start makes."""


@contextlib.asynccontextmanager
async def serving(
    data: Path, *options: str, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Served]:
    """`fermata serve` on a free port for the length of the block, stopped with SIGTERM."""
    told = {"GITHUB_WEBHOOK_SECRET": SECRET, "FERMATA_DATA": str(data), **(settings or {})}
    program = await start(data / "serve.log", "serve", "--port", "0", *options, **told)
    try:
        url = await program.until_said(LISTENS)
        token = (data / "admin-token").read_text().strip()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            yield Served(program, data, Api(url, SECRET, http, token))
        assert await program.stop() == 0
    finally:
        await program.kill()
