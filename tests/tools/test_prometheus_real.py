"""Counts from a real Prometheus that scrapes a little exporter."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from domain.service import SLI, Target, Workload
from domain.verdict import Counts, Gap, VerdictKind
from tools.prometheus import PrometheusMetrics

DEADLINE_SECONDS = 30.0
CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: web
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
SELECTOR = 'namespace="$namespace",service="$service",version="$version"'
REQUESTS = f"http_requests_total{{{SELECTOR}}}"
ERRORS = f'http_requests_total{{{SELECTOR},code=~"5.."}}'
TARGET = Target(
    service="web",
    environment="test",
    namespace="shop",
    workload=Workload(deployment="web", container="app"),
    replicas=2,
)


def sli(bad: str = ERRORS, total: str = REQUESTS) -> SLI:
    """Counts as increases over the window, summed."""
    return SLI(
        name="errors",
        kind="errors",
        bad=f"sum(increase({bad}[$window]))",
        total=f"sum(increase({total}[$window]))",
        objective=0.99,
    )


def raw(total: str, bad: str = "vector(0)") -> SLI:
    return SLI(name="raw", kind="errors", bad=bad, total=total, objective=0.99)


@dataclass
class Running:
    """A Prometheus at `url`, and the counter that it scrapes."""

    url: str
    requests: Counter

    def serve(self, version: str, code: str, count: int) -> None:
        self.requests.labels("shop", "web", version, code).inc(count)


@pytest.fixture(scope="module")
async def running(
    program: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    unused_tcp_port_factory: Callable[[], int],
) -> AsyncIterator[Running]:
    folder: Path = tmp_path_factory.mktemp("prometheus")
    registry = CollectorRegistry()
    names = ["namespace", "service", "version", "code"]
    counter = Counter("http_requests", "Requests.", names, registry=registry)
    server, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
    (folder / "prometheus.yml").write_text(CONFIG.format(port=server.server_port))
    port = unused_tcp_port_factory()
    process = subprocess.Popen(  # noqa: ASYNC220  # nothing else runs yet
        [
            program("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _until_ready(url)
        yield Running(url, counter)
    finally:
        process.kill()
        process.wait()
        server.shutdown()
        server.server_close()


async def _until_ready(url: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS), httpx.AsyncClient(base_url=url) as http:
        while True:
            try:
                if (await http.get("/-/ready")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


@pytest.fixture
async def metrics(running: Running) -> AsyncIterator[PrometheusMetrics]:
    made = PrometheusMetrics(running.url)
    yield made
    await made.close()


async def grown(running: Running, version: str, codes: dict[str, int]) -> datetime:
    """Let counters start, then grow by so much; returns when Prometheus has seen both."""
    started = datetime.now(UTC)
    for code in codes:
        running.serve(version, code, 0)
    async with httpx.AsyncClient(base_url=running.url) as http:
        for growth in (0, 1):
            wanted = 0
            for code, count in codes.items():
                running.serve(version, code, growth * count)
                wanted += growth * count
            series = f'http_requests_total{{version="{version}"}}'
            # An increase needs two samples, whatever their values.
            query = f"sum({series}) and on() min(count_over_time({series}[1m])) >= 2"
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    answer = await http.get("/api/v1/query", params={"query": query})
                    found = answer.json()["data"]["result"]
                    if found and float(found[0]["value"][1]) == wanted:
                        break
                    await asyncio.sleep(0.05)
    return started


async def test_good_and_bad_requests_are_counted_by_version(
    running: Running, metrics: PrometheusMetrics
) -> None:
    await grown(running, "1.0.0", {"200": 90, "500": 10})
    found = await metrics.counts(sli(), TARGET, "1.0.0", datetime.now(UTC), 60)
    assert isinstance(found, Counts)
    # increase() extrapolates to the window's edges, but both series alike.
    assert found.total >= 99
    assert found.bad / found.total == pytest.approx(0.1, rel=1e-6)


async def test_a_version_that_never_failed_has_no_bad_requests(
    running: Running, metrics: PrometheusMetrics
) -> None:
    await grown(running, "2.0.0", {"200": 50})
    found = await metrics.counts(sli(), TARGET, "2.0.0", datetime.now(UTC), 60)
    assert isinstance(found, Counts)
    assert found.bad == 0


async def test_the_past_is_asked_for_as_the_past(
    running: Running, metrics: PrometheusMetrics
) -> None:
    started = await grown(running, "3.0.0", {"200": 50})
    gap = await metrics.counts(sli(), TARGET, "3.0.0", started - timedelta(seconds=60), 30)
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.NODATA


async def test_a_version_without_traffic_is_no_data(
    running: Running, metrics: PrometheusMetrics
) -> None:
    await grown(running, "4.0.0", {"200": 0})
    for version, words in (("4.0.0", "no events"), ("never-was", "no series")):
        gap = await metrics.counts(sli(), TARGET, version, datetime.now(UTC), 60)
        assert isinstance(gap, Gap)
        assert gap.kind is VerdictKind.NODATA
        assert words in gap.reason


async def test_a_window_of_a_fraction_of_a_second_is_understood(
    running: Running, metrics: PrometheusMetrics
) -> None:
    found = await metrics.counts(raw("vector(1)"), TARGET, "1", datetime.now(UTC), 0.5)
    assert found == Counts(bad=0, total=1)
    gap = await metrics.counts(sli(), TARGET, "never-was", datetime.now(UTC), 1.5)
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.NODATA


@pytest.mark.parametrize(
    "version",
    ['1"} or vector(1) or x{a="', "1\\", "1\n2", "1'2`3", '"})) #', "ünïcode"],
)
async def test_no_version_can_break_out_of_the_query(
    metrics: PrometheusMetrics, running: Running, version: str
) -> None:
    for quote in "\"'`":
        total = REQUESTS.replace('"', quote)
        gap = await metrics.counts(sli(total=total), TARGET, version, datetime.now(UTC), 60)
        assert isinstance(gap, Gap)
        assert gap.kind is VerdictKind.NODATA, gap.reason


@pytest.mark.parametrize(
    ("total", "words"),
    [
        ('http_requests_total{version="5.0.0"}', '{code="200"}; {code="500"}'),
        ("vector(0) / vector(0)", "NaN"),
        ("vector(1) / vector(0)", "+Inf"),
        ("sum(increase(http_requests_total", "parse error"),
        ('http_requests_total{version="5.0.0",code="200"}[1m]', "range"),
    ],
)
async def test_a_query_that_is_no_count_is_an_error(
    running: Running, metrics: PrometheusMetrics, total: str, words: str
) -> None:
    await grown(running, "5.0.0", {"200": 0, "500": 0})
    gap = await metrics.counts(raw(total), TARGET, "5.0.0", datetime.now(UTC), 60)
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.ERROR
    assert words in gap.reason


async def test_a_scalar_is_a_count(running: Running, metrics: PrometheusMetrics) -> None:
    found = await metrics.counts(raw("scalar(vector(7))"), TARGET, "1", datetime.now(UTC), 60)
    assert found == Counts(bad=0, total=7)
