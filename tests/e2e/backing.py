"""The real programs that a site leans on beside the cluster: Prometheus and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

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
    query = {"query": f"count({RECENT})"}
    http = await stack.enter_async_context(httpx.AsyncClient(timeout=5, trust_env=False))

    async def has_samples() -> bool:
        answer = await http.get(f"{url}/api/v1/query", params=query)
        return answer.status_code == 200 and bool(answer.json()["data"]["result"])

    command = (
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    )
    return await _running(stack, Backing(url, folder / "prometheus.log", command, has_samples))


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
        except (OSError, httpx.TransportError):
            pass
        assert loop.time() < deadline, f"waited {READY_SECONDS:g} s for {what}"
        await asyncio.sleep(0.1)
