"""A change that stood in line behind another one is held to what it finds when its turn comes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from evals.simulated import scenario
from evals.world.scenario import Rule
from tests.e2e.api import Json, assert_every_effect_was_decided, described, effects_in_order
from tests.e2e.github import comment, sha_of
from tests.e2e.house import Town, open_town, production_alone

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
_NUMBERS = itertools.count(970)
PRODUCTION = {"interval": "30s", "bake": "2m", "canary": [{"weight": 10, "bake": "4m"}]}


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("line")
    async with open_town(data, TUESDAY, production_alone(data, **PRODUCTION)) as open_:
        yield open_


def fail(town: Town, **whom: str) -> None:
    """From now on almost a third of what it does goes wrong."""
    fine = scenario()
    rule = Rule(error_rate=0.3, **whom)
    town.world.world.set_scenario(fine.model_copy(update={"rules": (*fine.rules, rule)}))


async def asked_for(town: Town, service: str, version: str) -> str:
    said = f"/deploy {service} prod {version}"
    repo = "acme/checkout" if service == "checkout" else "acme/platform"
    spoken = comment(repo, next(_NUMBERS), said, by="olga", association="OWNER")
    return str((await town.admin.github("issue_comment", spoken)).json()["run_id"])


async def approved(town: Town, run: str) -> None:
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200


async def in_line(town: Town, service: str) -> tuple[str, str, str]:
    """A run in mid canary; its version; and a run planned meanwhile, which is to fail."""
    first, second = sha_of(f"{service} before it"), sha_of(f"{service} behind it")
    ahead = await asked_for(town, service, first)
    await approved(town, ahead)
    await town.admin.until_step(ahead, f"{service}/prod.canary-10.check")
    behind = await asked_for(town, service, second)
    await town.admin.question(behind)
    return ahead, first, behind


async def live(town: Town, service: str) -> str:
    page = await town.admin.get("/api/services")
    (found,) = [one for one in page["services"] if one["name"] == service]
    return str(found["environments"][0]["live"]["image"]).rpartition(":")[2]


def stable_images(run: Json) -> list[str]:
    return [
        str(one["action"]["image"]).rpartition(":")[2]
        for one in effects_in_order(run)
        if one["action_kind"] == "k8s_rollback" or one["action"].get("track") == "stable"
    ]


def verdicts(run: Json, phase: str) -> list[str]:
    return [one["verdict"]["kind"] for one in run["verdicts"] if one["phase"] == phase]


async def test_a_canary_that_fails_leaves_what_was_promoted_before_it(town: Town) -> None:
    ahead, first, behind = await in_line(town, "checkout")
    fail(town, version=sha_of("checkout behind it"))
    await approved(town, behind)
    over = await town.admin.until_over(ahead)
    assert over["state"] == "succeeded", described(over)
    over = await town.admin.until_over(behind)
    assert over["state"] == "rolled_back", described(over)
    assert_every_effect_was_decided(over)
    assert await live(town, "checkout") == first
    # It was compared with what ran beside it, and not with what ran when it was planned.
    told = await town.admin.get(f"/api/runs/{behind}/windows")
    windows = told["steps"]["checkout/prod.canary-10.check"]
    assert all(one["stable"]["total"] > 0 for one in windows)
    assert verdicts(over, "canary")[-1] == "fail"


async def test_a_version_that_fails_after_all_goes_back_to_what_was_promoted_before_it(
    town: Town,
) -> None:
    ahead, first, behind = await in_line(town, "payments")
    over = await town.admin.until_over(ahead)
    assert over["state"] == "succeeded", described(over)
    second = sha_of("payments behind it")
    await approved(town, behind)
    await town.admin.until_step(behind, "payments/prod.canary-10.check")
    fail(town, version=second, track="stable")
    over = await town.admin.until_over(behind)
    assert over["state"] == "rolled_back", described(over)
    assert verdicts(over, "pre") == ["pass"]
    assert stable_images(over) == [second, first]
    assert await live(town, "payments") == first


async def test_a_rollback_that_two_people_ask_for_happens_once(town: Town) -> None:
    """What was taken back does not come back, whenever the second asks."""
    older, bad = sha_of("search as it was"), sha_of("search that somebody takes back")
    for version in (older, bad):
        run = await asked_for(town, "search", version)
        await approved(town, run)
        assert (await town.admin.until_over(run))["state"] == "succeeded"
    first = await rolled_back(town, "search")
    await town.admin.until_step(first, "search/prod.rollback.check")
    meanwhile = await town.admin.until_over(await rolled_back(town, "search"))
    assert "is taking search/prod back already" in meanwhile["reason"]
    over = await town.admin.until_over(first)
    assert over["state"] == "succeeded", described(over)
    assert await live(town, "search") == older
    later = await town.admin.until_over(await rolled_back(town, "search"))
    assert bad not in stable_images(later)
    assert await live(town, "search") != bad


async def rolled_back(town: Town, service: str) -> str:
    spoken = comment(
        "acme/platform", next(_NUMBERS), f"/rollback {service} prod", by="olga", association="OWNER"
    )
    return str((await town.admin.github("issue_comment", spoken)).json()["run_id"])
