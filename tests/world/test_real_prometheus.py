"""The query API against Prometheus itself, which has scraped the same world."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from evals.world.clock import WorldClock
from evals.world.scenario import Scenario
from evals.world.seed import ServiceSpec
from evals.world.world import World

BINARY = shutil.which("prometheus")
CONFIG = """
global:
  scrape_interval: 100ms
  scrape_timeout: 100ms
scrape_configs:
  - job_name: world
    params: {{timestamps: ["1"]}}
    static_configs: [{{targets: ["{target}"]}}]
"""
EXPRESSIONS = [
    "sum by (version, code) (http_requests_total)",
    "sum by (version) (increase(http_requests_total[2s]))",
    "sum by (version) (rate(http_requests_total[1750ms]))",
    'sum(rate(http_requests_total{code=~"5.."}[2s])) / sum(rate(http_requests_total[2s]))',
    "histogram_quantile(0.9, sum by (le) (rate(http_request_duration_seconds_bucket[2s])))",
    'sum without (instance, job, code) (http_requests_total{code!="503"} offset 500ms)',
    "count(http_requests_total) - 1 > bool 0",
    "sum(nothing) or vector(0)",
    "clamp_min(sum(delta(http_request_duration_seconds_sum[2s])), 1)",
    "max by (code) (http_requests_total) / ignoring (code) group_left sum(http_requests_total)",
    'max_over_time(http_requests_total{code="200"}[1500ms]) > 10',
    'label_replace(sum(http_requests_total), "ask", "0", "", "")'
    ' or label_replace(sum by (code) (http_requests_total), "ask", "1", "", "")',
    'label_replace(http_requests_total, "class", "${1}xx-$2", "code", "(.)0(.)")',
    'label_replace(http_requests_total, "code", "", "code", "5..")',
]


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    clock = WorldClock(datetime.now(UTC))
    spec = ServiceSpec("web", "registry.example/web:1.0.0", default_rate=50)
    made = World(11, clock, [spec], scenario=Scenario(error_rate=0.1), tick=0.5, warm=0)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture(scope="module")
async def prometheus(world: World, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    if BINARY is None:
        pytest.skip("prometheus is missing: apt-get install prometheus")
    folder: Path = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(target=world.url.removeprefix("http://")))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        BINARY, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
    )  # fmt: skip
    yield f"http://127.0.0.1:{port}"
    process.kill()
    await process.wait()


async def ask(http: httpx.AsyncClient, url: str, query: str, at: float | None = None) -> Any:
    params = {"query": query} | ({"time": str(at)} if at is not None else {})
    answer = await http.get(f"{url}/api/v1/query", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def comparable(data: Any) -> dict[str, float]:
    if data["resultType"] == "scalar":
        return {"": float(data["result"][1])}
    rows = {}
    for row in data["result"]:
        labels = {k: v for k, v in row["metric"].items() if k not in ("instance", "job")}
        rows[str(sorted(labels.items()))] = float(row["value"][1])
    return rows


@pytest.fixture(scope="module")
async def moment(world: World, prometheus: str) -> float:
    """An instant from which both have every tick of the last three seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + 30
    count = 'count_over_time(http_requests_total{code="200"}[3s])'
    async with httpx.AsyncClient(timeout=5, verify=False) as http:
        while True:
            now = float(int(world.clock.now().timestamp())) - 0.25
            try:
                seen = comparable(await ask(http, prometheus, count, now))
            except (httpx.TransportError, AssertionError):
                seen = {}
            if list(seen.values()) == [6.0]:
                return now
            assert loop.time() < end, f"prometheus has not scraped enough: {seen}"
            await asyncio.sleep(0.2)


@pytest.mark.parametrize("query", EXPRESSIONS)
async def test_same_answer_as_prometheus(
    world: World, prometheus: str, moment: float, http: httpx.AsyncClient, query: str
) -> None:
    ours = comparable(await ask(http, world.prometheus_url, query, moment))
    theirs = comparable(await ask(http, prometheus, query, moment))
    assert ours == pytest.approx(theirs, rel=1e-9)
    assert ours or "> 10" in query


@pytest.mark.parametrize(
    "query",
    ["sum(", "nope(up)", "rate(up)", "up{", "1 > 2", "up or 1", "{}", "sum(up[5m])"],
)
async def test_same_refusal_as_prometheus(
    world: World, prometheus: str, moment: float, http: httpx.AsyncClient, query: str
) -> None:
    answers = [
        await http.get(f"{url}/api/v1/query", params={"query": query})
        for url in (world.prometheus_url, prometheus)
    ]
    assert [a.status_code for a in answers] == [400, 400]
    assert [a.json()["errorType"] for a in answers] == ["bad_data", "bad_data"]


async def test_same_range_as_prometheus(
    world: World, prometheus: str, moment: float, http: httpx.AsyncClient
) -> None:
    params = {
        "query": "sum by (code) (increase(http_requests_total[1500ms]))",
        "start": str(moment - 1), "end": str(moment), "step": "250ms",
    }  # fmt: skip
    found = []
    for url in (world.prometheus_url, prometheus):
        data = (await http.get(f"{url}/api/v1/query_range", params=params)).json()["data"]
        assert data["resultType"] == "matrix"
        found.append(
            {
                row["metric"]["code"]: [(t, round(float(v), 9)) for t, v in row["values"]]
                for row in data["result"]
            }
        )
    assert found[0] == found[1]
    assert found[0]
