"""What stops by itself: alerts during a canary, versions that failed before, old versions."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.e2e.api import Json, deciding, weights
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.house import Town, open_town, slow_services
from tests.e2e.served import ROOT

TUESDAY = datetime(2026, 3, 3, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
REPO = "acme/checkout"
_NUMBERS = itertools.count(700)


@pytest.fixture(scope="module")
async def town(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    data = tmp_path_factory.mktemp("autonomy")
    shipped = (ROOT / "policy.yaml").read_text()
    assert "fast_rollback: 7d" in shipped
    policy = data / "policy.yaml"
    # Versions get old within a second here; /rollback to a fresh one is tested with the commands.
    policy.write_text(shipped.replace("fast_rollback: 7d", "fast_rollback: 1m"))
    async with open_town(data, TUESDAY, slow_services(data, "8m"), policy) as open_:
        yield open_


async def at_canary(town: Town, version: str) -> str:
    """A release of checkout whose canary is being watched in production."""
    run = await released(town, version)
    await town.admin.until_step(run, "checkout/prod.canary-10.check")
    return run


async def released(town: Town, version: str) -> str:
    """A release that somebody approved for production."""
    run = await town.admin.started("pull_request", merged(REPO, next(_NUMBERS), version))
    question = await town.admin.question(run)
    assert (await town.admin.vote(question)).status_code == 200
    return run


async def rollback(town: Town) -> Json:
    """What somebody asked for in a comment, as soon as it has a plan."""
    said = comment(REPO, next(_NUMBERS), "/rollback checkout prod", by="olga", association="OWNER")
    answer = await town.admin.github("issue_comment", said)
    return await town.admin.until(
        answer.json()["run_id"], "a plan", lambda one: one["plan"] is not None, 30
    )


async def alert(town: Town, name: str, since: datetime, **labels: str) -> None:
    """What Alertmanager posts when an alert on checkout begins."""
    one = {
        "status": "firing",
        "labels": {"alertname": name, "service": "checkout", **labels},
        "annotations": {"summary": "too many errors"},
        "startsAt": since.isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": sha_of(name)[:16],
    }
    answer = await town.admin.post(
        "/webhooks/alertmanager",
        {
            "version": "4",
            "groupKey": f"{{}}:{{alertname={name!r}}}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "fermata",
            "groupLabels": {"alertname": name},
            "commonLabels": one["labels"],
            "commonAnnotations": {},
            "externalURL": "",
            "alerts": [one],
        },
    )
    assert answer.status_code == 202, answer.text


def denials(run: Json) -> set[str]:
    return {rule for one in run["decisions"] for rule in deciding(one)
            if one["decision"]["outcome"] == "deny"}  # fmt: skip


async def test_an_alert_that_begins_during_the_canary_takes_it_back_at_once(town: Town) -> None:
    run = await at_canary(town, sha_of("alerted"))
    await alert(town, "CheckoutErrors", town.clock.now(), severity="critical")
    over = await town.admin.until_over(run)
    assert over["state"] == "rolled_back", over["reason"]
    assert "CheckoutErrors began to fire" in over["reason"]
    assert denials(over) == {"alert.firing"}
    assert weights(over)[-1] == 0
    verdicts = {one["verdict"]["kind"] for one in over["verdicts"] if one["phase"] == "canary"}
    assert "fail" not in verdicts, "the judge had nothing against it"


async def test_alerts_from_before_from_elsewhere_and_of_no_weight_do_not(town: Town) -> None:
    run = await at_canary(town, sha_of("calm"))
    await alert(town, "OldTrouble", town.clock.now() - timedelta(hours=2), severity="critical")
    await alert(town, "Elsewhere", town.clock.now(), severity="critical", namespace="staging")
    await alert(town, "Chatter", town.clock.now(), severity="info")
    over = await town.admin.until_over(run, 90)
    assert over["state"] == "succeeded", over["reason"]


async def test_a_version_that_failed_twice_is_not_tried_a_third_time(town: Town) -> None:
    run = await released(town, "2.0.0-bad")
    assert (await town.admin.until_over(run, 90))["state"] == "rolled_back"
    run = (await town.admin.tell(run, "retry")).json()["run_id"]
    assert (await town.admin.vote(await town.admin.question(run))).status_code == 200
    assert (await town.admin.until_over(run, 90))["state"] == "rolled_back"
    run = (await town.admin.tell(run, "retry")).json()["run_id"]
    over = await town.admin.until_over(run, 60)
    assert over["state"] == "denied", over["reason"]
    assert denials(over) == {"autonomy.quarantined"}
    assert "failed 2 times" in over["reason"]
    assert "/override" in over["reason"]


async def test_a_rollback_in_mid_canary_takes_that_canary_back_and_leaves_stable_alone(
    town: Town,
) -> None:
    proven, tried = sha_of("proven"), sha_of("tried")
    for version in (sha_of("before it"), proven):
        over = await town.admin.until_over(await released(town, version), 90)
        assert over["state"] == "succeeded", over["reason"]
    run = await at_canary(town, tried)
    back = await rollback(town)
    over = await town.admin.until_over(back["id"], 60)
    assert (await town.admin.until_over(run))["state"] == "cancelled"
    assert over["state"] == "succeeded", over["reason"]
    steps = {one["stage"]: one["action"] for one in over["plan"]["steps"]}
    images = {one["action"]["image"] for one in over["plan"]["steps"] if "image" in one["action"]}
    assert [image.rpartition(":")[2] for image in images] == [proven], steps
    assert "is under way as a canary" in " ".join(over["plan"]["notes"])


async def test_a_rollback_to_an_old_version_goes_through_the_canary(town: Town) -> None:
    for version in (sha_of("first good"), sha_of("second good")):
        over = await town.admin.until_over(await released(town, version), 90)
        assert over["state"] == "succeeded", over["reason"]
    slow = await rollback(town)
    assert "canary" in " ".join(step["stage"] for step in slow["plan"]["steps"])
    assert "goes through the canary" in " ".join(slow["plan"]["notes"])
    await town.admin.tell(slow["id"], "cancel")
    await town.admin.until_over(slow["id"], 60)
