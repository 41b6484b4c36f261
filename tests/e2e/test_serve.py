"""From a signed webhook to a finished release, through the server as anybody would start it."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import stat
from collections.abc import Callable
from typing import Any

import pytest

from tests.artifacts import keep
from tests.e2e.api import (
    Json,
    assert_every_effect_was_decided,
    changes_in,
    deciding,
    weights,
)
from tests.e2e.github import merged, sha_of
from tests.e2e.served import ROOT, SECRET, Served

GOOD = sha_of("a good version")


@pytest.fixture(scope="module")
async def released(served: Served) -> tuple[Json, Json]:
    """(the question that was asked before production, the run when it was over)."""
    run_id = await served.api.started("pull_request", merged("acme/checkout", 42, GOOD))
    question = await served.api.question(run_id, 120)
    answer = await served.api.vote(question)
    assert answer.status_code == 200, answer.text
    return question, await served.api.until_over(run_id, 120)


async def test_curl_delivers_a_signed_body_and_gets_202(
    served: Served, program: Callable[[str], str]
) -> None:
    body = (ROOT / "examples" / "merged-pull-request.json").read_bytes()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()

    async def deliver(delivery: str) -> tuple[str, dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            *(program("curl"), "--silent", "--noproxy", "*", "--write-out", "\n%{http_code}"),
            *("--header", "Content-Type: application/json"),
            *("--header", "X-GitHub-Event: pull_request"),
            *("--header", f"X-GitHub-Delivery: {delivery}"),
            *("--header", f"X-Hub-Signature-256: sha256={signature}"),
            *("--data-binary", "@-", f"{served.api.url}/webhooks/github"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate(body)
        text, _, code = out.decode().rpartition("\n")
        return code, json.loads(text)

    code, first = await deliver("curl-1")
    assert (code, first["status"]) == ("202", "accepted")
    run = await served.api.run(first["run_id"])
    assert run["event"]["id"] == first["event_id"]
    for again in ("curl-1", "curl-2"):  # by its delivery id, and by its body
        code, second = await deliver(again)
        assert (code, second["status"]) == ("202", "duplicate")
        assert second["run_id"] == first["run_id"]
    answer = await served.api.tell(first["run_id"], "cancel")
    assert answer.status_code == 200, answer.text


async def test_a_merge_is_released_when_a_person_says_yes(
    served: Served, released: tuple[Json, Json]
) -> None:
    question, run = released
    assert (run["state"], run["sha"], run["author"]) == ("succeeded", GOOD, "ada")
    assert question["environment"] == "prod"
    assert question["run_id"] == run["id"]
    assert {step["status"] for step in run["steps"]} == {"done"}
    (approval,) = run["approvals"]
    assert [vote["principal"] for vote in approval["votes"]] == ["admin"]


async def test_the_run_tells_its_plan_decisions_effects_and_verdicts(
    released: tuple[Json, Json],
) -> None:
    _, run = released
    assert run["plan"]["goal"] == "release"
    assert_every_effect_was_decided(run)
    assert any("approval.required" in deciding(one) for one in run["decisions"])
    planned = [one["weight"] for one in _traffic_steps(run)]
    assert planned[0] <= 10
    assert weights(run) == planned
    verdicts = {one["step_id"]: one["verdict"]["kind"] for one in run["verdicts"]}
    checks = [step["id"] for step in run["steps"] if step["kind"] == "metrics_check"]
    assert verdicts == dict.fromkeys(checks, "pass")
    assert all(run["simulated"][name] for name in ("kubernetes", "metrics"))


async def test_production_is_not_touched_before_the_approval(released: tuple[Json, Json]) -> None:
    question, run = released
    (approval,) = run["approvals"]
    (vote,) = approval["votes"]
    touched = changes_in(run, "prod")
    assert touched
    assert all(one["approval_id"] == question["id"] for one in touched)
    voted = next(n for n, one in enumerate(run["path"]) if one["at"] >= vote["at"])
    assert "approve" in [one["node"] for one in run["path"][: voted + 1]]


async def test_the_same_delivery_again_is_a_duplicate(
    served: Served, released: tuple[Json, Json]
) -> None:
    _, run = released
    answer = await served.api.github("pull_request", merged("acme/checkout", 42, GOOD))
    assert answer.status_code == 202
    told = answer.json()
    assert (told["status"], told["run_id"]) == ("duplicate", run["id"])
    again = await served.api.run(run["id"])
    assert again["effects"] == run["effects"]


async def test_a_vote_on_another_digest_is_refused(
    served: Served, released: tuple[Json, Json]
) -> None:
    other = sha_of("a version nobody has read")
    run_id = await served.api.started("pull_request", merged("acme/checkout", 43, other))
    question = await served.api.question(run_id, 120)
    answer = await served.api.vote({**question, "digest": released[0]["digest"]})
    assert answer.status_code == 409
    assert (await served.api.run(run_id))["state"] == "needs_approval"
    answer = await served.api.vote(question, "reject")
    assert answer.status_code == 200, answer.text
    over = await served.api.until_over(run_id)
    assert over["state"] == "denied"
    assert "admin" in over["reason"]


async def test_a_bad_version_is_taken_back_by_itself(served: Served) -> None:
    run_id = await served.api.started("pull_request", merged("acme/checkout", 44, "1.1.0-bad"))
    question = await served.api.question(run_id, 120)
    assert (await served.api.vote(question)).status_code == 200
    run = await served.api.until_over(run_id, 120)
    assert run["state"] == "rolled_back", run["reason"]
    assert weights(run)[-1] == 0
    assert max(weights(run)) <= 10
    assert_every_effect_was_decided(run)
    assert [one["verdict"]["kind"] for one in run["verdicts"]][-1] == "fail"
    await _told_with_numbers_and_a_picture(served, run)


async def test_without_a_token_nothing_is_told(served: Served) -> None:
    stranger = served.api.as_("")
    for path in ("/api/runs", "/api/approvals", "/api/events"):
        answer = await stranger.http.get(stranger.url + path)
        assert answer.status_code == 401, path
    token = served.data / "admin-token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert served.api.token is not None
    assert served.program.said().count(served.api.token) == 1  # the sign-in link, nowhere else


async def _told_with_numbers_and_a_picture(served: Served, run: Json) -> None:
    """The closing words say how many users were hit, and show it to readers without a session."""
    said = {one["step_id"]: one["result"]["data"] for one in run["effects"]}
    comment = said["report.comment"]["body"]
    keep("rollback/comment.md", comment)
    served_by_it = re.search(r"\*\*Blast radius\*\*: ([\d,]+) requests served", comment)
    assert served_by_it is not None
    assert int(served_by_it[1].replace(",", "")) > 0
    address = re.search(r"!\[[^\]]*\]\((\S+/rates\.png)\)", comment)
    assert address is not None
    picture = await served.api.http.get(address[1])
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    keep("rollback/comment.png", picture.content)
    assert "`/retry`" in comment


def _traffic_steps(run: Json) -> list[Json]:
    return [
        step["action"] for step in run["plan"]["steps"] if step["action"]["kind"] == "k8s_traffic"
    ]
