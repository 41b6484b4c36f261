"""A past release, judged from a real Prometheus that scraped a little exporter."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server
from typer.testing import CliRunner

from cli import app

RUNNER = CliRunner()
DEADLINE_SECONDS = 60.0
SECONDS = 12
CONFIG = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}
scrape_configs:
- job_name: web
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""
SERVICES = """
version: 1
services:
  - name: web
    repo: acme/web
    image: web:{sha}
    owners: [team]
    slis:
      - name: errors
        kind: errors
        objective: 0.99
        bad: >-
          sum(increase(http_requests_total{namespace="$namespace",service="$service",version="$version",code="500"}[$window]))
        total: >-
          sum(increase(http_requests_total{namespace="$namespace",service="$service",version="$version"}[$window]))
    environments:
      - {name: prod, namespace: shop, bake: 20s, interval: 2s}
"""
OWN = """
    metrics:
      - name: pace
        query: sum(rate(http_requests_total{version="$version"}[$window]))
        direction: lower
        limit: 500
        fail_when: {breaches: 2, of: 3}
    environments:
"""


@dataclass
class Past:
    """A Prometheus that has seen two versions serve, and when."""

    url: str
    since: datetime
    until: datetime
    services: Path


@pytest.fixture(scope="module")
def past(
    program: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
    unused_tcp_port_factory: Callable[[], int],
) -> Iterator[Past]:
    folder = tmp_path_factory.mktemp("past")
    registry = CollectorRegistry()
    names = ["namespace", "service", "version", "code"]
    counter = Counter("http_requests", "Requests.", names, registry=registry)
    exporter, _ = start_http_server(0, addr="127.0.0.1", registry=registry)
    (folder / "prometheus.yml").write_text(CONFIG.format(port=exporter.server_port))
    services = folder / "services.yaml"
    services.write_text(SERVICES)
    port = unused_tcp_port_factory()
    process = subprocess.Popen(
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
        since, until = asyncio.run(_serve(url, counter))
        yield Past(url, since, until, services)
    finally:
        process.kill()
        process.wait()
        exporter.shutdown()
        exporter.server_close()


async def _serve(url: str, counter: Counter) -> tuple[datetime, datetime]:
    """Two versions serve for some seconds, one of them badly; Prometheus watches."""

    def count(version: str, good: int, bad: int) -> None:
        counter.labels("shop", "web", version, "200").inc(good)
        counter.labels("shop", "web", version, "500").inc(bad)

    async with asyncio.timeout(DEADLINE_SECONDS), httpx.AsyncClient(base_url=url) as http:
        for version in ("1.0.0", "1.1.0", "1.2.0"):
            count(version, 0, 0)
        while True:
            try:
                answer = await http.get("/api/v1/query", params={"query": "http_requests_total"})
                # It listens before it has opened its database, and says 503 until then.
                if len(answer.raise_for_status().json()["data"]["result"]) == 6:
                    break
            except (httpx.TransportError, httpx.HTTPStatusError):
                pass
            await asyncio.sleep(0.05)
        since = datetime.now(UTC)
        # The pace of the made-up traffic is the thing measured here, so this does sleep.
        for _ in range(SECONDS * 10):
            count("1.0.0", 900, 2)
            count("1.1.0", 100, 20)
            count("1.2.0", 100, 0)
            await asyncio.sleep(0.1)
        return since, datetime.now(UTC)


def test_a_services_own_numbers_are_judged_as_they_would_have_been_live(
    past: Past, tmp_path: Path
) -> None:
    services = tmp_path / "services.yaml"
    services.write_text(OWN.join(SERVICES.split("\n    environments:\n")))
    own = Past(past.url, past.since, past.until, services)
    code, said = judged(own, "1.2.0", "--json")
    assert code == 0, said
    found = json.loads(said)
    assert found["verdict"] == "fail", found["reason"]
    metric = next(one for one in found["metrics"] if one["metric"] == "pace")
    assert metric["value"] > metric["limit_value"] == 500
    code, said = judged(own, "1.2.0")
    assert code == 1, said
    assert "pace" in said


def judged(past: Past, version: str, *more: str) -> tuple[int, str]:
    arguments = [
        "judge", "--prometheus", past.url, "--service", "web", "--version", version,
        "--baseline", "1.0.0", "--from", past.since.isoformat(), "--to", past.until.isoformat(),
    ]  # fmt: skip
    found = RUNNER.invoke(
        app, [*arguments, *more], env={"FERMATA_SERVICES": str(past.services), "COLUMNS": "120"}
    )
    return found.exit_code, found.output


def test_a_bad_release_of_the_past_fails_and_says_why(past: Past) -> None:
    code, said = judged(past, "1.1.0")
    assert code == 1, said
    assert "web 1.1.0 in prod: fail at window" in said
    assert "allowed 1.0%" in " ".join(said.split())


def test_a_good_release_of_the_past_passes(past: Past) -> None:
    code, said = judged(past, "1.2.0", "--json")
    assert code == 0, said
    found = json.loads(said)
    assert found["verdict"] == "pass", found["reason"]
    assert found["metrics"][0]["canary_total"] > 5000


def test_a_version_that_never_ran_has_no_data(past: Past) -> None:
    code, said = judged(past, "9.9.9", "--json")
    assert code == 0
    assert json.loads(said)["verdict"] == "nodata"


def test_a_prometheus_that_is_not_there_is_an_error_and_not_a_verdict_on_the_release(
    past: Past, unused_tcp_port: int
) -> None:
    gone = Past(f"http://127.0.0.1:{unused_tcp_port}", past.since, past.until, past.services)
    code, said = judged(gone, "1.1.0", "--json", "--interval", "4")
    assert code == 0
    found = json.loads(said)
    assert found["verdict"] == "error"
    assert "cannot be reached" in found["reason"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--service", "shop"), "there is no service shop"),
        (("--environment", "moon"), "no environment moon"),
        (("--from", "noon"), "is no time"),
        (("--interval", "3600"), "not even one window"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_hint(
    past: Past, more: tuple[str, ...], words: str
) -> None:
    code, said = judged(past, "1.1.0", *more)
    assert code == 2
    assert words in " ".join(said.split())
    assert "hint:" in said


def test_what_is_lacking_is_named() -> None:
    found = RUNNER.invoke(app, ["judge", "--prometheus", "http://127.0.0.1:9"])
    assert found.exit_code == 2
    assert "--service, --version, --from, --to" in " ".join(found.output.split())
