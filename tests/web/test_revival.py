"""`/retry` and `/override` in comments: which run they are about, and what begins anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.event import Actor, Command, Commanded, CommandName, Event
from domain.intake import Ignore, Intake, StartRun
from domain.run import RunState
from store.records import RunDetail, RunRow
from tests.web import scenes
from tests.web.scene import CATALOGUE, NOW, made_id
from web.correlate import correlate
from web.revival import Revival

NUMBER = 43


@dataclass
class Past:
    """Runs of one pull request, newest first."""

    details: Sequence[RunDetail]

    async def run_detail(self, run_id: UUID) -> RunDetail | None:
        return next((one for one in self.details if one.run.id == run_id), None)

    async def list_runs(self, *, repo: str | None = None, limit: int = 50) -> list[RunRow]:
        return [one.run for one in self.details if one.run.repo == repo][:limit]

    async def find_run(self, prefix: str) -> tuple[RunRow, ...]:
        return tuple(one.run for one in self.details if str(one.run.id).startswith(prefix))


def ended(name: str, begun: float, over: float | None, **changes: Any) -> RunDetail:
    """A run of the pull request that began and ended so many minutes ago; None: under way."""
    detail = scenes.rolled_back()
    fields = {
        "id": made_id("run", name),
        "number": NUMBER,
        "created_at": NOW - timedelta(minutes=begun),
        "finished_at": None if over is None else NOW - timedelta(minutes=over),
        "state": RunState.RUNNING if over is None else RunState.ROLLED_BACK,
        **changes,
    }
    return detail.model_copy(update={"run": detail.run.model_copy(update=fields)})


async def revived(
    past: Past, kind: CommandName = CommandName.RETRY, said_at: datetime = NOW
) -> list[Intake]:
    """What the comment comes to."""
    body = Commanded(
        commands=(Command(name=kind, args=("because", "of", "reasons")),),
        author=Actor(login="grace"),
        repo="acme/checkout",
        number=NUMBER,
        comment_id=7,
        association="OWNER",
        said_at=said_at,
    )
    event = Event(
        id=uuid4(), source="github", delivery_id="d", body_digest="0" * 64, received_at=NOW,
        body=body,
    )  # fmt: skip
    _, intakes = await Revival(past).of(event, correlate(event, CATALOGUE))
    return intakes


def started(intakes: Sequence[Intake]) -> StartRun:
    (start,) = [one for one in intakes if isinstance(one, StartRun) and one.goal != "answer"]
    return start


async def test_what_ended_last_is_begun_anew_not_what_began_last() -> None:
    release = ended("release", begun=60, over=5, change_key="release:acme/checkout@new")
    failed = ended("rollback", begun=30, over=29, goal="nothing",
                   change_key="rollback:checkout:prod:d", state=RunState.FAILED)  # fmt: skip
    start = started(await revived(Past([failed, release])))
    assert (start.change_key, start.goal, start.again) == (release.run.change_key, "release", True)


@pytest.mark.parametrize(
    ("key", "goal"),
    [
        ("rollback:checkout:prod:d", "rollback"),
        ("release:checkout:prod:4f2c1a9be07d", "release"),
    ],
)
async def test_a_plan_that_found_nothing_to_do_is_made_anew_for_what_was_asked(
    key: str, goal: str
) -> None:
    past = Past([ended("asked", 9, 8, goal="nothing", change_key=key, state=RunState.FAILED)])
    start = started(await revived(past))
    assert (start.goal, start.change_key) == (goal, key)


@pytest.mark.parametrize(
    "past",
    [
        [ended("again", 8, None), ended("first", 20, 9)],
        [ended("staging", 20, 1, state=RunState.SUCCEEDED), ended("prod", 30, None)],
    ],
)
async def test_a_run_under_way_is_spoken_to_and_nothing_begins(past: list[RunDetail]) -> None:
    assert not any(isinstance(one, Ignore | StartRun) for one in await revived(Past(past)))


@pytest.mark.parametrize("kind", [CommandName.RETRY, CommandName.OVERRIDE])
async def test_what_ended_since_is_begun_anew_beside_what_is_still_under_way(
    kind: CommandName,
) -> None:
    denied = ended("denied", 20, 1, state=RunState.DENIED, change_key="release:search:prod:b")
    start = started(await revived(Past([denied, ended("watched", 30, None)]), kind))
    assert start.change_key == denied.run.change_key


@pytest.mark.parametrize("kind", [CommandName.RETRY, CommandName.OVERRIDE])
async def test_a_comment_from_before_the_run_begins_nothing(kind: CommandName) -> None:
    past = Past([ended("denied", begun=10, over=9, state=RunState.DENIED)])
    old = await revived(past, kind, NOW - timedelta(minutes=11))
    assert not [one for one in old if isinstance(one, StartRun)]
    assert any(isinstance(one, Ignore) and "older than run" in one.reason for one in old)
    assert started(await revived(past, kind, NOW - timedelta(minutes=5))).again
