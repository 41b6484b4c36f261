"""The short way in answers as the application's own way does, only sooner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import httpx
import orjson
import psycopg
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from domain.clock import SystemClock
from domain.event import Event
from domain.intake import Intake
from tests.web.twin import BOOK, CATALOGUE, TOKEN, MemoryLog, house, signature
from web.intake import ShortWay, routers
from web.metrics import Metrics
from web.receive import Edge
from web.site import HEADERS

DEPLOY = {"type": "deploy", "service": "mail", "environment": "staging", "sha": "4f2c1a9d"}
ASKED: list[tuple[str, bytes, dict[str, str]]] = [
    ("/event", orjson.dumps(DEPLOY), {}),
    ("/event", b'{"type":"deploi"}', {}),
    ("/event", b'{"type":', {}),
    ("/event", b"", {}),
    ("/event", b"{}", {"content-type": "text/plain"}),
    ("/event", b"{}", {"content-encoding": "gzip"}),
    ("/event", b"{}", {"authorization": "Bearer nobody"}),
    ("/event", b"[" * 101 + b"]" * 101, {}),
    ("/webhooks/github", b"{}", {"x-hub-signature-256": "sha256=00"}),
    ("/webhooks/github", b"{}", {"x-hub-signature-256": signature(b"{}")}),
    ("/webhooks/github", b"{}", {}),
    ("/webhooks/alertmanager", b'{"version":"3"}', {}),
]


def ways_apart(answer: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    """What has to be the same whichever way was taken."""
    headers = {
        name: value
        for name, value in answer.headers.items()
        if name not in {one.lower() for one in HEADERS} and name != "cache-control"
    }
    body = answer.json()
    for made in ("event_id", "run_id"):
        if made in body:
            body[made] = "made"
    return answer.status_code, body, {**headers, "content-length": ""}


@pytest.mark.parametrize(("path", "body", "headers"), ASKED)
async def test_both_ways_answer_the_same(path: str, body: bytes, headers: dict[str, str]) -> None:
    sent = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}", **headers}
    answers = []
    for short in (True, False):
        async with house(short=short) as h:
            answers.append(ways_apart(await h.client.post(path, content=body, headers=sent)))
    assert answers[0] == answers[1]


async def test_answers_carry_the_security_headers_and_are_never_kept() -> None:
    async with house() as h:
        for answer in (await h.event(DEPLOY), await h.event(b"not json")):
            assert {name: answer.headers[name] for name in HEADERS} == HEADERS
            assert answer.headers["cache-control"] == "no-store"


async def test_requests_are_counted_by_route_and_status() -> None:
    async with house() as h:
        await h.event(DEPLOY)
        await h.event({"type": "deploi"})
        counted = h.metrics.text().decode()
    for status in ("202", "422"):
        labels = f'method="POST",route="/event",status="{status}"'
        assert f"fermata_http_request_seconds_count{{{labels}}} 1.0" in counted


async def test_other_methods_and_paths_go_the_long_way() -> None:
    async with house() as h:
        assert (await h.client.get("/event")).status_code == 405
        assert (await h.client.post("/events", json={})).status_code == 404
        described = (await h.client.get("/openapi.json")).json()["paths"]
    assert {"/event", "/webhooks/github", "/webhooks/alertmanager"} <= set(described)


async def test_an_error_of_ours_is_answered_by_the_application_s_handler() -> None:
    log = MemoryLog(failure=RuntimeError("a slip"))
    edge = Edge(log, lambda _: None, lambda: CATALOGUE, (), BOOK, SystemClock())
    app = FastAPI()

    async def broken(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"error": "Something went wrong here."}, status_code=500)

    app.add_exception_handler(Exception, broken)
    metrics = Metrics()
    transport = httpx.ASGITransport(
        ShortWay(app, routers(edge), metrics), raise_app_exceptions=False
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        answer = await client.post(
            "/event",
            json={**DEPLOY, "id": str(uuid4())},
            headers={"authorization": f"Bearer {TOKEN}"},
        )
    assert (answer.status_code, answer.json()["error"]) == (500, "Something went wrong here.")
    assert 'route="/event",status="500"} 1.0' in metrics.text().decode()


async def test_a_database_that_does_not_answer_a_retry_is_a_503() -> None:
    async def revive(_event: Event, _intakes: Sequence[Intake]) -> tuple[Event, list[Intake]]:
        raise psycopg.OperationalError("gone")

    async with house(revive=revive) as h:
        answer = await h.event({"type": "command", "text": "/retry 3f2a91c0"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert h.log.events == []
