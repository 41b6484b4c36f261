"""Health, readiness, metrics."""

from __future__ import annotations

from uuid import uuid4

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from domain.action import Notify
from domain.effect import Applied, Stamp
from domain.errors import OutcomeUnknown, Permanent, Temporary
from domain.run import RunState
from tests.web.desk_twin import DEVELOPER, house
from tests.web.scene import deliver_event, run_id
from web.metrics import Metrics


async def test_health_asks_for_nothing() -> None:
    async with house() as h:
        h.up["database"] = False
        answer = await h.get("/healthz", token=None)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_says_what_is_real() -> None:
    async with house() as h:
        answer = await h.get("/readyz", token=None)
        assert answer.status_code == 200
        told = answer.json()
        assert told["status"] == "ready"
        modes = {one["name"]: one["mode"] for one in told["backends"]}
        assert modes == {
            "kubernetes": "simulated",
            "metrics": "simulated",
            "github": "dry_run",
            "notify": "real",
        }


async def test_without_the_database_it_is_not_ready() -> None:
    async with house() as h:
        h.up["database"] = False
        answer = await h.get("/readyz", token=None)
        assert answer.status_code == 503
        assert answer.json()["database"]["status"] == "down"


async def test_without_the_queue_it_is_degraded_and_takes_events() -> None:
    async with house() as h:
        h.up["queue"] = False
        answer = await h.get("/readyz", token=None)
        assert answer.status_code == 200
        assert answer.json()["status"] == "degraded"


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


async def test_metrics_count_runs_by_state_and_open_questions() -> None:
    async with house() as h:
        seen = samples((await h.get("/metrics", token=None)).text)
        assert seen["fermata_runs", (("state", "waiting"),)] == 1
        assert seen["fermata_runs", (("state", "cancelled"),)] == 0
        assert seen["fermata_approvals_pending", ()] == 1
        assert seen["fermata_database_up", ()] == 1


async def test_metrics_without_the_database_say_so_and_claim_nothing() -> None:
    async with house() as h:
        await h.get("/metrics", token=None)
        h.store.failure = psycopg.OperationalError("gone")
        answer = await h.get("/metrics", token=None)
        assert answer.status_code == 200
        seen = samples(answer.text)
        assert seen["fermata_database_up", ()] == 0
        assert not any(name == "fermata_runs" for name, _ in seen)


@pytest.mark.parametrize("headers", [{"x-forwarded-for": "127.0.0.1"}, {"forwarded": "for=x"}])
async def test_a_forwarded_scrape_needs_a_token(headers: dict[str, str]) -> None:
    async with house() as h:
        assert (await h.get("/metrics", None, **headers)).status_code == 401
        assert (await h.get("/metrics", DEVELOPER, **headers)).status_code == 200


async def test_a_scrape_from_elsewhere_needs_a_token() -> None:
    async with house() as h:
        transport = httpx.ASGITransport(app=h.app, client=("192.0.2.7", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as far:
            assert (await far.get("/metrics")).status_code == 401
            token = {"x-api-key": DEVELOPER}
            assert (await far.get("/metrics", headers=token)).status_code == 200


async def test_requests_are_timed_by_route_and_not_by_id() -> None:
    async with house() as h:
        for scene in ("asking", "baking"):
            await h.get(f"/api/runs/{run_id(scene)}")
        await h.get("/some/where/else")
        text = h.metrics.text().decode()
        seen = samples(text)
        labels = (("method", "GET"), ("route", "/api/runs/{run}"), ("status", "200"))
        assert seen["fermata_http_request_seconds_count", labels] == 2
        assert str(run_id("asking")) not in text
        assert "/some/where" not in text


async def test_deliveries_are_counted_by_what_became_of_them() -> None:
    async with house() as h:
        events = h.metrics.counted(h.log)
        await events.accept(deliver_event(), (), b"{}")
        seen = samples(h.metrics.text().decode())
        labels = (("source", "github"), ("status", "accepted"))
        assert seen["fermata_events_total", labels] == 1
        assert seen["fermata_event_accept_seconds_count", ()] == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "simulated"),
        (Temporary("busy"), "temporary"),
        (Permanent("no"), "permanent"),
        (OutcomeUnknown("cut"), "unknown"),
    ],
)
async def test_tries_at_effects_are_counted_by_outcome(
    error: Exception | None, outcome: str
) -> None:
    class Writer:
        async def apply(self, *_: object) -> Applied:
            if error is not None:
                raise error
            return Applied(summary="said", simulated=True)

        async def read_back(self, *_: object) -> None:
            return None

    metrics = Metrics()
    writer = metrics.watched({"notify": Writer()})["notify"]
    action = Notify(channel="c", severity="info", title="t", text="x")
    stamp = Stamp(run_id=uuid4(), step_id="s", digest="d", decision_id=uuid4())

    async def guard() -> None:
        return None

    if error is None:
        assert (await writer.apply(action, stamp, guard)).summary == "said"
    else:
        with pytest.raises(type(error)):
            await writer.apply(action, stamp, guard)
    seen = samples(metrics.text().decode())
    assert seen["fermata_effects_total", (("action", "notify"), ("outcome", outcome))] == 1


async def test_passages_are_timed_by_the_state_they_leave() -> None:
    class Passed:
        state = RunState.WAITING

    async def advance(_: object) -> Passed | None:
        return Passed()

    async def nothing(_: object) -> Passed | None:
        return None

    metrics = Metrics()
    await metrics.timed(advance)(uuid4())
    await metrics.timed(nothing)(uuid4())
    seen = samples(metrics.text().decode())
    assert seen["fermata_passage_seconds_count", (("state", "waiting"),)] == 1
