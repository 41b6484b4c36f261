"""What a site leans on beside the cluster: Prometheus, Redis, stand-ins in their own processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.served import ROOT

READY_SECONDS = 60.0
RECENT = 'count_over_time(http_requests_total{code="200"}[2s]) > 1'
SCRAPED = """
global: {{scrape_interval: {every}, scrape_timeout: {every}}}
scrape_configs:
- job_name: gateway
  honor_labels: true
  static_configs: [{{targets: {targets}}}]
"""


@dataclass
class Backing:
    """One program under the test's command, and where it answers."""

    url: str
    log: Path
    command: Sequence[str]
    answers: Callable[[], Awaitable[bool]]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Run it, and wait until it answers."""
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *self.command, cwd=self.log.parent, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        await until(f"{self.command[0]} to answer", self.answers)

    async def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


async def prometheus(
    stack: contextlib.AsyncExitStack,
    folder: Path,
    binary: str,
    port: int,
    *targets: str,
    every: str = "500ms",
) -> Backing:
    """A Prometheus that scrapes the worlds at these URLs, twice a second; ready once it has.

    When it is started again it remembers what it saw, but takes some seconds until it looks anew.
    """
    config = folder / "prometheus.yml"
    hosts = [one.removeprefix("http://") for one in targets]
    config.write_text(SCRAPED.format(targets=str(hosts), every=every))
    url = f"http://127.0.0.1:{port}"

    async def has_samples() -> bool:
        return bool(await asked(url, f"count({RECENT})"))

    command = (
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    return await _running(stack, Backing(url, folder / "prometheus.log", command, has_samples))


async def asked(prometheus_url: str, query: str) -> list[dict[str, Any]]:
    """The series that Prometheus answers a query with. Raises `httpx.HTTPError` without one."""
    async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
        answer = await http.get(f"{prometheus_url}/api/v1/query", params={"query": query})
    return list(answer.raise_for_status().json()["data"]["result"])


async def companion(
    stack: contextlib.AsyncExitStack, folder: Path, name: str, module: str, spec: Mapping[str, Any]
) -> str:
    """Run `python -m MODULE SPEC` beside the test until the stack is left; the first line that it
    says, which is where it listens."""
    told = folder / f"{name}.json"
    told.write_text(json.dumps(spec))
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, str(told)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=out,
        )

    async def end() -> None:
        if process.returncode is None:
            process.kill()
        await process.wait()

    stack.push_async_callback(end)
    assert process.stdout is not None
    said = await asyncio.wait_for(process.stdout.readline(), READY_SECONDS)
    assert said, f"{name} did not start:\n{log.read_text()}"
    return said.decode().strip()


async def redis(stack: contextlib.AsyncExitStack, folder: Path, binary: str, port: int) -> Backing:
    """A Redis that keeps nothing."""
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")

    async def answers() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PING\r\n")
        told = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return told == b"+PONG\r\n"

    url = f"redis://127.0.0.1:{port}/0"
    return await _running(stack, Backing(url, folder / "redis.log", (binary, *options), answers))


async def _running(stack: contextlib.AsyncExitStack, backing: Backing) -> Backing:
    await backing.start()
    stack.push_async_callback(backing.kill)
    return backing


async def until(what: str, check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that a program in the making refuses at first; fails after a minute."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + READY_SECONDS
    while True:
        try:
            if await check():
                return
        except (OSError, httpx.HTTPError):
            pass
        assert loop.time() < deadline, f"waited {READY_SECONDS:g} s for {what}"
        await asyncio.sleep(0.1)
