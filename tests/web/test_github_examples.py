"""Everything GitHub publishes as an example payload is answered 202 and recorded."""

from __future__ import annotations

import copy
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from domain.event import Unhandled
from tests.web.twin import house
from web.github_payloads import understand

PACKAGE = "@octokit/webhooks-examples@7.6.1"
MEMBER = "package/api.github.com/index.json"
READ = frozenset(
    {
        "pull_request",
        "push",
        "check_run",
        "check_suite",
        "workflow_run",
        "status",
        "issue_comment",
    }
)

Examples = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def examples(
    request: pytest.FixtureRequest,
    program: Callable[[str], str],
    lacks: Callable[[str, str], None],
) -> Examples:
    """(event name, payload) of each published example, fetched once into pytest's cache."""
    folder = Path(request.config.cache.mkdir("github-webhook-examples"))
    archive = next(iter(folder.glob("*.tgz")), None)
    if archive is None:
        npm = program("npm")
        try:
            packed = subprocess.run(
                [npm, "pack", PACKAGE, "--pack-destination", str(folder)],
                capture_output=True,
                timeout=120,
                check=False,
            )
        except subprocess.TimeoutExpired:
            lacks(PACKAGE, "the npm registry does not answer")
            raise
        archive = next(iter(folder.glob("*.tgz")), None)
        if packed.returncode != 0 or archive is None:
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


async def test_every_published_example_is_answered_202_and_recorded(examples: Examples) -> None:
    assert len(examples) > 300
    async with house() as h:
        for number, (event, payload) in enumerate(examples):
            answer = await h.github(event, payload, delivery=f"example-{number}")
            assert answer.status_code == 202, (event, answer.text)
            assert answer.json()["status"] in ("ignored", "duplicate"), event
        assert len({event.body.kind for event in h.log.events}) >= 4


def test_published_examples_of_the_kinds_we_read_are_understood(examples: Examples) -> None:
    problems = {
        understood.problem
        for event, payload in examples
        if (understood := understand(event, payload)).problem
    }
    assert problems == set()


def test_a_payload_with_anything_missing_or_null_is_still_understood_or_recorded(
    examples: Examples,
) -> None:
    replacements: tuple[Any, ...] = (..., None, 7, "", [], {})
    tried = recorded = 0
    for event, payload in examples:
        if event not in READ:
            continue
        for path in _paths(payload, 3):
            for replacement in replacements:
                understood = understand(event, _without(payload, path, replacement))
                tried += 1
                recorded += isinstance(understood.body, Unhandled)
    assert tried > 10_000
    assert 0 < recorded < tried


def _paths(value: dict[str, Any], depth: int) -> Iterator[tuple[str, ...]]:
    """Keys of a payload and of the objects in it that are read, as paths."""
    for key, inner in value.items():
        yield (key,)
        if depth > 1 and isinstance(inner, dict) and key not in ("_links", "organization"):
            if depth == 3 and key in ("sender", "installation", "enterprise"):
                continue
            for rest in _paths(inner, depth - 1) if key != "repo" else ():
                yield (key, *rest)


def _without(payload: dict[str, Any], path: tuple[str, ...], replacement: object) -> dict[str, Any]:
    """The payload with one value replaced, or removed for `...`; only the way there is copied."""
    changed = copy.copy(payload)
    at = changed
    for key in path[:-1]:
        at[key] = copy.copy(at[key])
        at = at[key]
    if replacement is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = replacement
    return changed
