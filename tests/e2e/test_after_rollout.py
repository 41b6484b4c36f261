"""After full rollout: burn rates are watched, and what is newer takes over."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from evals.simulated import scenario
from evals.world.scenario import Rule
from tests.e2e.api import (
    Json,
    assert_every_effect_was_decided,
    changes_in,
    deciding,
    effects_in_order,
)
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.house import Town, open_town, production_alone
from tests.e2e.served import ROOT

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
_NUMBERS = itertools.count(900)


def services(folder: Path) -> Path:
    """The shipped services, straight to production, watched for two hours afterwards."""
    return production_alone(
        folder,
        interval="30s",
        bake="2m",
        watch={"for": "2h", "every": "1m"},
        canary=[{"weight": 10, "bake": "2m"}],
    )


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("watched")
    async with open_town(data, TUESDAY, services(data)) as open_:
        yield open_


@pytest.fixture(scope="module")
async def paging_town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("paging")
    shipped = (ROOT / "policy.yaml").read_text()
    assert "burn: rollback" in shipped
    policy = data / "policy.yaml"
    policy.write_text(shipped.replace("burn: rollback", "burn: page"))
    async with open_town(data, TUESDAY, services(data), policy) as open_:
        yield open_


async def asked_for(town: Town, service: str, version: str) -> str:
    said = f"/deploy {service} prod {version}"
    repo = "acme/checkout" if service == "checkout" else "acme/platform"
    spoken = comment(repo, next(_NUMBERS), said, by="olga", association="OWNER")
    return str((await town.admin.github("issue_comment", spoken)).json()["run_id"])


async def approved(town: Town, run: str) -> None:
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200


async def watched(town: Town, service: str, version: str) -> str:
    """A release that is complete and being watched."""
    run = await asked_for(town, service, version)
    await approved(town, run)
    await town.admin.until_step(run, f"{service}/prod.full.burn")
    return run


def fail(town: Town, version: str) -> None:
    """From now on more than half of what a version does goes wrong."""
    rule = Rule(version=version, error_rate=0.6)
    fine = scenario()
    town.world.world.set_scenario(fine.model_copy(update={"rules": (*fine.rules, rule)}))


def stable_images(run: Json) -> list[str]:
    return [
        one["action"]["image"].rpartition(":")[2]
        for one in changes_in(run, "prod")
        if one["action_kind"] == "k8s_rollback" or one["action"].get("track") == "stable"
    ]


async def test_a_version_that_burns_its_budget_goes_back_to_the_last_good_one(town: Town) -> None:
    version = sha_of("turns bad later")
    run = await watched(town, "checkout", version)
    fail(town, version)
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "rolled_back", over["reason"]
    assert "times what is allowed" in over["reason"]
    rolled, back = stable_images(over)
    assert rolled == version
    assert back != version
    assert {one["phase"] for one in over["verdicts"]} == {"pre", "canary", "post", "burn"}
    assert_every_effect_was_decided(over)


async def test_a_newer_change_of_the_place_ends_the_watch_and_gets_the_lock(town: Town) -> None:
    first = await watched(town, "payments", sha_of("first"))
    second = await asked_for(town, "payments", sha_of("second"))
    await approved(town, second)
    over = await town.admin.until_over(first, 30)
    assert over["state"] == "succeeded", over["reason"]
    await town.admin.until_step(second, "payments/prod.full.burn")
    third = await town.admin.started(
        "pull_request", merged("acme/platform", next(_NUMBERS), sha_of("third"))
    )
    await approved(town, third)
    over = await town.admin.until_over(second, 30)
    assert over["state"] == "succeeded", over["reason"]
    assert (await town.admin.tell(third, "cancel")).status_code < 300
    await town.admin.until_over(third, 60)


async def test_a_page_tells_people_and_waits_for_their_answer(paging_town: Town) -> None:
    town, version = paging_town, sha_of("burns")
    run = await watched(town, "search", version)
    fail(town, version)
    question = await town.admin.question(run)
    assert "burns its error budget" in question["question"]
    (page,) = [
        one["action"]
        for one in effects_in_order(await town.admin.run(run))
        if one["action_kind"] == "notify" and one["action"]["severity"] == "critical"
    ]
    assert "times what is allowed" in page["text"]
    assert (await town.admin.vote(question, "reject")).status_code == 200
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "rolled_back", over["reason"]
    rolled, back = stable_images(over)
    assert rolled == version
    assert back != version


async def test_the_fix_does_not_wait_for_the_answer_to_a_page(paging_town: Town) -> None:
    town, version = paging_town, sha_of("burns, and nobody answers")
    run = await watched(town, "checkout", version)
    fail(town, version)
    await town.admin.question(run)
    fix = await watched(town, "checkout", sha_of("what mends it"))
    over = await town.admin.until_over(run, 30)
    assert over["state"] == "succeeded", over["reason"]
    assert [one["state"] for one in over["approvals"]][-1] == "dismissed"
    assert "pause.yields" in {rule for one in over["decisions"] for rule in deciding(one)}
    assert stable_images(over) == [version], "and it is taken back by nobody else"
    assert (await town.admin.tell(fix, "cancel")).status_code < 300
    await town.admin.until_over(fix, 60)


async def test_the_fix_of_a_version_that_burns_is_not_held_up_by_it(paging_town: Town) -> None:
    town, version = paging_town, sha_of("kept although it burns")
    run = await watched(town, "payments", version)
    fail(town, version)
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200
    over = await town.admin.until_over(run, 30)
    assert over["state"] == "succeeded", over["reason"]
    run = await watched(town, "payments", sha_of("its fix"))
    seen = await town.admin.run(run)
    before = [one["verdict"]["kind"] for one in seen["verdicts"] if one["phase"] == "pre"]
    assert before == ["fail"]
    assert "slo.replaces_bad" in {rule for one in seen["decisions"] for rule in deciding(one)}
    assert len(seen["approvals"]) == 1
    assert (await town.admin.tell(run, "cancel")).status_code < 300
    over = await town.admin.until_over(run, 60)
    assert version not in stable_images(over)[1:], "nothing goes back to what burned"
