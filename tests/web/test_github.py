"""The GitHub webhook: signatures, envelopes, and what payloads mean."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import orjson
import psycopg
import pytest

from domain.event import (
    CheckResult,
    Commanded,
    CommandName,
    PullRequestChanged,
    Pushed,
    Tagged,
    Unhandled,
)
from domain.intake import StartRun
from tests.web import payloads
from tests.web.twin import OLD_SECRET, SECRET, House, house, signature
from web.github_payloads import understand

PING = {"zen": "Keep it logically awesome."}


async def send(h: House, **headers: str) -> Any:
    """An empty object with exactly these headers, sent as Latin-1."""
    pairs = [
        (name.replace("_", "-").encode(), text.encode("latin-1")) for name, text in headers.items()
    ]
    return await h.client.post("/webhooks/github", content=b"{}", headers=pairs)


def envelope(body: bytes, **changes: str) -> dict[str, str]:
    """The headers of a good delivery."""
    return {
        "content_type": "application/json",
        "x_github_event": "ping",
        "x_github_delivery": str(uuid4()),
        "x_hub_signature_256": signature(body),
        **changes,
    }


async def test_a_signed_delivery_is_accepted_stored_and_hinted() -> None:
    async with house() as h:
        answer = await h.github("pull_request", payloads.pull_request())
        assert answer.status_code == 202
        said = answer.json()
        assert set(said) == {"event_id", "status", "run_id", "thread_id"}
        assert said["status"] == "accepted"
        event, (intake,) = h.last
        assert isinstance(intake, StartRun)
        assert said["thread_id"] == str(intake.thread_id)
        assert said["event_id"] == str(event.id)
        assert [str(run) for run in h.hinted] == [said["run_id"]]
        assert h.log.payloads == [orjson.dumps(payloads.pull_request())]


async def test_each_secret_counts_while_one_is_being_rotated() -> None:
    async with house() as h:
        assert (await h.github("ping", {"n": 1}, secret=SECRET)).status_code == 202
        assert (await h.github("ping", {"n": 2}, secret=OLD_SECRET)).status_code == 202
    async with house(secrets=(SECRET,)) as h:
        assert (await h.github("ping", {"n": 3}, secret=OLD_SECRET)).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        signature(b"{}", b"guess"),
        signature(b"{} "),
        signature(b"{}").upper(),
        signature(b"{}").removeprefix("sha256="),
        "sha256=",
        "sha1=" + "0" * 40,
        "sha256=\xff\xfe",
    ],
)
async def test_a_wrong_signature_is_refused_and_nothing_is_stored(wrong: str) -> None:
    async with house() as h:
        answer = await send(h, **envelope(b"{}", x_hub_signature_256=wrong))
        assert answer.status_code == 401
        assert "GITHUB_WEBHOOK_SECRET" in answer.json()["hint"]
        assert h.log.events == []


async def test_an_unsigned_delivery_is_refused_and_sha1_is_not_enough() -> None:
    async with house() as h:
        unsigned = envelope(b"{}")
        del unsigned["x_hub_signature_256"]
        assert (await send(h, **unsigned)).status_code == 401
        old = await send(h, **unsigned, x_hub_signature="sha1=" + "0" * 40)
        assert old.status_code == 401
        assert "SHA-1" in old.json()["error"]
        assert h.log.events == []


async def test_without_a_secret_nothing_is_taken_and_the_answer_says_what_to_set() -> None:
    async with house(secrets=()) as h:
        answer = await h.github("ping", PING)
        assert answer.status_code == 503
        assert "GITHUB_WEBHOOK_SECRET" in answer.json()["hint"]


@pytest.mark.parametrize("header", ["x_github_event", "x_github_delivery"])
async def test_both_names_of_a_delivery_are_needed(header: str) -> None:
    async with house() as h:
        headers = envelope(b"{}")
        del headers[header]
        assert (await send(h, **headers)).status_code == 400


async def test_a_delivery_is_taken_once_by_its_id_and_by_its_body() -> None:
    async with house() as h:
        first = (await h.github("pull_request", payloads.pull_request(), delivery="one")).json()
        same_id = (await h.github("ping", PING, delivery="one")).json()
        same_body = (await h.github("pull_request", payloads.pull_request())).json()
        assert first["status"] == "accepted"
        for repeated in (same_id, same_body):
            assert repeated["status"] == "duplicate"
            assert repeated["run_id"] == first["run_id"]
            assert repeated["event_id"] == first["event_id"]
        assert len(h.log.events) == 1
        assert len(h.hinted) == 1


async def test_form_encoded_deliveries_are_understood() -> None:
    async with house() as h:
        body = urlencode({"payload": orjson.dumps(payloads.pull_request()).decode()}).encode()
        kind = {"content-type": "application/x-www-form-urlencoded"}
        answer = await h.github("pull_request", body, headers=kind)
        assert answer.json()["status"] == "accepted"
        for broken in (b"other=1", b"payload", b"payload=%7B"):
            assert (await h.github("ping", broken, headers=kind)).status_code == 400


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"", "empty"), (b"{", "line 1"), (b'{\n "a": }', "line 2, column 7"), (b"\xff\xfe", "JSON")],
)
async def test_broken_json_is_refused_with_its_place(body: bytes, words: str) -> None:
    async with house() as h:
        answer = await h.github("push", body)
        assert answer.status_code == 400
        assert words in answer.json()["error"]


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"text"'])
async def test_a_payload_that_is_no_object_is_recorded(body: bytes) -> None:
    async with house() as h:
        answer = await h.github("push", body)
        assert (answer.status_code, answer.json()["status"]) == (202, "ignored")
        assert isinstance(h.last[0].body, Unhandled)


async def test_other_content_types_are_refused() -> None:
    async with house() as h:
        for kind in ("text/plain", "application/xml", "application/json; charset=utf-16"):
            answer = await h.github("ping", PING, headers={"content-type": kind})
            assert answer.status_code == 415, kind
        packed = await h.github("ping", PING, headers={"content-encoding": "gzip"})
        assert packed.status_code == 415


@pytest.mark.parametrize(
    "failure", [psycopg.OperationalError("server closed"), ConnectionRefusedError("no")]
)
async def test_a_database_that_is_away_is_a_503_to_be_sent_again(failure: Exception) -> None:
    async with house() as h:
        h.log.failure = failure
        answer = await h.github("ping", PING)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "5"
        assert "server closed" not in answer.text


async def test_a_nul_in_a_title_does_not_reach_the_database() -> None:
    async with house() as h:
        await h.github("pull_request", payloads.pull_request(title="a\0b"))
        body = h.last[0].body
        assert isinstance(body, PullRequestChanged)
        assert body.title == "a\N{REPLACEMENT CHARACTER}b"


async def test_answers_and_logs_hold_nothing_of_the_payload_or_the_secrets(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with house() as h:
        leak = "s3cr3t-in-payload"
        answers = [
            await h.github("push", f'{{"a": "{leak}", }}'.encode()),
            await h.github("push", {"ref": 7, "token": leak}),
            await h.github("ping", {"token": leak}, secret=b"other"),
        ]
        said = "".join(answer.text for answer in answers) + "".join(capsys.readouterr())
        assert leak not in said
        assert SECRET.decode() not in said


# ---- what payloads mean --------------------------------------------------------------------


def pushed(*commits: dict[str, Any], **changes: Any) -> Pushed:
    """The event of a push."""
    body = understand("push", payloads.push(*commits, **changes)).body
    assert isinstance(body, Pushed), body
    return body


def test_a_pull_request_is_read() -> None:
    body = understand("pull_request", payloads.pull_request("synchronize")).body
    assert isinstance(body, PullRequestChanged)
    assert (body.repo, body.number, body.action) == ("acme/shop", 7, "synchronize")
    assert (body.head_sha, body.base_ref, body.default_branch) == (payloads.HEAD, "main", "main")
    assert body.merge_sha is None, "a trial merge is no merge"
    assert not body.from_fork


def test_a_merged_pull_request_names_its_commit_and_who_merged() -> None:
    merged = payloads.pull_request("closed", merged=True, merged_by=payloads.user("bob"))
    body = understand("pull_request", merged).body
    assert isinstance(body, PullRequestChanged)
    assert body.merged
    assert body.merge_sha == payloads.MERGE
    assert body.merged_by is not None
    assert body.merged_by.login == "bob"


@pytest.mark.parametrize("repo", [None, {"full_name": "mallory/shop"}])
def test_a_head_in_another_or_a_deleted_repository_is_a_fork(repo: object) -> None:
    head = {"sha": payloads.HEAD, "ref": "x", "repo": repo}
    body = understand("pull_request", payloads.pull_request(head=head)).body
    assert isinstance(body, PullRequestChanged)
    assert body.from_fork


def test_a_push_lists_what_all_its_commits_touched() -> None:
    body = pushed(payloads.commit("b", "a"), payloads.commit("b", added=["c"], removed=["docs/d"]))
    assert body.paths == ("a", "b", "c", "docs/d")
    assert not body.forced
    assert pushed(payloads.commit("a"), forced=True).forced


@pytest.mark.parametrize(
    "changes",
    [
        {"forced": True},
        {"created": True},
        {"before": "0" * 40},
        {"size": 3},
        {"commits": None},
        {"commits": [payloads.commit("a")] * 2048},
        {"commits": [{"id": "x"}]},
        {"commits": [None]},
        {"commits": [payloads.commit("a", added=[1])]},  # type: ignore[list-item]
        {"commits": [], "head_commit": payloads.commit("a")},
    ],
)
def test_paths_are_unknown_where_the_payload_does_not_tell_them_all(
    changes: dict[str, Any],
) -> None:
    assert pushed(payloads.commit("a"), **changes).paths is None


def test_an_annotated_tag_is_released_at_its_commit() -> None:
    tag = payloads.push(payloads.commit("a"), ref="refs/tags/v1.0/rc", after="f" * 40)
    body = understand("push", tag).body
    assert isinstance(body, Tagged)
    assert (body.tag, body.sha) == ("v1.0/rc", payloads.HEAD)


def test_a_deleted_tag_is_a_deletion() -> None:
    gone = payloads.push(ref="refs/tags/v1", deleted=True, after="0" * 40, head_commit=None)
    body = understand("push", gone).body
    assert isinstance(body, Tagged)
    assert body.deleted


@pytest.mark.parametrize(
    ("event", "key", "check", "conclusion"),
    [
        ("check_run", "check_run", {"status": "completed", "conclusion": "success"}, "success"),
        ("check_run", "check_run", {"status": "in_progress", "conclusion": None}, None),
        ("check_run", "check_run", {"status": "queued", "conclusion": "success"}, None),
        ("check_suite", "check_suite", {"status": "completed", "conclusion": "stale"}, "stale"),
        ("workflow_run", "workflow_run", {"status": "completed", "conclusion": "new!"}, "error"),
        ("workflow_run", "workflow_run", {"status": "completed", "conclusion": None}, None),
    ],
)
def test_checks_are_read_and_an_unknown_end_is_no_success(
    event: str, key: str, check: dict[str, Any], conclusion: str | None
) -> None:
    payload = {key: {"head_sha": "abc", "name": "ci", **check}, "repository": payloads.REPOSITORY}
    body = understand(event, payload).body
    assert isinstance(body, CheckResult)
    assert (body.source, body.sha, body.conclusion) == (event, "abc", conclusion)


@pytest.mark.parametrize(
    ("state", "conclusion"),
    [("success", "success"), ("pending", None), ("failure", "failure"), ("error", "error")],
)
def test_commit_statuses_are_read(state: str, conclusion: str | None) -> None:
    payload = {
        "sha": "abc",
        "state": state,
        "context": "ci/x",
        "repository": payloads.REPOSITORY,
    }
    body = understand("status", payload).body
    assert isinstance(body, CheckResult)
    assert (body.name, body.conclusion) == ("ci/x", conclusion)


def test_commands_in_a_comment_carry_who_where_and_their_standing() -> None:
    understood = understand("issue_comment", payloads.comment("hi\n/approve\n/aprove"))
    body = understood.body
    assert isinstance(body, Commanded)
    assert [one.name for one in body.commands] == [CommandName.APPROVE]
    assert (body.author.login, body.association) == ("alice", "MEMBER")
    assert (body.repo, body.number, body.comment_id) == ("acme/shop", 7, 99)
    assert body.roles == (), "a comment gives nobody a role"
    assert "did you mean /approve?" in understood.remarks[0]


@pytest.mark.parametrize(
    "payload",
    [
        {**payloads.comment("/approve"), "action": "edited"},
        {**payloads.comment("/approve"), "action": "deleted"},
        {**payloads.comment("/approve"), "issue": {"number": 7}},
        payloads.comment("/approve", user=payloads.user("dependabot[bot]", "Bot")),
        payloads.comment("/approve", user=payloads.user("sneaky[bot]")),
        payloads.comment("/approve", user=payloads.user("Our-Account")),
        payloads.comment("no commands here"),
        payloads.comment("/lgtm"),
        payloads.comment("> /approve"),
        {**payloads.comment("/approve"), "comment": {"id": 1, "body": None}},
    ],
)
def test_comments_that_command_nothing_are_recorded_as_such(payload: dict[str, Any]) -> None:
    understood = understand("issue_comment", payload, account="our-account")
    assert isinstance(understood.body, Unhandled)


@pytest.mark.parametrize(
    "payload",
    [
        payloads.pull_request(number=2**31),
        payloads.pull_request(number="7"),
        payloads.pull_request(number=True),
        payloads.pull_request(head={"sha": "a b", "ref": "x"}),
        payloads.pull_request(head={"sha": "$(id)", "ref": "x"}),
        payloads.pull_request(head={"sha": "a" * 65, "ref": "x"}),
        payloads.pull_request(head={"sha": "abc", "ref": "x" * 256}),
        {**payloads.pull_request(), "repository": {"full_name": "r" * 300, "default_branch": "m"}},
    ],
)
def test_values_that_could_not_be_stored_or_acted_on_are_recorded_as_a_problem(
    payload: dict[str, Any],
) -> None:
    understood = understand("pull_request", payload)
    assert isinstance(understood.body, Unhandled)
    assert understood.problem


@pytest.mark.parametrize(
    ("counts", "lines"),
    [
        ({"additions": 12, "deletions": 3}, 15),
        ({"additions": 12}, None),
        ({"additions": True, "deletions": 3}, None),
        ({"additions": "12", "deletions": 3}, None),
        ({"additions": -1, "deletions": 3}, None),
    ],
)
def test_the_size_of_a_pull_request_is_known_when_both_counts_are_told(
    counts: dict[str, object], lines: int | None
) -> None:
    payload = payloads.pull_request("opened")
    for name in ("additions", "deletions"):
        payload["pull_request"].pop(name, None)
    payload["pull_request"] |= counts
    body = understand("pull_request", payload).body
    assert isinstance(body, PullRequestChanged)
    assert body.lines == lines
