"""Everything GitHub publishes as an example, signed, to the running server and its real store."""

from __future__ import annotations

import subprocess
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from store import embedded
from tests.e2e.served import Served

PACKAGE = "@octokit/webhooks-examples@7.6.1"
MEMBER = "package/api.github.com/index.json"

Examples = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def examples(
    request: pytest.FixtureRequest,
    program: Callable[[str], str],
    lacks: Callable[[str, str], None],
) -> Examples:
    """(event name, payload) of each published example, fetched once into pytest's cache."""
    assert request.config.cache is not None
    folder = Path(request.config.cache.mkdir("github-webhook-examples"))
    archive = next(iter(folder.glob("*.tgz")), None)
    if archive is None:
        npm = program("npm")
        try:
            subprocess.run(
                [npm, "pack", PACKAGE, "--pack-destination", str(folder)],
                capture_output=True,
                timeout=120,
                check=False,
            )
        except subprocess.TimeoutExpired:
            lacks(PACKAGE, "the npm registry does not answer")
        archive = next(iter(folder.glob("*.tgz")), None)
        if archive is None:
            lacks(PACKAGE, "npm could not fetch it from its registry")
            raise AssertionError("unreachable")
    with tarfile.open(archive) as tar:
        member = tar.extractfile(MEMBER)
        assert member is not None
        published = orjson.loads(member.read())
    return [
        (kind["name"], example)
        for kind in published
        for example in kind["examples"]
        if isinstance(example, dict)
    ]


async def test_every_published_example_is_answered_and_kept(
    examples: Examples, served: Served
) -> None:
    assert len(examples) > 300
    answers: Counter[int] = Counter()
    kept: set[str] = set()
    for number, (event, payload) in enumerate(examples):
        answer = await served.api.github(event, payload, delivery=f"published-{number}")
        answers[answer.status_code] += 1
        if answer.status_code == 202:
            assert answer.json()["status"] in ("ignored", "duplicate"), (event, answer.text)
            kept.add(answer.json()["event_id"])
    assert answers == {202: len(examples)}
    database = embedded.start(served.data)
    try:
        with psycopg.connect(database.url) as connection:
            rows = connection.execute(
                "SELECT id::text, delivery_id FROM events WHERE delivery_id LIKE 'published-%'"
            ).fetchall()
    finally:
        database.stop()
    assert {row[0] for row in rows} == kept
    # Two of the examples have the very same body: that one is a duplicate by its digest.
    assert len(rows) > 300
    assert len({row[1] for row in rows}) == len(rows)


async def test_an_example_with_a_wrong_signature_is_refused_and_not_kept(
    examples: Examples, served: Served
) -> None:
    event, payload = examples[0]
    before = (await served.api.get("/api/events", limit="200"))["events"]
    answer = await served.api.github(event, payload, delivery="forged", secret="not the secret")
    assert answer.status_code == 401
    assert (await served.api.get("/api/events", limit="200"))["events"] == before
