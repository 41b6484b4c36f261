"""The Alertmanager webhook."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from domain.event import AlertGroup
from domain.intake import StartRun
from tests.web.twin import TOKEN, House, house

ALERT = {
    "status": "firing",
    "labels": {"alertname": "HighErrorRate", "service": "checkout", "severity": "critical"},
    "annotations": {"summary": "5% errors"},
    "startsAt": "2026-05-04T12:00:00.123456789Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://prometheus/graph",
    "fingerprint": "c6a1b2",
}
GROUP = {
    "version": "4",
    "groupKey": '{}:{alertname="HighErrorRate"}',
    "truncatedAlerts": 0,
    "status": "firing",
    "receiver": "fermata",
    "groupLabels": {},
    "commonLabels": {},
    "commonAnnotations": {},
    "externalURL": "http://alertmanager-1",
    "alerts": [ALERT],
}


async def send(h: House, payload: Any, authorization: str = f"Bearer {TOKEN}") -> Any:
    """One notification."""
    return await h.client.post(
        "/webhooks/alertmanager", json=payload, headers={"authorization": authorization}
    )


async def test_a_firing_group_starts_an_incident() -> None:
    async with house() as h:
        answer = await send(h, GROUP)
        assert answer.status_code == 202
        assert answer.json()["status"] == "accepted"
        event, intakes = h.last
        assert isinstance(intakes[0], StartRun)
        group = event.body
        assert isinstance(group, AlertGroup)
        (alert,) = group.alerts
        assert alert.name == "HighErrorRate"
        assert alert.ends_at is None, "Go's zero time is no time"
        assert alert.starts_at.isoformat() == "2026-05-04T12:00:00.123456+00:00"


def basic(password: str) -> str:
    """Basic authentication."""
    return "Basic " + base64.b64encode(f"fermata:{password}".encode()).decode()


async def test_a_token_may_come_as_the_password_of_basic_auth() -> None:
    async with house() as h:
        assert (await send(h, GROUP, basic(TOKEN))).status_code == 202
        for wrong in (basic("guess"), basic(""), "Basic %%%", "Basic", "Bearer guess", "Digest x"):
            assert (await send(h, GROUP, wrong)).status_code == 401, wrong


async def test_repeats_and_the_other_half_of_a_pair_are_duplicates() -> None:
    async with house() as h:
        first = await send(h, GROUP)
        repeat = await send(h, GROUP)
        other_half = await send(h, {**GROUP, "externalURL": "http://alertmanager-2"})
        assert first.json()["status"] == "accepted"
        assert repeat.json()["status"] == other_half.json()["status"] == "duplicate"


async def test_what_changes_the_news_is_no_duplicate() -> None:
    async with house() as h:
        await send(h, GROUP)
        joined = {**ALERT, "labels": {**ALERT["labels"], "pod": "b"}, "fingerprint": "d7"}  # type: ignore[dict-item]
        resolved = {**ALERT, "status": "resolved", "endsAt": "2026-05-04T12:30:00Z"}
        later = {**ALERT, "startsAt": "2026-05-05T12:00:00Z"}
        for payload in (
            {**GROUP, "alerts": [ALERT, joined]},
            {**GROUP, "status": "resolved", "alerts": [resolved]},
            {**GROUP, "alerts": [later]},
        ):
            assert (await send(h, payload)).json()["status"] != "duplicate"


@pytest.mark.parametrize(
    ("payload", "path"),
    [
        ([], ""),
        ({}, "version"),
        ({**GROUP, "version": "3"}, "version"),
        ({**GROUP, "groupKey": ""}, "groupKey"),
        ({**GROUP, "status": "odd"}, "status"),
        ({**GROUP, "alerts": []}, "alerts"),
        ({**GROUP, "alerts": [{**ALERT, "startsAt": "noon"}]}, "alerts.0.startsAt"),
        ({**GROUP, "alerts": [ALERT, {**ALERT, "labels": {"a": {}}}]}, "alerts.1.labels.a"),
    ],
)
async def test_a_wrong_shape_names_the_field(payload: Any, path: str) -> None:
    async with house() as h:
        answer = await send(h, payload)
        assert answer.status_code == 422
        assert answer.json()["path"] == path
        assert h.log.events == []
