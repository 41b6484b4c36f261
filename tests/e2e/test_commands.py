"""Slash commands in signed comments, and what newer changes do to waiting ones."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.api import Json, assert_every_effect_was_decided, changes_in, deciding, weights
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.house import Town, open_town, slow_services

MONDAY_MORNING = datetime(2026, 3, 2, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
FRIDAY_EVENING = datetime(2026, 3, 6, 18, 1, tzinfo=ZoneInfo("Europe/Berlin"))
REPO = "acme/checkout"
_NUMBERS = itertools.count(200)


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A Monday, with canaries that bake for a quarter of an hour (six real seconds)."""
    data = tmp_path_factory.mktemp("commands")
    async with open_town(data, MONDAY_MORNING, slow_services(data, "15m")) as open_:
        yield open_


async def asking(town: Town, *, author: str = "ada") -> tuple[int, str, Json]:
    """(pull request, run, question) of a release that waits for an approval."""
    number = next(_NUMBERS)
    payload = merged(REPO, number, sha_of(f"commands {number}"), author=author, merger=author)
    run = await town.admin.started("pull_request", payload)
    return number, run, await town.admin.question(run)


async def said(town: Town, number: int, body: str, *, by: str, association: str = "NONE") -> Json:
    """What the webhook answers to a comment."""
    payload = comment(REPO, number, body, by=by, association=association)
    answer = await town.admin.github("issue_comment", payload)
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


async def ended(town: Town, run: str, number: int) -> Json:
    """Cancel a run that has told what it was asked for, so that the next one finds no lock."""
    await town.admin.tell(run, "cancel")
    return await town.admin.until_over(run)


async def test_approve_by_an_owner_resumes_the_run(town: Town) -> None:
    number, run, question = await asking(town)
    told = await said(town, number, "Looks right.\n\n/approve", by="olga", association="OWNER")
    assert (told["status"], told["run_id"]) == ("accepted", run)
    seen = await town.admin.until_step(run, "checkout/prod.canary-10.check")
    (approval,) = [one for one in seen["approvals"] if one["id"] == question["id"]]
    (vote,) = approval["votes"]
    assert (vote["principal"], vote["via"], vote["decision"]) == ("olga", "comment", "approve")
    over = await town.admin.until_over(run)
    assert over["state"] == "succeeded", over["reason"]
    assert_every_effect_was_decided(over)


async def test_approve_by_the_author_is_refused_and_the_reason_can_be_seen(town: Town) -> None:
    number, run, question = await asking(town, author="olga")
    await said(town, number, "/approve", by="olga", association="OWNER")
    await said(town, number, "/hold", by="olga", association="OWNER")
    seen = await town.admin.until(
        run, "the hold", lambda one: "run.held" in deciding(one["decisions"][-1]), 30
    )
    (approval,) = [one for one in seen["approvals"] if one["id"] == question["id"]]
    assert approval["state"] == "pending"
    assert not approval["votes"]
    page = await town.admin.http.get(
        f"{town.admin.url}/runs/{run}", headers={"Authorization": f"Bearer {town.admin.token}"}
    )
    assert "olga made this change" in page.text
    assert changes_in(seen, "prod") == []
    await ended(town, run, number)


async def test_words_of_strangers_and_bots_count_for_nothing(town: Town) -> None:
    number, run, _ = await asking(town)
    await said(town, number, "/approve", by="mallory", association="NONE")
    await said(town, number, "/cancel", by="mallory", association="CONTRIBUTOR")
    bot = comment(REPO, number, "/approve", by="helper[bot]", association="OWNER", kind="Bot")
    assert (await town.admin.github("issue_comment", bot)).json()["status"] == "ignored"
    # Signals are read in their order: when the hold has been seen, the others have been, too.
    await said(town, number, "/hold", by="olga", association="OWNER")
    seen = await town.admin.until(
        run, "the hold", lambda one: "run.held" in deciding(one["decisions"][-1]), 30
    )
    assert all(one["state"] == "pending" for one in seen["approvals"])
    assert not any("run.cancelled" in deciding(one) for one in seen["decisions"])
    await said(town, number, "/resume", by="olga", association="OWNER")
    await town.admin.until_state(run, "needs_approval")
    await ended(town, run, number)


@pytest.mark.parametrize("environment", ["staging", "prod"])
async def test_a_stranger_cannot_deploy(town: Town, environment: str) -> None:
    text = f"/deploy checkout {environment} {sha_of('whatever a stranger has built')}"
    told = await said(town, 199, text, by="mallory", association="NONE")
    over = await town.admin.until_over(told["run_id"])
    assert over["state"] == "denied", over["reason"]
    assert "mallory may not give this command" in over["reason"]
    assert changes_in(over, "staging") + changes_in(over, "prod") == []


async def test_a_rollback_without_a_known_good_version_fails_and_says_so(town: Town) -> None:
    payload = comment("acme/platform", 190, "/rollback search prod", by="olga", association="OWNER")
    answer = await town.admin.github("issue_comment", payload)
    over = await town.admin.until_over(answer.json()["run_id"])
    assert over["state"] == "failed", over["reason"]
    assert "No earlier version of search/prod is known to be good" in over["reason"]


async def test_cancel_in_mid_canary_goes_back_and_ends_cancelled(town: Town) -> None:
    number, run, question = await asking(town)
    assert (await town.who("grace").vote(question)).status_code == 200
    await town.admin.until_step(run, "checkout/prod.canary-10.check")
    await said(town, number, "/cancel", by="olga", association="OWNER")
    over = await town.admin.until_over(run)
    assert over["state"] == "cancelled", over["reason"]
    assert "olga" in over["reason"]
    assert weights(over) == [10, 0]
    assert_every_effect_was_decided(over)
    assert [one["action_kind"] for one in over["effects"]].count("k8s_retire") == 1


async def test_a_newer_merge_supersedes_one_that_waits(town: Town) -> None:
    _, older, question = await asking(town)
    _, newer, _ = await asking(town)
    over = await town.admin.until_over(older)
    assert over["state"] == "superseded", over["reason"]
    assert over["superseded_by"] == newer
    late = await town.who("grace").vote(question)
    assert late.status_code == 409, late.text
    (approval,) = [one for one in over["approvals"] if one["id"] == question["id"]]
    assert approval["state"] == "dismissed"
    await ended(town, newer, 0)


@pytest.fixture(scope="module")
async def weekend(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """A Friday evening, a minute after the change window of production has closed."""
    data = tmp_path_factory.mktemp("friday")
    async with open_town(data, FRIDAY_EVENING, slow_services(data, "3m")) as open_:
        yield open_


def overrides_accepted(run: Json) -> set[str]:
    """What the decisions of a run say about overrides that they took."""
    return {
        rule["reason"]
        for one in run["decisions"]
        for rule in one["decision"]["rules"]
        if rule["rule"] == "override.accepted"
    }


async def test_friday_evening_is_denied_and_an_override_starts_it_again(weekend: Town) -> None:
    run = await weekend.admin.started("pull_request", merged(REPO, 7, sha_of("friday")))
    denied = await weekend.admin.until_over(run)
    assert denied["state"] == "denied"
    assert "[windows.closed]" in denied["reason"]
    assert "It opens Mon 2026-03-09 08:00 Europe/Berlin" in denied["reason"]
    assert changes_in(denied, "prod") == []

    refused = await weekend.who("vic").tell(run, "override", "checkout is down for everyone")
    assert refused.status_code == 403
    too_short = await weekend.who("lin").tell(run, "override", "because")
    assert too_short.status_code == 422
    answer = await weekend.who("lin").tell(run, "override", "wrong tax is charged right now")
    assert answer.status_code == 200, answer.text
    again = answer.json()["run_id"]
    assert again != run
    # The override lifts the window, and nothing else: production still asks.
    question = await weekend.admin.question(again)
    assert (await weekend.who("grace").vote(question)).status_code == 200
    over = await weekend.admin.until_over(again)
    assert over["state"] == "succeeded", over["reason"]
    (reason,) = overrides_accepted(over)
    assert "lin" in reason
    assert "wrong tax" in reason
    (told,) = [one for one in over["effects"] if one["step_id"] == "checkout/prod.override"]
    assert told["state"] == "applied"
    assert told["action"]["channel"] == "team-checkout"
    assert "wrong tax" in told["action"]["text"]


async def test_override_as_a_comment_starts_a_denied_change_again(weekend: Town) -> None:
    run = await weekend.admin.started("pull_request", merged(REPO, 9, sha_of("again")))
    over = await weekend.admin.until_over(run)
    assert over["state"] == "denied"

    async def override(at: datetime) -> Json:
        text = "/override checkout is down for everyone"
        told = comment(REPO, 9, text, by="olga", association="OWNER", at=at)
        return dict((await weekend.admin.github("issue_comment", told)).json())

    began, ended = (datetime.fromisoformat(over[one]) for one in ("created_at", "finished_at"))
    late = await override(began - timedelta(minutes=1))
    assert "older than run" in late["reason"]
    assert (await weekend.admin.run(late["run_id"]))["goal"] == "answer"
    # written when the run had ended, received later, as webhooks are: the run that it begins is
    # younger than the comment, and is overridden all the same
    again = (await override(ended))["run_id"]
    assert again not in (None, run)
    await weekend.admin.question(again)
    seen = await weekend.admin.run(again)
    assert seen["author"] == "ada"
    (reason,) = overrides_accepted(seen)
    assert "olga" in reason
    assert (await weekend.admin.tell(again, "cancel")).status_code == 200
    assert (await weekend.admin.until_over(again))["state"] == "cancelled"


async def test_override_as_a_comment_counts_with_the_right_role_only(weekend: Town) -> None:
    repo, number = "acme/platform", 8
    run = await weekend.admin.started("pull_request", merged(repo, number, sha_of("comment")))
    for by, association in (("mallory", "NONE"), ("olga", "OWNER")):
        text = f"/override {by} says that search is down"
        told = comment(repo, number, text, by=by, association=association)
        assert (await weekend.admin.github("issue_comment", told)).json()["run_id"] == run
    bare = comment(repo, number, "/override", by="olga", association="OWNER")
    assert (await weekend.admin.github("issue_comment", bare)).status_code == 202
    question = await weekend.admin.question(run, 90)
    assert question["environment"] == "prod"
    listed = await weekend.admin.get("/api/refusals")
    assert any("An override needs a reason" in one["reason"] for one in listed["refusals"])
    seen = await weekend.admin.run(run)
    (reason,) = overrides_accepted(seen)
    assert "olga says that search is down" in reason
    assert "mallory" not in reason
    assert (await weekend.admin.tell(run, "cancel")).status_code == 200
    assert (await weekend.admin.until_over(run))["state"] == "cancelled"
