"""Notifications against local webhooks that check the shape of every message."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from domain.action import GitCommentPr, Notify, action_digest
from domain.effect import Stamp
from domain.errors import LeaseLost, OutcomeUnknown, Permanent, Temporary
from tests.artifacts import keep
from tests.servers.local import Fault
from tests.servers.slack import SlackServer, block_problems, unescaped
from tools.notify import SlackNotifier, WebhookNotifier, idempotency_key
from tools.notify_twin import NotifyTwin
from tools.slack_message import slack_message

RUN = UUID("00000000-0000-4000-8000-000000000001")
NOTICE = Notify(
    channel="team-checkout",
    severity="critical",
    title="checkout was rolled back",
    text="8.1% errors (41 of 506) & <rising>",
    links=(("Run page", "https://fermata.example/runs/1"),),
)


def stamp(action: Notify = NOTICE, step: str = "report.notify", run: UUID = RUN) -> Stamp:
    return Stamp(run_id=run, step_id=step, digest=action_digest(action), decision_id=RUN)


async def allow() -> None:
    return None


@pytest.fixture
async def server() -> AsyncIterator[SlackServer]:
    async with SlackServer() as server:
        yield server


@pytest.fixture
async def slack(server: SlackServer) -> AsyncIterator[SlackNotifier]:
    notifier = SlackNotifier(SecretStr(server.slack_url), per_second=1000, timeout_seconds=0.5)
    yield notifier
    await notifier.aclose()


@pytest.fixture
async def webhook(server: SlackServer) -> AsyncIterator[WebhookNotifier]:
    notifier = WebhookNotifier(SecretStr(server.plain_url), per_second=1000, timeout_seconds=0.5)
    yield notifier
    await notifier.aclose()


# --- what is sent --------------------------------------------------------------------------------


async def test_slack_gets_blocks_and_a_fallback_with_everything_escaped(
    server: SlackServer, slack: SlackNotifier
) -> None:
    applied = await slack.apply(NOTICE, stamp(), allow)
    (message,) = server.messages
    header, text, links, context = message["blocks"]
    assert header["text"]["text"] == ":rotating_light: checkout was rolled back"
    assert text["text"]["text"] == "8.1% errors (41 of 506) &amp; &lt;rising&gt;"
    assert links["text"]["text"] == "<https://fermata.example/runs/1|Run page>"
    assert context["elements"][0]["text"] == "critical · for team-checkout"
    assert message["text"].startswith("[critical] checkout was rolled back\n8.1% errors")
    assert not applied.simulated
    assert "team-checkout" in applied.summary


async def test_text_from_outside_can_neither_call_nor_link(
    server: SlackServer, slack: SlackNotifier
) -> None:
    hostile = "<!channel> <https://evil.example|your bank> <@U123> https://evil.example #general"
    notice = NOTICE.model_copy(
        update={
            "title": hostile,
            "text": hostile,
            "channel": hostile,
            "links": (
                ("a|b>c", "https://ok.example/?a=1&b=2"),
                ("no", "javascript:alert(1)"),
                ("no", "https://evil.example|x> <!here>"),
            ),
        }
    )
    await slack.apply(notice, stamp(notice), allow)
    (message,) = server.messages
    section = message["blocks"][1]["text"]["text"]
    assert "<" not in section
    assert message["blocks"][1]["text"]["verbatim"] is True
    assert message["blocks"][2]["text"]["text"] == "<https://ok.example/?a=1&amp;b=2|a b&gt;c>"


async def test_a_long_text_is_cut_to_what_slack_takes(
    server: SlackServer, slack: SlackNotifier
) -> None:
    links = tuple((f"link {n}", "https://fermata.example/" + "x" * 900) for n in range(20))
    notice = NOTICE.model_copy(update={"title": "t" * 500, "text": "&" * 9000, "links": links})
    await slack.apply(notice, stamp(notice), allow)
    (message,) = server.messages
    assert message["blocks"][1]["text"]["text"].endswith(" …")
    assert len(message["blocks"][0]["text"]["text"]) == 150


async def test_a_notice_without_words_is_still_a_message(
    server: SlackServer, slack: SlackNotifier
) -> None:
    notice = Notify(channel="", severity="info", title=" ", text="\n")
    await slack.apply(notice, stamp(notice), allow)
    assert server.messages[0]["blocks"][0]["text"]["text"].endswith("Fermata")


@settings(max_examples=200, deadline=None)
@given(title=st.text(max_size=300), text=st.text(max_size=4000), channel=st.text(max_size=200))
def test_whatever_the_words_slack_would_take_them(title: str, text: str, channel: str) -> None:
    message = slack_message(Notify(channel=channel, severity="info", title=title, text=text))
    assert [said for block in message["blocks"] for said in block_problems(block)] == []
    assert unescaped(message["text"]) == []
    assert 1 <= len(message["text"]) <= 3000


async def test_a_generic_webhook_gets_every_field_and_a_key(
    server: SlackServer, webhook: WebhookNotifier
) -> None:
    await webhook.apply(NOTICE, stamp(), allow)
    ((key, body),) = server.plain.items()
    assert key == idempotency_key(stamp())
    assert body["text"] == NOTICE.text
    assert body["links"] == [{"label": "Run page", "url": "https://fermata.example/runs/1"}]
    assert (body["run_id"], body["step_id"]) == (str(RUN), "report.notify")


async def test_the_key_is_the_same_for_every_try_and_differs_between_runs(
    server: SlackServer, webhook: WebhookNotifier
) -> None:
    for _ in range(2):
        await webhook.apply(NOTICE, stamp(), allow)
    assert len(server.plain) == 1
    await webhook.apply(NOTICE, stamp(run=UUID(int=2)), allow)
    await webhook.apply(NOTICE, stamp(step="other"), allow)
    assert len(server.plain) == 3


async def test_a_lost_lease_stops_right_before_sending(
    server: SlackServer, slack: SlackNotifier
) -> None:
    async def lost() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        await slack.apply(NOTICE, stamp(), lost)
    assert server.seen == []


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"Retry-After": "30"}, 30),
        (429, {"Retry-After": "DATE"}, 90),
        (429, {"Retry-After": "99999999"}, 3600),
        (429, {}, None),
        (500, {}, None),
        (503, {"Retry-After": "5"}, 5),
    ],
)
async def test_a_limit_or_server_error_is_temporary(
    server: SlackServer,
    slack: SlackNotifier,
    status: int,
    headers: dict[str, str],
    wait: float | None,
) -> None:
    date = formatdate(time.time() + 90, usegmt=True)
    sent = {name: date if value == "DATE" else value for name, value in headers.items()}
    server.faults.append(Fault(status=status, headers=sent))
    with pytest.raises(Temporary, match=str(status)) as caught:
        await slack.apply(NOTICE, stamp(), allow)
    if wait is None:
        assert caught.value.retry_after is None
    else:
        assert caught.value.retry_after == pytest.approx(wait, abs=2)
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [301, 400, 403, 404, 410])
async def test_a_refusal_is_permanent_and_is_not_followed(
    server: SlackServer, slack: SlackNotifier, status: int
) -> None:
    headers = {"Location": server.plain_url} if status == 301 else {}
    server.faults.append(Fault(status=status, headers=headers))
    with pytest.raises(Permanent, match=str(status)) as caught:
        await slack.apply(NOTICE, stamp(), allow)
    assert "SLACK_WEBHOOK_URL" in caught.value.remedy
    assert len(server.seen) == 1


async def test_slacks_own_word_is_passed_on(server: SlackServer) -> None:
    notifier = SlackNotifier(SecretStr(server.url + "/services/gone"), per_second=1000)
    with pytest.raises(Permanent, match="404: no_service"):
        await notifier.apply(NOTICE, stamp(), allow)
    await notifier.aclose()


@pytest.mark.parametrize(
    "fault", [lambda: Fault(cut="before"), lambda: Fault(cut="after"), lambda: Fault(hang=True)]
)
async def test_a_lost_answer_is_unknown_and_slack_is_not_told_again(
    server: SlackServer, slack: SlackNotifier, fault: Callable[[], Fault]
) -> None:
    server.faults.append(fault())
    with pytest.raises(OutcomeUnknown):
        await slack.apply(NOTICE, stamp(), allow)
    found = await slack.read_back(NOTICE, stamp())
    assert found is not None
    assert found.data["unconfirmed"] is True
    assert NOTICE.title in found.data["title"]


async def test_a_receiver_that_is_not_there_is_temporary() -> None:
    async with SlackServer() as gone:
        url = gone.slack_url
    notifier = SlackNotifier(SecretStr(url), per_second=1000)
    with pytest.raises(Temporary, match="cannot be reached"):
        await notifier.apply(NOTICE, stamp(), allow)
    await notifier.aclose()


async def test_the_address_stands_in_no_error_log_or_representation(
    server: SlackServer, slack: SlackNotifier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = [repr(slack), str(vars(slack)["_url"])]
    shown: list[bool] = []
    faults = [Fault(status=500), Fault(status=404), Fault(cut="after"), Fault(hang=True), None]
    for fault in faults:
        server.faults = [fault] if fault else []
        try:
            said.append(repr(await slack.apply(NOTICE, stamp(), allow)))
        except (Temporary, Permanent, OutcomeUnknown) as error:
            said += [str(error), repr(error), getattr(error, "remedy", "")]
            shown.append(error.__suppress_context__ or error.__context__ is None)
    assert any("(hidden)" in record.getMessage() for record in caplog.records)
    ours = [record.getMessage() for record in caplog.records if "aiohttp" not in record.name]
    assert "s3cr3t" not in " ".join(said + ours)
    assert len(said) == 2 + 4 * 3 + 1
    assert shown == [True] * 4


@pytest.mark.parametrize(
    "url", ["", "hooks.example/x", "http://hooks.example/x", "ftp://hooks.example", "https://"]
)
def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(Permanent, match="NOTIFY_WEBHOOK_URL") as caught:
        WebhookNotifier(SecretStr(url))
    assert not url or url not in str(caught.value)


# --- dry run -------------------------------------------------------------------------------------


async def test_the_twin_renders_and_says_that_it_is_simulated() -> None:
    twin = NotifyTwin()
    applied = await twin.apply(NOTICE, stamp(), allow)
    assert applied.simulated
    assert applied.summary.startswith("dry run: notification of team-checkout rendered")
    assert applied.data["body"] == slack_message(NOTICE)
    assert twin.said == [NOTICE]
    assert await twin.read_back(NOTICE, stamp()) is None


async def test_another_kind_of_action_is_refused(slack: SlackNotifier) -> None:
    other = GitCommentPr(repo="acme/shop", number=7, marker="release", body="x")
    for notifier in (slack, NotifyTwin()):
        with pytest.raises(Permanent, match="git_comment_pr"):
            await notifier.apply(other, stamp(), allow)


AFTER = Notify(
    channel="team-checkout",
    severity="critical",
    title="Rolled back: New tax engine",
    text="checkout canary 8.1% errors (41 of 506) against 0.2% on stable (9 of 4,554)",
    links=(("Run", "https://fermata.example/runs/1"), ("Runbook", "https://wiki.example/co")),
    facts=(
        ("Why", "checkout canary 8.1% errors (41 of 506) against 0.2% on stable; allowed 1.0%"),
        ("Blast radius", "506 requests served by the new version (10% of the traffic), 41 errors"),
        ("Now", "checkout/prod is back on ghcr.io/acme/checkout:1f00aa4"),
    ),
    buttons=(("Retry", "https://fermata.example/runs/1#signal-retry"),),
    picture="https://fermata.example/shared/1/abc/rates.png",
)


async def test_a_rollback_tells_facts_shows_the_rates_and_offers_what_is_next(
    server: SlackServer, slack: SlackNotifier
) -> None:
    await slack.apply(AFTER, stamp(AFTER), allow)
    (message,) = server.messages
    keep("rollback/slack.json", json.dumps(message, indent=2))
    kinds = [block["type"] for block in message["blocks"]]
    assert kinds == [
        "header", "section", "section", "section", "image", "actions", "section", "context"
    ]  # fmt: skip
    assert message["blocks"][5]["elements"][0]["url"] == AFTER.buttons[0][1]
    assert "506 requests" in message["blocks"][2]["text"]["text"]


async def test_a_picture_that_slack_cannot_reach_is_left_out(
    server: SlackServer, slack: SlackNotifier
) -> None:
    inside = AFTER.model_copy(update={"picture": "http://127.0.0.1:8321/shared/1/abc/rates.png"})
    await slack.apply(inside, stamp(inside), allow)
    assert "image" not in [block["type"] for block in server.messages[0]["blocks"]]


async def test_a_generic_webhook_gets_facts_actions_and_picture_as_fields(
    server: SlackServer, webhook: WebhookNotifier
) -> None:
    await webhook.apply(AFTER, stamp(AFTER), allow)
    (body,) = server.plain.values()
    keep("rollback/webhook.json", json.dumps(body, indent=2))
    assert body["facts"][1]["label"] == "Blast radius"
    assert body["actions"] == [{"label": "Retry", "url": AFTER.buttons[0][1]}]
    assert body["picture"] == AFTER.picture
