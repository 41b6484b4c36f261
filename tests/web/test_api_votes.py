"""Votes and signals through the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest

from domain.approval import ApprovalState
from domain.event import Commanded
from domain.intake import SendSignal, StartRun
from tests.web.desk_twin import ADMIN, AUTHOR, DEVELOPER, MANAGER, VIEWER, House, house
from tests.web.scene import run_id


def pending(h: House) -> Any:
    return h.store.details[run_id("asking")].approvals[0]


async def vote(h: House, token: str, decision: str = "approve", **changes: Any) -> httpx.Response:
    request = pending(h)
    ballot = {"decision": decision, "digest": request.digest, "comment": "go", **changes}
    return await h.post(f"/api/approvals/{request.id}", ballot, token)


async def signal(h: House, scene: str, kind: str, token: str = DEVELOPER, reason: str = "") -> Any:
    return await h.post(
        f"/api/runs/{run_id(scene)}/signals", {"kind": kind, "reason": reason}, token
    )


async def test_pending_requests_are_listed() -> None:
    async with house() as h:
        told = (await h.get("/api/approvals?status=pending")).json()["approvals"]
        assert [one["id"] for one in told] == [str(pending(h).id)]
        everything = (await h.get("/api/approvals")).json()["approvals"]
        assert len(everything) > 1


async def test_an_approval_is_recorded_with_name_comment_and_way() -> None:
    async with house() as h:
        answer = await vote(h, MANAGER)
        assert answer.status_code == 200
        assert answer.json()["state"] == "approved"
        (counted,) = pending(h).votes
        assert (counted.principal, counted.comment, counted.via) == ("grace", "go", "api")


async def test_a_rejection_is_recorded() -> None:
    async with house() as h:
        assert (await vote(h, MANAGER, "reject")).json()["state"] == "rejected"


@pytest.mark.parametrize(
    ("token", "why"),
    [(AUTHOR, "made this change"), (DEVELOPER, "release-manager"), (VIEWER, "roles")],
)
async def test_a_vote_that_does_not_count_is_a_403_with_the_reason(token: str, why: str) -> None:
    async with house() as h:
        answer = await vote(h, token)
        assert answer.status_code == 403
        assert why in answer.json()["error"]
        assert pending(h).state is ApprovalState.PENDING
        assert pending(h).votes == ()


async def test_another_digest_is_a_409_and_is_not_counted() -> None:
    async with house() as h:
        answer = await vote(h, MANAGER, digest="0" * 64)
        assert answer.status_code == 409
        assert "digest" in answer.json()["error"]
        assert pending(h).votes == ()


async def test_an_expired_request_is_a_409() -> None:
    async with house() as h:
        h.clock.at = pending(h).expires_at + timedelta(seconds=1)
        answer = await vote(h, MANAGER)
        assert answer.status_code == 409
        assert "expired" in answer.json()["error"]


async def test_a_second_answer_after_the_first_settled_it_is_a_409() -> None:
    async with house() as h:
        assert (await vote(h, MANAGER)).status_code == 200
        answer = await vote(h, ADMIN)
        assert answer.status_code == 409
        assert "approved" in answer.json()["error"]


async def test_no_such_request_is_a_404() -> None:
    async with house() as h:
        ballot = {"decision": "approve", "digest": "x"}
        answer = await h.post(f"/api/approvals/{run_id('nobody')}", ballot, MANAGER)
        assert answer.status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"decision": "maybe"},
        {"digest": ""},
        {"digest": None},
        {"extra": 1},
        {"comment": "x" * 3000},
    ],
)
async def test_a_misshapen_ballot_is_a_422_that_names_the_field(changes: dict[str, Any]) -> None:
    async with house() as h:
        answer = await vote(h, MANAGER, **changes)
        assert answer.status_code == 422
        assert answer.json()["path"] == next(iter(changes))
        assert pending(h).votes == ()


async def test_broken_json_is_a_422_without_the_body_in_it() -> None:
    async with house() as h:
        answer = await h.client.post(
            f"/api/approvals/{pending(h).id}",
            content=b'{"digest": hunter2',
            headers={"authorization": f"Bearer {MANAGER}", "content-type": "application/json"},
        )
        assert answer.status_code == 422
        assert "hunter2" not in answer.text


@pytest.mark.parametrize("kind", ["hold", "resume", "cancel"])
async def test_a_signal_becomes_an_event_addressed_to_the_run(kind: str) -> None:
    async with house() as h:
        answer = await signal(h, "baking", kind, reason="looking at it")
        assert answer.json() == {"run_id": str(run_id("baking")), "status": "signalled"}
        ((event, (intake,)),) = h.log.accepted
        assert isinstance(event.body, Commanded)
        assert isinstance(intake, SendSignal)
        assert (intake.kind, intake.address.run) == (kind, str(run_id("baking")))
        assert intake.payload["author"] == "dana"
        assert intake.payload["reason"] == "looking at it"
        assert h.hinted == [h.log.new_run]


async def test_two_signals_are_two_deliveries() -> None:
    async with house() as h:
        await signal(h, "baking", "hold")
        await signal(h, "baking", "hold")
        first, second = (event for event, _ in h.log.accepted)
        assert first.delivery_id != second.delivery_id
        assert first.body_digest != second.body_digest


async def test_a_viewer_may_not_steer() -> None:
    async with house() as h:
        answer = await signal(h, "baking", "cancel", VIEWER)
        assert answer.status_code == 403
        assert "developer" in answer.json()["hint"]
        assert h.log.accepted == []


@pytest.mark.parametrize(
    ("scene", "kind"),
    [("succeeded", "hold"), ("succeeded", "retry"), ("superseded", "retry"), ("baking", "retry")],
)
async def test_what_makes_no_sense_for_the_state_is_a_409(scene: str, kind: str) -> None:
    async with house() as h:
        assert (await signal(h, scene, kind)).status_code == 409
        assert h.log.accepted == []


async def test_a_retry_begins_the_same_change_again_with_the_original_event() -> None:
    async with house() as h:
        answer = await signal(h, "denied", "retry")
        assert answer.json() == {"run_id": str(h.log.new_run), "status": "started"}
        ((event, (intake,)),) = h.log.accepted
        old = h.store.details[run_id("denied")]
        assert event.body == old.event.body
        assert event.delivery_id != old.event.delivery_id
        assert isinstance(intake, StartRun)
        assert intake.again
        assert intake.change_key == old.run.change_key
        assert intake.author.login == old.run.author, "retrying does not make it somebody else's"


async def test_an_override_needs_its_role_and_a_reason() -> None:
    async with house() as h:
        assert (await signal(h, "denied", "override", DEVELOPER, "x" * 20)).status_code == 403
        short = await signal(h, "denied", "override", MANAGER, "now")
        assert short.status_code == 422
        assert short.json()["path"] == "reason"
        assert h.overrides.added == []


async def test_an_override_is_kept_with_its_end_and_begins_a_denied_run_again() -> None:
    async with house() as h:
        answer = await signal(h, "denied", "override", MANAGER, "customers cannot pay")
        assert answer.json()["status"] == "started"
        ((run, who, roles, reason, at, until),) = h.overrides.added
        assert (run, who, reason) == (run_id("denied"), "grace", "customers cannot pay")
        assert "release-manager" in roles
        assert until - at == timedelta(hours=1)


async def test_an_unknown_signal_is_a_422() -> None:
    async with house() as h:
        assert (await signal(h, "baking", "explode")).status_code == 422
