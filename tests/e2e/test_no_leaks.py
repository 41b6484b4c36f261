"""Credentials that come in with a pull request, a comment or an alert are seen nowhere after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from store.database import Database
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.house import Town, open_town, slow_services
from tests.policy.redaction.making import credentials

MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
REPO = "acme/checkout"
TOKENS = {name: text for name, (text, secret) in credentials(11).items() if text == secret}
COLUMNS = """
SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = 'public' AND table_name IN (
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE')
"""
RAW = {("events", "payload")}
"""The body of a delivery as it came, kept for replays."""


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data: Path = tmp_path_factory.mktemp("leaks")
    async with open_town(data, MONDAY, slow_services(data, "3m")) as open_:
        yield open_


@pytest.fixture(scope="module")
async def told(town: Town) -> dict[str, str]:
    """Everything that may carry words from outside, delivered; run ids by what they are about."""
    token = TOKENS["personal access token"]
    release = merged(REPO, 901, sha_of("leaking"))
    release["pull_request"]["title"] = f"Use {token} for the registry"
    runs = {"release": await town.admin.started("pull_request", release)}
    question = await town.admin.question(runs["release"])
    preview = merged(REPO, 902, sha_of("leaking too"))
    preview["action"] = "opened"
    preview["pull_request"] |= {"merged": False, "merge_commit_sha": None, "state": "open"}
    preview["pull_request"]["title"] = f"aws {TOKENS['access key id']}"
    runs["preview"] = await town.admin.started("pull_request", preview)
    alert = {
        "version": "4",
        "groupKey": "leaks",
        "status": "firing",
        "receiver": "fermata",
        "externalURL": "http://alerts.example.com",
        "alerts": [
            {
                "status": "firing",
                "labels": {"alertname": "Broken", "service": "checkout", "severity": "page"},
                "annotations": {"summary": f"curl said {TOKENS['bot token']}"},
                "startsAt": "2026-03-02T08:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "fingerprint": "abc",
            }
        ],
    }
    answer = await town.admin.post("/webhooks/alertmanager", alert)
    assert answer.status_code == 202, answer.text
    runs["alert"] = str(answer.json()["run_id"])
    body = f"/hold {TOKENS['payment key']}"
    said = comment(REPO, 901, body, by="grace", association="MEMBER")
    assert (await town.admin.github("issue_comment", said)).status_code == 202
    vote = {"decision": "reject", "digest": question["digest"]}
    vote["comment"] = f"no: {TOKENS['cloud key']}"
    await town.admin.post(f"/api/approvals/{question['id']}", vote)
    for name in ("preview", "alert", "release"):
        await town.admin.until_over(runs[name], 120)
    return runs


async def test_no_column_of_the_database_holds_them(town: Town, told: dict[str, str]) -> None:
    database: Database = town.house.books.database
    found = []
    for table, column, kind in await database.rows(COLUMNS):
        if (table, column) in RAW:
            continue
        text = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
        for name, token in TOKENS.items():
            sql = f'SELECT count(*) FROM "{table}" WHERE strpos({text}, %(token)s) > 0'
            async with database.connection() as conn:
                # past the cleaner: it would cover what is looked for
                row = await (await conn.execute(sql.replace("%(token)s", f"'{token}'"))).fetchone()
            if row is not None and row[0]:
                found.append((table, column, name))
    assert found == []


async def test_no_page_and_no_answer_shows_them(town: Town, told: dict[str, str]) -> None:
    api = town.admin
    paths = ["/", "/approvals", "/events", "/api/runs", "/api/approvals"]
    paths += [f"{kind}/{run}" for run in told.values() for kind in ("/runs", "/api/runs")]
    headers = {"Authorization": f"Bearer {api.token}", "Accept": "text/html"}
    answers = await asyncio.gather(
        *(api.http.get(api.url + path, headers=headers) for path in paths)
    )
    for path, answer in zip(paths, answers, strict=True):
        for name, token in TOKENS.items():
            assert token not in answer.text, (path, name)
    shown = "".join(answer.text for answer in answers)
    assert "[redacted:github-pat:" in shown


async def test_an_error_does_not_repeat_what_was_sent(town: Town) -> None:
    token = TOKENS["personal access token"]
    for path, body in (("/event", {"type": token}), ("/api/approvals/none", {token: token})):
        answer = await town.admin.post(path, body)
        assert answer.status_code >= 400
        assert token not in answer.text
