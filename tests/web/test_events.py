"""`POST /event`: plain forms, CloudEvents, CDEvents, idempotency and refusals."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.event import (
    AlertGroup,
    CheckResult,
    Commanded,
    EventBody,
    PullRequestChanged,
    Pushed,
    Tagged,
    Unhandled,
)
from domain.intake import StartRun
from tests.web.twin import ADMIN_TOKEN, TOKEN, VIEWER_TOKEN, House, house
from web import cloudevents
from web.alertmanager import group_of
from web.auth import Principal
from web.event_forms import FORMS, body_of
from web.problems import Problem
from web.receive import misfit

DEPLOY = {"type": "deploy", "service": "checkout", "environment": "prod", "sha": "abc1234"}
ROLLBACK = {"type": "rollback", "service": "checkout", "environment": "prod"}
FIELDS = [
    "service",
    "environment",
    "sha",
    "reason",
    "text",
    "repo",
    "number",
    "author",
    "login",
    "branch",
    "tag",
    "paths",
    "status",
    "alerts",
    "labels",
    "context",
    "subject",
    "content",
    "timestamp",
    "customData",
    "groupKey",
    "startsAt",
    "head_sha",
    "merged",
    "id",
]
PUSH = {
    "type": "push",
    "repo": "acme/shop",
    "branch": "main",
    "default_branch": "main",
    "sha": "abc1234",
    "before": "abc1233",
    "paths": ["checkout/a.py"],
}


def cloud(kind: str, data: Any, **changes: Any) -> dict[str, Any]:
    """A CloudEvent in JSON format."""
    return {
        "specversion": "1.0",
        "id": "ce-1",
        "source": "/ci/main",
        "type": kind,
        "data": data,
        **changes,
    }


def cdevent(subject_id: str, content: dict[str, Any], custom: Any = None) -> dict[str, Any]:
    """A CDEvent's data."""
    return {
        "context": {"version": "0.4.1", "timestamp": "2026-05-04T12:00:00.123456789Z"},
        "subject": {"id": subject_id, "source": "/x", "content": content},
        **({"customData": custom} if custom is not None else {}),
    }


async def structured(h: House, event: dict[str, Any]) -> Any:
    """Send a CloudEvent in structured mode."""
    return await h.event(event, content_type="application/cloudevents+json; charset=utf-8")


async def test_a_deploy_is_accepted_in_the_name_of_the_token() -> None:
    async with house() as h:
        answer = await h.event(DEPLOY)
        assert answer.status_code == 202
        assert answer.json()["status"] == "accepted"
        event, (intake,) = h.last
        assert event.source == "api"
        assert isinstance(event.body, Commanded)
        assert event.body.author.login == "dana"
        assert event.body.roles == ("developer",)
        assert isinstance(intake, StartRun)
        assert intake.change_key == "release:checkout:prod:abc1234"


async def test_the_token_travels_in_either_header() -> None:
    async with house() as h:
        for headers in (
            {"authorization": f"Bearer {TOKEN}"},
            {"authorization": f"bearer {TOKEN}"},
            {"x-api-key": TOKEN},
        ):
            answer = await h.client.post("/event", json=DEPLOY, headers=headers)
            assert answer.status_code == 202, headers


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ROLLBACK, Commanded),
        ({**ROLLBACK, "reason": "it burns"}, Commanded),
        ({"type": "command", "text": "/approve 3f2a91c0 fine"}, Commanded),
        ({"type": "command", "text": "/hold", "repo": "acme/shop", "number": 7}, Commanded),
        (PUSH, Pushed),
        ({**PUSH, "author": "alice"}, Pushed),
        ({**PUSH, "author": {"login": "ci", "is_bot": True}}, Pushed),
        ({"type": "tag", "repo": "acme/shop", "tag": "v1", "sha": "abc"}, Tagged),
        (
            {
                "type": "ci_result",
                "source": "status",
                "repo": "acme/shop",
                "sha": "abc",
                "name": "ci",
            },
            CheckResult,
        ),
        (
            {
                "type": "pull_request",
                "action": "opened",
                "merged": False,
                "repo": "acme/shop",
                "number": 7,
                "title": "t",
                "head_sha": "abc",
                "head_ref": "x",
                "base_sha": "abd",
                "base_ref": "main",
                "default_branch": "main",
            },
            PullRequestChanged,
        ),
        (
            {
                "type": "alert",
                "group_key": "g",
                "status": "firing",
                "receiver": "r",
                "alerts": [
                    {
                        "name": "Slow",
                        "status": "firing",
                        "fingerprint": "f",
                        "labels": {"service": "checkout"},
                        "annotations": {},
                        "starts_at": "2026-05-04T12:00:00Z",
                    }
                ],
            },
            AlertGroup,
        ),
    ],
)
async def test_each_plain_form_is_understood(data: dict[str, Any], kind: type) -> None:
    async with house() as h:
        answer = await h.event(data)
        assert answer.status_code == 202, answer.text
        assert isinstance(h.last[0].body, kind)


async def test_nobody_can_command_in_the_name_of_somebody_else() -> None:
    async with house() as h:
        forged = {"type": "command", "text": "/approve 3f2a91c0", "author": {"login": "ada"}}
        assert (await h.event(forged)).status_code == 422
        assert h.log.events == []


async def test_an_event_that_starts_nothing_is_answered_with_the_reason() -> None:
    async with house() as h:
        answer = await h.event({**DEPLOY, "environment": "prdo"})
        assert answer.status_code == 202
        assert answer.json()["status"] == "ignored"
        assert answer.json()["reason"] == "checkout has no environment prdo; did you mean prod?"
        assert answer.json()["run_id"] is None


# ---- refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "path", "words"),
    [
        ({}, "type", "one of deploy, rollback"),
        ({"type": 7}, "type", "one of deploy"),
        ({"type": "deplyo"}, "type", "Did you mean `deploy`?"),
        ({"type": "pull-request"}, "type", "Did you mean `pull_request`?"),
        ({"type": "zzz"}, "type", "one of deploy"),
        ({"type": "deploy", "service": "checkout"}, "environment", "required"),
        ({**DEPLOY, "enviroment": "prod"}, "enviroment", "Did you mean `environment`?"),
        ({**DEPLOY, "service": 7}, "service", "string"),
        ({**DEPLOY, "service": ""}, "service", "1 character"),
        ({**DEPLOY, "id": 7}, "id", "string"),
        ({**PUSH, "sha": "not a commit"}, "sha", "not a commit id"),
        ({**PUSH, "paths": "a"}, "paths", "tuple"),
        ({**PUSH, "author": {"name": "x"}}, "author.name", "permitted"),
        ({**PUSH, "repo": "r" * 256}, "repo", "255 characters"),
        ({"type": "command", "text": "/aprove"}, "text", "Did you mean `/approve`?"),
        ({"type": "command", "text": "approve"}, "text", "begins a line"),
        ({"type": "command", "text": "/hold", "number": 2**31}, "number", "2147483647"),
        ({"type": "alert", "alerts": [{"name": 1}]}, "alerts.0", ""),
    ],
)
async def test_a_wrong_shape_is_a_422_that_names_the_field(
    data: dict[str, Any], path: str, words: str
) -> None:
    async with house() as h:
        answer = await h.event(data)
        assert answer.status_code == 422, answer.text
        said = answer.json()
        assert set(said) == {"error", "hint", "path"}
        if path != "alerts.0":
            assert said["path"] == path
        assert words in said["error"] + said["hint"]
        assert h.log.events == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"type": "deploy",}', 400),
        (b"nonsense", 400),
        (b'{"a": NaN}', 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b"7", 422),
        (b"[" * 101 + b"]" * 101, 400),
        (b'{"a":' * 500_000, 400),
        (b'{"type": "push", "x": ' + b"[" * 99 + b"]" * 99 + b"}", 422),
    ],
)
async def test_broken_or_bottomless_json_is_refused(body: bytes, status: int) -> None:
    async with house() as h:
        answer = await h.event(body)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]
        assert h.log.events == []


async def test_without_a_known_token_nothing_is_taken() -> None:
    async with house() as h:
        missing = await h.client.post("/event", json=DEPLOY)
        assert missing.status_code == 401
        assert "Bearer" in missing.json()["hint"]
        assert missing.headers["www-authenticate"] == "Bearer"
        unknown = await h.event(DEPLOY, token="guess")
        assert unknown.status_code == 401
        assert "guess" not in unknown.text
        odd = await h.client.post("/event", json=DEPLOY, headers=[(b"x-api-key", b"t\xf6ken")])
        assert odd.status_code == 401
        assert h.log.events == []


async def test_a_read_only_token_may_not_send_events() -> None:
    async with house() as h:
        assert (await h.event(DEPLOY, token=VIEWER_TOKEN)).status_code == 403


async def test_other_content_types_are_refused_with_a_hint() -> None:
    async with house() as h:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
            answer = await h.event(DEPLOY, content_type=kind)
            assert answer.status_code == 415
            assert "application/json" in answer.json()["hint"]
        batch = await h.event([DEPLOY], content_type="application/cloudevents-batch+json")
        assert batch.status_code == 415
        assert "one CloudEvent" in batch.json()["hint"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["checkout", "prod", "firing", "opened", "/approve", "1.0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.sampled_from(sorted(FORMS)), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_fields_are_an_event_or_a_422(kind: str, fields: dict[str, Any]) -> None:
    statuses: set[int] = set()
    data = {**fields, "type": kind}
    event = {"specversion": "1.0", "id": "1", "source": "/x", "data": fields}
    principal = Principal("dana", ("developer",))
    understandings: tuple[Callable[[], EventBody], ...] = (
        lambda: body_of(data, principal),
        lambda: cloudevents.body_of(
            cloudevents.structured({**event, "type": f"dev.fermata.{kind}"}), principal
        ),
        lambda: cloudevents.body_of(
            cloudevents.structured({**event, "type": "dev.cdevents.incident.detected"}), principal
        ),
        lambda: group_of({**fields, "version": "4"}),
    )
    for understand in understandings:
        try:
            body = understand()
        except Problem as problem:
            statuses.add(problem.status_code)
        else:
            assert misfit(body) is None
    assert statuses <= {422}


# ---- idempotency ---------------------------------------------------------------------------


async def test_the_same_body_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr("web.events.real_time", lambda: now[0])
    async with house() as h:
        first = (await h.event(ROLLBACK)).json()
        again = (await h.event(ROLLBACK)).json()
        assert (first["status"], again["status"]) == ("accepted", "duplicate")
        assert again["event_id"] == first["event_id"]
        assert "same body" in again["reason"]
        now[0] += 7 * 86400
        assert (await h.event(ROLLBACK)).json()["status"] == "accepted", "next week is new"


async def test_a_fact_stays_known_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_800_000_000.0]
    monkeypatch.setattr("web.events.real_time", lambda: now[0])
    async with house() as h:
        assert (await h.event(PUSH)).json()["status"] == "accepted"
        now[0] += 7 * 86400
        assert (await h.event(PUSH)).json()["status"] == "duplicate"


async def test_a_check_may_end_as_it_did_before() -> None:
    check = {"type": "ci_result", "source": "status", "repo": "acme/shop", "sha": "a", "name": "ci"}
    async with house() as h:
        for conclusion in ("failure", "success", "failure"):
            await h.event({**check, "conclusion": conclusion})
        assert [one.body.conclusion for one in h.log.events][-1] == "failure"  # type: ignore[union-attr]
        assert len(h.log.events) == 3


async def test_the_same_words_of_two_people_are_two_events() -> None:
    async with house() as h:
        words = {"type": "command", "text": "/approve 3f2a91c0"}
        await h.event(words, token=TOKEN)
        await h.event(words, token=ADMIN_TOKEN)
        assert [event.body.author.login for event in h.log.events] == ["dana", "ada"]  # type: ignore[union-attr]


@pytest.mark.parametrize("header", [True, False])
async def test_an_idempotency_key_tells_requests_apart_and_together(header: bool) -> None:
    async def ask(h: House, key: str, token: str = TOKEN) -> str:
        if header:
            answer = await h.event(ROLLBACK, token, idempotency_key=f'"{key}"')
        else:
            answer = await h.event({**ROLLBACK, "id": key}, token)
        return str(answer.json()["status"])

    async with house() as h:
        assert [await ask(h, "k1"), await ask(h, "k1")] == ["accepted", "duplicate"]
        assert await ask(h, "k2") == "accepted"
        assert await ask(h, "k1", ADMIN_TOKEN) == "accepted", "keys are each sender's own"
        assert await ask(h, "k" * 5000) == "accepted"
        assert max(len(event.delivery_id) for event in h.log.events) <= 200


# ---- CloudEvents ---------------------------------------------------------------------------


async def test_a_structured_cloud_event_is_understood() -> None:
    async with house() as h:
        form = {key: value for key, value in DEPLOY.items() if key != "type"}
        answer = await structured(h, cloud("dev.fermata.deploy", form))
        assert answer.json()["status"] == "accepted", answer.text
        event = h.last[0]
        assert (event.source, event.delivery_id) == ("cloudevents", "/ci/main#ce-1")


async def test_a_cloud_event_sent_as_plain_json_is_recognised() -> None:
    async with house() as h:
        assert (await h.event(cloud("dev.fermata.deploy", DEPLOY))).status_code == 202
        assert h.last[0].source == "cloudevents"


async def test_base64_data_is_understood() -> None:
    async with house() as h:
        event = cloud("dev.fermata.deploy", None)
        event["data_base64"] = base64.b64encode(orjson.dumps(DEPLOY)).decode()
        assert (await structured(h, event)).status_code == 202
        event["data_base64"] = "%%%"
        assert (await structured(h, event)).status_code == 422


async def test_a_binary_cloud_event_is_understood() -> None:
    headers = {
        "ce_specversion": "1.0",
        "ce_id": "a%20b",
        "ce_source": "/ci",
        "ce_type": "dev.fermata.deploy",
    }
    async with house() as h:
        answer = await h.event(DEPLOY, **headers)
        assert answer.status_code == 202, answer.text
        assert h.last[0].delivery_id == "/ci#a b"
        assert isinstance(h.last[0].body, Commanded)


async def test_source_and_id_do_not_run_into_each_other() -> None:
    async with house() as h:
        for source, own in (("/a#b", "c"), ("/a", "b#c"), ("/a%23b", "c")):
            sent = cloud("dev.fermata.push", {**PUSH, "type": "push"}, source=source, id=own)
            assert (await structured(h, sent)).json()["status"] != "duplicate"


async def test_a_cloud_event_is_known_by_source_and_id_and_not_by_its_data() -> None:
    async with house() as h:

        async def send(number: str, source: str = "/ci") -> str:
            event = cloud("dev.fermata.rollback", ROLLBACK, id=number, source=source)
            return str((await structured(h, event)).json()["status"])

        assert [await send("1"), await send("1"), await send("2")] == [
            "accepted",
            "duplicate",
            "accepted",
        ]
        assert await send("1", "/other") == "accepted"


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"specversion": None}, "specversion"),
        ({"id": ""}, "id"),
        ({"id": 7}, "id"),
        ({"source": None}, "source"),
        ({"type": ""}, "type"),
        ({"time": "yesterday"}, "time"),
        ({"type": "dev.fermata.deplooy"}, "type"),
        ({"type": "dev.cdevents.change.mergd.0.2.0"}, "type"),
        ({"data": []}, "data"),
    ],
)
async def test_a_cloud_event_of_the_wrong_shape_names_the_attribute(
    changes: dict[str, Any], path: str
) -> None:
    async with house() as h:
        answer = await structured(h, cloud("dev.fermata.deploy", DEPLOY) | changes)
        assert answer.status_code == 422, answer.text
        assert answer.json()["path"] == path


async def test_types_of_other_systems_are_recorded_and_ignored() -> None:
    async with house() as h:
        for kind in ("com.github.push", "dev.cdevents.ticket.closed.0.1.0", "dev.cdeventsx.a.b"):
            answer = await structured(h, cloud(kind, cdevent("x", {}), id=kind))
            assert (answer.status_code, answer.json()["status"]) == (202, "ignored"), answer.text
            assert isinstance(h.last[0].body, Unhandled)


# ---- CDEvents ------------------------------------------------------------------------------


async def meaning(kind: str, data: dict[str, Any]) -> Any:
    """The event body that a CDEvent becomes."""
    async with house() as h:
        answer = await structured(h, cloud(f"dev.cdevents.{kind}", data))
        assert answer.status_code == 202, answer.text
        return h.last[0].body


async def test_an_incident_is_an_alert_of_its_service_until_it_is_resolved() -> None:
    data = cdevent("incident-1", {"description": "slow", "service": {"id": "checkout"}})
    firing = await meaning("incident.detected.0.3.0", data)
    resolved = await meaning("incident.resolved.0.3.0-draft", data)
    assert isinstance(firing, AlertGroup)
    assert isinstance(resolved, AlertGroup)
    assert (firing.status, resolved.status) == ("firing", "resolved")
    assert firing.group_key == resolved.group_key
    assert firing.alerts[0].labels["service"] == "checkout"


async def test_a_time_without_a_zone_is_utc_and_can_be_compared() -> None:
    data = cdevent("incident-1", {"service": {"id": "checkout"}})
    data["context"]["timestamp"] = "2026-05-04T12:00:00"
    incident = await meaning("incident.detected.0.3.0", data)
    assert incident.alerts[0].starts_at == datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("outcome", "conclusion"),
    [("success", "success"), ("failure", "failure"), ("cancel", "cancelled"), ("odd", "error")],
)
async def test_a_finished_pipeline_is_a_check_of_its_commit(outcome: str, conclusion: str) -> None:
    content = {"pipelineName": "build", "outcome": outcome}
    body = await meaning(
        "pipelinerun.finished.0.2.0",
        cdevent("run-1", content, {"repo": "acme/shop", "sha": "abc"}),
    )
    assert isinstance(body, CheckResult)
    assert (body.name, body.conclusion, body.sha) == ("build", conclusion, "abc")


async def test_a_merged_change_that_names_its_commit_is_a_push() -> None:
    content = {"repository": {"id": "acme/shop"}}
    custom = {"sha": "abc", "branch": "main"}
    body = await meaning("change.merged.0.2.0", cdevent("c-1", content, custom))
    assert isinstance(body, Pushed)
    assert (body.repo, body.branch, body.sha, body.paths) == ("acme/shop", "main", "abc", None)


async def test_a_published_artifact_is_a_check_of_the_commit_in_its_purl() -> None:
    purl = (
        "pkg:oci/checkout@sha256%3Aabc?repository_url=registry.example/checkout"
        "&vcs_url=git%2Bhttps://github.com/acme/shop@abc1234"
    )
    body = await meaning("artifact.published.0.2.0", cdevent(purl, {}))
    assert isinstance(body, CheckResult)
    assert (body.repo, body.sha, body.name) == ("acme/shop", "abc1234", "artifact checkout")


@pytest.mark.parametrize(
    "kind", ["change.merged.0.2.0", "artifact.published.0.2.0", "taskrun.finished.0.2.0"]
)
async def test_a_cdevent_without_a_commit_is_recorded_with_what_it_lacks(kind: str) -> None:
    body = await meaning(kind, cdevent("pkg:golang/mygit.com/myapp@234f", {"outcome": "success"}))
    assert isinstance(body, Unhandled)
    assert "names no commit" in body.what


async def test_a_cdevent_needs_its_subject() -> None:
    async with house() as h:
        answer = await structured(h, cloud("dev.cdevents.incident.detected.0.3.0", {"context": {}}))
        assert answer.status_code == 422
        assert answer.json()["path"].startswith("data.")
