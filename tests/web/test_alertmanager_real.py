"""A real Alertmanager sends its own notifications to a real server."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from domain.clock import SystemClock
from domain.event import AlertGroup, Event
from domain.intake import Intake, StartRun
from store.records import Receipt
from tests.web.twin import BOOK, CATALOGUE, TOKEN, MemoryLog
from web.alertmanager import router_alertmanager
from web.receive import Edge

CONFIG = """\
route: {{receiver: fermata, group_by: [alertname], group_wait: 0s, group_interval: 1s}}
receivers:
- name: fermata
  webhook_configs:
  - url: http://127.0.0.1:{port}/webhooks/alertmanager
    http_config: {{{auth}}}
"""
BEARER = f"authorization: {{credentials: {TOKEN}}}"
BASIC = f"basic_auth: {{username: fermata, password: {TOKEN}}}"


class TellingLog(MemoryLog):
    """Tells when an event has come in."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: asyncio.Queue[Event] = asyncio.Queue()

    async def accept(self, event: Event, intakes: Sequence[Intake], payload: bytes) -> Receipt:
        receipt = await super().accept(event, intakes, payload)
        if receipt.status != "duplicate":
            self.arrived.put_nowait(event)
        return receipt


@asynccontextmanager
async def served(log: TellingLog) -> AsyncIterator[int]:
    """The webhook on a port of its own."""

    edge = Edge(log, lambda _: None, lambda: CATALOGUE, (), BOOK, SystemClock())
    app = FastAPI()
    app.include_router(router_alertmanager(edge))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def alertmanager(binary: str, config: str, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A running Alertmanager, ready to be told of alerts."""
    (folder / "alertmanager.yml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            binary,
            f"--config.file={folder / 'alertmanager.yml'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            stdout=log,
            stderr=log,
        )
    try:
        transport = httpx.AsyncHTTPTransport(retries=20)
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(transport=transport, base_url=url) as client:
            # retries of the connection back off by themselves until it listens
            (await client.get("/-/ready", timeout=30)).raise_for_status()
            yield client
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("auth", [BEARER, BASIC], ids=["bearer", "basic"])
async def test_a_firing_and_a_resolved_notification_are_understood(
    auth: str, tmp_path: Path, program: Callable[[str], str]
) -> None:
    binary = shutil.which("prometheus-alertmanager") or program("alertmanager")
    log = TellingLog()
    began = datetime.now(UTC) - timedelta(hours=1)
    alert = {
        "labels": {"alertname": "Slow", "service": "checkout"},
        "annotations": {"summary": "s"},
        "startsAt": began.isoformat(),
    }
    async with (
        served(log) as port,
        alertmanager(binary, CONFIG.format(port=port, auth=auth), tmp_path) as client,
    ):
        (await client.post("/api/v2/alerts", json=[alert])).raise_for_status()
        firing = (await asyncio.wait_for(log.arrived.get(), 30)).body
        assert isinstance(firing, AlertGroup)
        assert firing.status == "firing"
        assert firing.alerts[0].labels == alert["labels"]
        assert firing.alerts[0].fingerprint
        assert abs(firing.alerts[0].starts_at - began) < timedelta(seconds=1)
        assert any(isinstance(one, StartRun) for one in log.intakes[0])
        ended = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        gone = {**alert, "endsAt": ended}
        (await client.post("/api/v2/alerts", json=[gone])).raise_for_status()
        resolved = (await asyncio.wait_for(log.arrived.get(), 30)).body
        assert isinstance(resolved, AlertGroup)
        assert resolved.status == "resolved"
        assert resolved.group_key == firing.group_key
        assert not any(isinstance(one, StartRun) for one in log.intakes[1])
