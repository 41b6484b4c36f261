"""Which runs and signals each kind of event asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.event import (
    Actor,
    Alert,
    AlertGroup,
    CheckResult,
    Command,
    Commanded,
    CommandName,
    Event,
    EventBody,
    PullRequestChanged,
    Pushed,
    Tagged,
    Unhandled,
)
from domain.intake import Address, Ignore, Intake, SendSignal, StartRun
from tests.web.twin import CATALOGUE
from web.correlate import correlate, group_fingerprint, spelled

ALICE = Actor(login="alice")
NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


def ask(body: EventBody, delivery: str = "d-1") -> tuple[Intake, ...]:
    """The intakes of a body."""
    event = Event(
        id=UUID(int=1),
        source="api",
        delivery_id=delivery,
        body_digest="0" * 64,
        received_at=NOW,
        body=body,
    )
    return correlate(event, CATALOGUE)


def start(body: EventBody, delivery: str = "d-1") -> StartRun:
    """The one run that a body starts."""
    (only,) = ask(body, delivery)
    assert isinstance(only, StartRun), only
    return only


def reason(body: EventBody) -> str:
    """Why a body is ignored."""
    (only,) = ask(body)
    assert isinstance(only, Ignore), only
    return only.reason


def pull(**changes: Any) -> PullRequestChanged:
    return PullRequestChanged.model_validate(
        {
            "action": "opened",
            "merged": False,
            "repo": "acme/shop",
            "number": 7,
            "title": "Add coupons",
            "author": ALICE,
            "head_sha": "head1",
            "head_ref": "coupons",
            "base_sha": "base1",
            "base_ref": "main",
            "default_branch": "main",
            **changes,
        }
    )


def push(**changes: Any) -> Pushed:
    return Pushed.model_validate(
        {
            "repo": "acme/shop",
            "branch": "main",
            "default_branch": "main",
            "sha": "sha1",
            "before": "sha0",
            "author": ALICE,
            "paths": ("checkout/app.py",),
            **changes,
        }
    )


def command(name: str, *args: str, api: bool = False, **changes: Any) -> Commanded:
    place = {} if api else {"repo": "acme/shop", "number": 7, "comment_id": 99}
    return Commanded.model_validate(
        {
            "commands": (Command(name=CommandName(name), args=args),),
            "author": ALICE,
            **place,
            **changes,
        }
    )


def alert(service: str | None, status: str = "firing", name: str = "HighErrorRate") -> Alert:
    labels = {"alertname": name, **({"service": service} if service else {})}
    return Alert.model_validate(
        {
            "name": name,
            "status": status,
            "fingerprint": f"{name}{service}",
            "labels": labels,
            "annotations": {"summary": "too many errors"},
            "starts_at": NOW,
        }
    )


def group(*alerts: Alert, status: str = "firing") -> AlertGroup:
    return AlertGroup.model_validate(
        {"group_key": "{}:{alertname=x}", "status": status, "receiver": "f", "alerts": alerts}
    )


@pytest.mark.parametrize("action", ["opened", "synchronize", "reopened"])
def test_a_new_head_of_a_pull_request_is_previewed_and_replaces_older_heads(action: str) -> None:
    run, *others = ask(pull(action=action))
    assert isinstance(run, StartRun)
    # a question about the head before it has to be looked at again
    told = [one.kind for one in others if isinstance(one, SendSignal)]
    assert told == (["pushed"] if action == "synchronize" else [])
    assert run.goal == "preview"
    assert run.change_key == "pr:acme/shop#7@head1"
    assert run.supersede_group == "pr:acme/shop#7"
    assert (run.repo, run.number, run.sha) == ("acme/shop", 7, "head1")


def test_a_merge_and_its_push_are_one_release() -> None:
    merge = start(pull(action="closed", merged=True, merge_sha="sha1"))
    pushed = start(push())
    assert merge.goal == pushed.goal == "release"
    assert merge.change_key == pushed.change_key == "release:acme/shop@sha1"
    assert merge.supersede_group == pushed.supersede_group == "release:acme/shop:main"
    assert merge.thread_id == pushed.thread_id
    assert merge.number == 7


def test_a_branch_that_is_moved_back_is_released_again() -> None:
    first, back = start(push()), start(push(forced=True, paths=None), "d-2")
    assert back.thread_id != first.thread_id
    assert (back.sha, back.supersede_group) == (first.sha, first.supersede_group)
    preview, _ = ask(pull(action="synchronize"))
    assert isinstance(preview, StartRun)
    assert preview.again


def test_a_closed_pull_request_tells_the_runs_of_its_head() -> None:
    (only,) = ask(pull(action="closed"))
    assert isinstance(only, SendSignal)
    assert only.kind == "closed"
    assert only.address == Address(repo="acme/shop", number=7, sha="head1")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (pull(action="closed", merged=True, merge_sha="m", base_ref="v1"), "merged into v1"),
        (pull(action="closed", merged=True), "names no commit"),
        (pull(repo="acme/other"), "no service in services.yaml has repo acme/other"),
        (push(repo="acme/shopp"), "did you mean acme/shop?"),
        (push(branch="coupons"), "only main is released"),
        (push(deleted=True), "was deleted"),
        (push(paths=("README.md", "docs/a.md")), "no path of checkout, catalog"),
        (push(paths=()), "no path of"),
        (Tagged(repo="acme/shop", tag="v1", sha="s", author=ALICE, deleted=True), "was deleted"),
        (Tagged(repo="a/b", tag="v1", sha="s", author=ALICE), "no service"),
        (CheckResult(source="status", repo="a/b", sha="s", name="ci"), "no service"),
        (Unhandled(what="nothing to do for ping"), "nothing to do for ping"),
        (command("deploy", "checkout"), "usage: /deploy"),
        (command("deploy", "checkot", "prod"), "did you mean checkout?"),
        (command("deploy", "zzz", "prod"), "there are checkout, catalog, mail"),
        (command("deploy", "checkout", "prdo"), "did you mean prod?"),
        (command("deploy", "checkout", "prod", "a;b"), "not a commit"),
        (command("deploy", "checkout", "prod", "abc", "def"), "more than it takes"),
        (command("deploy", "mail", "prod"), "built from acme/mail"),
        (command("rollback", "checkout"), "usage: /rollback"),
        (command("approve", api=True), "which run is meant"),
        (group(alert(None, "resolved"), status="resolved"), "names no service"),
    ],
)
def test_an_event_that_asks_for_nothing_says_why(body: EventBody, words: str) -> None:
    assert words in reason(body)


def test_paths_that_are_not_known_count_as_touching_a_service() -> None:
    assert start(push(paths=None)).goal == "release"


def test_a_repository_is_found_in_any_case_and_spelt_as_in_the_catalogue() -> None:
    body = spelled(push(repo="Acme/Shop"), CATALOGUE)
    assert start(body).change_key == "release:acme/shop@sha1"
    assert spelled(push(repo="Acme/Else"), CATALOGUE) == push(repo="Acme/Else")


def test_a_tag_is_released_beside_the_branch() -> None:
    run = start(Tagged(repo="acme/shop", tag="v1.2", sha="sha1", author=ALICE))
    assert run.change_key == "release:acme/shop@sha1#tag:v1.2"
    assert run.goal == "release"


def test_a_check_result_is_told_to_the_runs_of_its_commit() -> None:
    result = CheckResult(
        source="check_run", repo="acme/shop", sha="sha1", name="test", conclusion="failure"
    )
    (only,) = ask(result)
    assert isinstance(only, SendSignal)
    assert (only.kind, only.address) == ("ci_result", Address(repo="acme/shop", sha="sha1"))
    assert only.payload["conclusion"] == "failure"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (command("deploy", "checkout", "prod", "abc1"), "release:checkout:prod:abc1"),
        (command("deploy", "checkout", "prod"), "release:checkout:prod:acme/shop#7:99"),
        (command("deploy", "checkout", "prod", api=True), "release:checkout:prod:@d-9"),
        (command("rollback", "checkout", "prod"), "rollback:checkout:prod:d-9"),
        (command("rollback", "mail", "prod", "it", "burns", api=True), "rollback:mail:prod:d-9"),
    ],
)
def test_deploy_and_rollback_start_a_run_of_their_own(body: Commanded, key: str) -> None:
    run = start(body, "d-9")
    assert run.change_key == key
    assert run.goal == key.split(":")[0]
    assert run.author == ALICE


def test_a_deploy_that_is_asked_for_again_runs_again() -> None:
    assert start(command("deploy", "checkout", "prod", "abc1")).again


def test_one_comment_starts_one_run_and_says_what_it_leaves() -> None:
    both = command("deploy", "checkout", "staging").model_copy(
        update={
            "commands": (
                Command(name=CommandName.DEPLOY, args=("checkout", "staging"), line=1),
                Command(name=CommandName.DEPLOY, args=("catalog", "prod"), line=2),
            )
        }
    )
    first, second = ask(both)
    assert isinstance(first, StartRun)
    assert isinstance(second, Ignore)
    assert "line 2" in second.reason
    assert "/deploy catalog prod" in second.reason


@pytest.mark.parametrize("name", ["approve", "reject", "hold", "resume", "cancel"])
def test_a_command_on_a_pull_request_is_told_to_its_runs(name: str) -> None:
    (only,) = ask(command(name, "looks", "fine", association="MEMBER"))
    assert isinstance(only, SendSignal)
    assert only.kind == name
    assert only.address == Address(repo="acme/shop", number=7)
    assert only.payload == {
        "author": "alice",
        "is_bot": False,
        "association": "MEMBER",
        "roles": [],
        "args": ["looks", "fine"],
        "reason": "looks fine",
        "comment_id": 99,
        "said_at": None,
        "number": 7,
        "repo": "acme/shop",
    }


@pytest.mark.parametrize("name", ["retry", "override"])
def test_retry_and_override_reach_runs_that_have_ended(name: str) -> None:
    (only,) = ask(command(name, "because"))
    assert isinstance(only, SendSignal)
    assert only.address.include_final


def test_a_run_named_through_the_api_is_addressed_by_its_prefix() -> None:
    (only,) = ask(command("approve", "3F2A91c0", "fine", api=True, roles=("sre-lead",)))
    assert isinstance(only, SendSignal)
    assert only.address == Address(run="3f2a91c0")
    assert only.payload["reason"] == "fine"
    assert only.payload["roles"] == ["sre-lead"]


def test_a_run_named_in_a_comment_has_to_be_of_the_same_repository() -> None:
    (only,) = ask(command("cancel", "3f2a91c0"))
    assert isinstance(only, SendSignal)
    assert only.address == Address(run="3f2a91c0", repo="acme/shop")


def test_a_vote_that_names_a_run_or_a_digest_reaches_both_readings() -> None:
    by_run, by_number = ask(command("approve", "3f2a91c0", "fine"))
    assert isinstance(by_run, SendSignal)
    assert isinstance(by_number, SendSignal)
    assert by_run.address == Address(run="3f2a91c0", repo="acme/shop")
    assert by_number.address == Address(repo="acme/shop", number=7)
    assert by_number.payload["args"] == ["3f2a91c0", "fine"]


def test_a_firing_group_starts_an_incident_for_each_service_and_warns_its_releases() -> None:
    body = group(alert("checkout"), alert("checkout", name="Slow"), alert("mail"), alert("nope"))
    intakes = ask(body)
    mark = group_fingerprint(body)
    runs = [one for one in intakes if isinstance(one, StartRun)]
    assert [run.change_key for run in runs] == [
        f"incident:{mark}:checkout",
        f"incident:{mark}:mail",
    ]
    assert {run.goal for run in runs} == {"notify"}
    assert "HighErrorRate and 1 more on checkout" in runs[0].title
    signals = [one for one in intakes if isinstance(one, SendSignal)]
    assert [one.address for one in signals] == [
        Address(service="checkout"),
        Address(service="mail"),
    ]
    assert signals[0].payload["count"] == 2


def test_alerts_of_no_known_service_still_start_an_incident() -> None:
    body = group(alert("nope"), alert(None))
    assert start(body).change_key == f"incident:{group_fingerprint(body)}"


def test_a_group_that_fires_again_after_its_incident_ended_is_a_new_run() -> None:
    assert start(group(alert(None))).again


def test_a_resolved_group_starts_nothing_and_is_told_to_its_service() -> None:
    (only,) = ask(group(alert("checkout", "resolved"), status="resolved"))
    assert isinstance(only, SendSignal)
    assert only.address == Address(service="checkout")
    assert only.payload["status"] == "resolved"


def test_an_alert_that_is_already_resolved_in_a_firing_group_opens_nothing() -> None:
    body = group(alert("checkout"), alert("mail", "resolved"))
    keys = [one.change_key for one in ask(body) if isinstance(one, StartRun)]
    assert keys == [f"incident:{group_fingerprint(body)}:checkout"]


@pytest.mark.parametrize(
    "many",
    [{"environment": "staging"}, {"severity": "warning"}, {"starts_at": NOW - timedelta(hours=1)}],
)
def test_an_alert_that_counts_is_not_lost_behind_many_that_do_not(many: dict[str, Any]) -> None:
    at = many.get("starts_at", NOW)
    labels = {key: value for key, value in many.items() if isinstance(value, str)}
    others = [
        one.model_copy(
            update={"fingerprint": f"f{n}", "labels": one.labels | labels, "starts_at": at}
        )
        for n, one in enumerate([alert("mail")] * 1000)
    ]
    (_, told) = ask(group(*others, alert("mail", name="Counts")))
    assert isinstance(told, SendSignal)
    assert "Counts" in [one["name"] for one in told.payload["alerts"]]
    assert told.payload["count"] == 1001
    assert len(told.payload["alerts"]) < 50
