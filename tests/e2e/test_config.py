"""Configuration is released, judged and taken back with the image it belongs to."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from evals.simulated import scenario
from evals.world.kube.kinds import CONFIGMAP, DEPLOYMENT
from evals.world.scenario import Rule
from evals.world.world import World
from tests.configured import config_of, configure, encoded
from tests.e2e.api import assert_every_effect_was_decided, effects_in_order
from tests.e2e.github import comment, sha_of
from tests.e2e.house import Town, open_town
from tests.e2e.served import ROOT

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
_NUMBERS = itertools.count(1200)


def services(folder: Path) -> Path:
    """Two of the shipped services, straight to production, each with a ConfigMap and a Secret."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    kept = [one for one in catalogue["services"] if one["name"] in ("checkout", "payments")]
    for service in kept:
        name = service["name"]
        prod = service["environments"][1]
        prod |= {"interval": "30s", "bake": "2m"}
        if name == "checkout":
            prod["watch"] = {"for": "2h", "every": "1m"}
        prod["canary"] = [{"weight": 10, "bake": "2m"}]
        service["environments"] = [prod]
        service["workload"]["config"] = config_of(name)
    catalogue |= {"services": kept, "groups": []}
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("configured")
    async with open_town(data, TUESDAY, services(data)) as open_:
        yield open_


def world(town: Town) -> World:
    assert isinstance(town.world.world, World)
    return town.world.world


def runs_with(town: Town, deployment: str) -> tuple[str, list[str]]:
    """(image, names of the ConfigMap and the Secret) of a Deployment in production."""
    found = world(town).api.get(DEPLOYMENT, "prod", deployment)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    refs = [next(iter(one.values()))["name"] for one in container["envFrom"]]
    return container["image"], refs


def held(town: Town, name: str) -> str:
    """What a ConfigMap says."""
    return str(world(town).api.get(CONFIGMAP, "prod", name)["data"]["mode"])


async def deployed(town: Town, service: str, version: str) -> str:
    repo = "acme/checkout" if service == "checkout" else "acme/platform"
    said = f"/deploy {service} prod {version}"
    spoken = comment(repo, next(_NUMBERS), said, by="olga", association="OWNER")
    return str((await town.admin.github("issue_comment", spoken)).json()["run_id"])


async def released(town: Town, service: str, version: str) -> str:
    """A release that somebody has said yes to."""
    run = await deployed(town, service, version)
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200
    return run


async def test_the_configuration_of_a_bad_release_goes_back_with_its_image(town: Town) -> None:
    configure(world(town), "checkout", "good one")
    good = await released(town, "checkout", sha_of("with a good configuration"))
    await town.admin.until_step(good, "checkout/prod.full.burn")
    image, kept = runs_with(town, "checkout")
    assert [name.rpartition("-")[0] for name in kept] == ["checkout", "checkout-tokens"]
    assert held(town, kept[0]) == "good one"
    configure(world(town), "checkout", "bad one: s3cret-value")
    version = sha_of("turns bad with its configuration")
    run = await released(town, "checkout", version)
    await town.admin.until_step(run, "checkout/prod.full.burn")
    assert (await town.admin.until_over(good, 60))["state"] == "succeeded"
    new_image, new = runs_with(town, "checkout")
    assert new_image.endswith(version)
    assert held(town, new[0]) == "bad one: s3cret-value"
    fine = scenario()
    bad = (*fine.rules, Rule(version=version, error_rate=0.6))
    world(town).set_scenario(fine.model_copy(update={"rules": bad}))
    ended = await town.admin.until_over(run, 60)
    assert ended["state"] == "rolled_back", ended["reason"]
    assert runs_with(town, "checkout") == (image, kept)
    assert held(town, kept[0]) == "good one"
    assert held(town, "checkout") == "bad one: s3cret-value", "the owner's object is the owner's"
    (back,) = [one for one in effects_in_order(ended) if one["action_kind"] == "k8s_rollback"]
    assert kept[0] in back["result"]["summary"]
    assert [f"{one['name']}-{one['digest']}" for one in back["action"]["config"]] == kept
    assert_every_effect_was_decided(ended)
    shares = {one["step_id"]: one["verdict"] for one in ended["shares"]}
    assert shares["checkout/prod.canary-10.weight"]["kind"] == "pass"
    assert shares["checkout/prod.rollback.weight"]["kind"] == "pass"
    page = await town.admin.http.get(
        f"{town.admin.url}/runs/{run}", headers={"Authorization": f"Bearer {town.admin.token}"}
    )
    for text in (json.dumps(ended), page.text):
        assert "s3cret-value" not in text
        assert encoded("bad one: s3cret-value") not in text
        assert new[1] in text


async def test_a_configuration_alone_is_released_when_it_is_asked_for(town: Town) -> None:
    first = await town.admin.until_over(await released(town, "payments", "1.0.0"))
    assert first["state"] == "succeeded", first["reason"]
    image, pinned = runs_with(town, "payments")
    assert all(name not in ("payments", "payments-tokens") for name in pinned)
    same = await deployed(town, "payments", "1.0.0")
    ended = await town.admin.until_over(same, 60)
    assert "already runs 1.0.0; nothing to do there" in ended["reason"]
    configure(world(town), "payments", "second")
    assert held(town, pinned[0]) == "first", "what runs is not touched by a change of the source"
    told = await town.admin.until_over(await released(town, "payments", "1.0.0"))
    assert told["state"] == "succeeded", told["reason"]
    assert any("its configuration is new" in one for one in told["plan"]["notes"])
    assert "both tracks run 1.0.0" in json.dumps(told["shares"])
    now, new = runs_with(town, "payments")
    assert now == image
    assert held(town, new[0]) == "second"
    effects = {one["step_id"]: one for one in effects_in_order(told)}
    assert effects["payments/prod.full.prune"]["state"] == "applied"
