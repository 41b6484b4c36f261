"""What the pages and the nodes read back is what was written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from domain.configuration import Configuration, ConfigVersion
from domain.decision import Outcome
from domain.run import RunState
from domain.verdict import Counts, MetricVerdict, MetricWindow, Verdict, VerdictKind
from store.releases import kept_config, still_good
from tests.store.house import NOW, House, decision, plan


async def test_a_plan_comes_back_as_it_was_saved(house: House) -> None:
    lease = await house.leased(repo=None, sha=None)
    one = plan().model_copy(
        update={"change": plan().change.model_copy(update={"sha": "abc", "number": 9})}
    )
    await house.runs.save_plan(lease, one)
    await house.runs.save_plan(lease, one)
    await house.runs.note_step(lease, "checkout.prod.stable")
    run = await house.runs.get(lease.run_id)
    assert run is not None
    assert run.plan == one
    assert run.plan_digest == one.digest
    assert (run.repo, run.number, run.sha) == ("acme/shop", 9, "abc")
    assert run.targets == ("checkout/prod",)
    assert run.step_id == "checkout.prod.stable"


async def test_a_run_s_page_has_everything_in_order(house: House) -> None:
    lease = await house.leased()
    for outcome in (Outcome.WAIT, Outcome.ALLOW):
        await house.decided(lease, outcome)
    asked = await house.asked(lease)
    await house.signals.send(lease.run_id, "hold", {"author": "dana", "n": 1})
    await house.runs.append_path(lease, [("conductor", NOW)])
    await house.runs.append_path(lease, [("gate", NOW), ("wait", NOW + timedelta(seconds=1))])
    detail = await house.queries.run_detail(lease.run_id)
    assert detail is not None
    assert detail.event == lease.event
    assert [one.seq for one in detail.decisions] == [1, 2, 3]
    assert detail.decisions[1].decision == decision(Outcome.ALLOW)
    assert [one.id for one in detail.approvals] == [asked]
    assert detail.signals[0].payload == {"author": "dana", "n": 1}
    assert [node for node, _ in detail.path] == ["conductor", "gate", "wait"]
    assert detail.path[2][1] == NOW + timedelta(seconds=1)
    assert await house.queries.run_detail(uuid4()) is None
    with pytest.raises(LookupError):
        await house.runs.facts(uuid4())
    with pytest.raises(LookupError):
        await house.signals.send(uuid4(), "hold", {})


async def test_windows_are_kept_once_and_verdicts_each(house: House) -> None:
    lease = await house.leased()
    windows = [
        MetricWindow(
            start=NOW + timedelta(seconds=30 * n),
            seconds=30,
            metric="errors",
            kind="errors",
            stable=Counts(bad=0, total=100),
            canary=Counts(bad=n, total=10),
        )
        for n in range(3)
    ]
    metric = MetricVerdict(metric="errors", verdict=VerdictKind.PASS, reason="few")
    for upto in (1, 2, 3):
        kind = VerdictKind.INCONCLUSIVE if upto < 3 else VerdictKind.PASS
        said = Verdict(kind=kind, reason=str(upto), metrics=(metric,), share=0.1)
        await house.verdicts.record(lease, "check", "canary", said, windows[:upto], now=NOW)
    detail = await house.queries.run_detail(lease.run_id)
    assert detail is not None
    assert [one.verdict.reason for one in detail.verdicts] == ["1", "2", "3"]
    assert detail.verdicts[2].verdict == said
    assert await house.verdicts.windows(lease.run_id) == {"check": tuple(windows)}
    await house.verdicts.record(lease, "check", "canary", said, [], now=NOW)
    assert len(await house.verdicts.windows(lease.run_id)) == 1


async def test_the_last_known_good_is_never_an_image_found_bad(house: House) -> None:
    place: dict[str, Any] = {"service": uuid4().hex, "environment": "prod"}
    lease, other = await house.leased(), await house.leased()

    async def say(image: str, status: str, by: object = lease) -> None:
        await house.releases.record(
            by,  # type: ignore[arg-type]
            **place,
            image=image,
            sha=None,
            status=status,  # type: ignore[arg-type]
            reason="r",
            at=NOW,
        )

    async def good() -> str | None:
        row = await house.releases.last_good(**place)
        return row.image if row else None

    assert await good() is None
    await say("v1", "good")
    await say("v2", "good")
    await say("v2", "good")
    assert await good() == "v2"
    await say("v3", "bad")
    await say("v2", "bad")
    assert await good() == "v1"
    assert await house.releases.is_bad(**place, image="v2")
    assert not await house.releases.is_bad(**place, image="v1")
    await say("v2", "good", other)
    assert await good() == "v2"
    assert not await house.releases.is_bad(**place, image="v2")
    images = [row.image for row in await house.releases.history(**place, limit=3)]
    assert images == ["v2", "v2", "v3"]


async def test_a_version_that_was_taken_back_with_its_group_is_neither_good_nor_bad(
    house: House,
) -> None:
    place: dict[str, Any] = {"service": uuid4().hex, "environment": "prod"}
    lease = await house.leased()
    for image, status in (("v1", "good"), ("v2", "good"), ("v2", "withdrawn")):
        await house.releases.record(
            lease,
            **place,
            image=image,
            sha=None,
            status=status,  # type: ignore[arg-type]
            reason="r",
            at=NOW,
        )
    row = await house.releases.last_good(**place)
    assert row is not None
    assert row.image == "v1"
    assert await house.releases.last_good(**place, but="v1") is None
    assert not await house.releases.is_bad(**place, image="v2")
    found = still_good(await house.releases.history(**place, limit=9))
    assert found is not None
    assert found.image == "v1"


async def test_many_looks_at_what_runs_do_not_hide_what_ran_before(house: House) -> None:
    """Each run that waits for its approval has found what runs to be good, and said so."""
    place: dict[str, Any] = {"service": uuid4().hex, "environment": "prod"}
    config = [(ConfigVersion(kind="ConfigMap", name="a", digest=one * 10),) for one in "12"]
    words: list[tuple[str, Any]] = [("v1", "good"), ("v3", "bad"), *[("v2", "good")] * 60]
    for image, status in words:
        await house.releases.record(
            await house.leased(), **place, image=image, sha=None, status=status, reason="r",
            at=NOW, config=config[image == "v2"],
        )  # fmt: skip
    row = await house.releases.last_good(**place, but="v2", but_config=config[1])
    assert row is not None
    assert row.image == "v1"
    assert set(await house.releases.kept(**place, count=2)) == {*config[0], *config[1]}
    assert [one.image for one in await house.releases.failures(**place, limit=9)] == ["v3"]


async def test_an_override_holds_for_a_later_run_of_the_change_and_wakes_once(
    house: House,
) -> None:
    lease = await house.leased()
    given = (lease.run_id, "ada", ("admin",), "incident", NOW, NOW + timedelta(hours=1))
    added = await house.overrides.add(*given)
    assert (await house.overrides.add(*given)).id == added.id
    facts = await house.runs.facts(lease.run_id)
    assert facts.overrides == (added,)
    assert [one.kind for one in facts.signals] == ["override_added"]
    await house.leases.release(lease, state=RunState.DENIED, reason="")
    run = facts.run
    again = await house.leased(change_key=run.change_key, again=True)
    assert again.thread_id == lease.thread_id
    assert (await house.runs.facts(again.run_id)).overrides == (added,)
    with pytest.raises(LookupError):
        await house.overrides.add(uuid4(), *given[1:])


async def test_runs_are_listed_by_state_service_and_repository_page_by_page(house: House) -> None:
    repo = f"acme/{uuid4().hex}"
    leases = [await house.leased(repo=repo) for _ in range(5)]
    for lease in leases[:2]:
        await house.runs.save_plan(lease, plan(service=repo))
        await house.leases.release(lease, state=RunState.SUCCEEDED, reason="")
    newest_first = [one.run_id for one in reversed(leases)]
    page = await house.queries.list_runs(repo=repo, limit=2)
    assert [one.id for one in page] == newest_first[:2]
    rest = await house.queries.list_runs(repo=repo, before=page[-1].id)
    assert [one.id for one in rest] == newest_first[2:]
    ended = await house.queries.list_runs(repo=repo, state=RunState.SUCCEEDED)
    assert [one.id for one in ended] == newest_first[3:]
    of_service = await house.queries.list_runs(service=repo, limit=1)
    assert [one.id for one in of_service] == newest_first[3:4]
    of_service = await house.queries.list_runs(service=repo, before=of_service[0].id)
    assert [one.id for one in of_service] == newest_first[4:]
    counts = await house.queries.counts_by_state()
    assert counts[RunState.SUCCEEDED] >= 2
    assert set(counts) == set(RunState)


async def test_a_run_is_found_by_a_prefix(house: House) -> None:
    lease = await house.leased()
    [found] = await house.queries.find_run(str(lease.run_id)[:14])
    assert found.id == lease.run_id
    assert await house.queries.find_run("12345") == ()
    assert len(await house.queries.list_events(3)) == 3


async def test_an_image_with_another_configuration_is_another_version(house: House) -> None:
    place: dict[str, Any] = {"service": uuid4().hex, "environment": "prod"}
    lease = await house.leased()
    old, new = (
        (
            ConfigVersion(kind="Secret", name="b", digest=digest),
            ConfigVersion(kind="ConfigMap", name="a", digest="1" * 10),
        )
        for digest in ("2" * 10, "3" * 10)
    )
    words: list[tuple[Configuration, Any]] = [(old, "good"), (new, "good"), (new, "bad")]
    for config, status in words:
        await house.releases.record(
            lease, **place, image="v1", sha=None, status=status, reason="r", at=NOW, config=config
        )
    row = await house.releases.last_good(**place, but="v1", but_config=new)
    assert row is not None
    assert set(row.config) == set(old)
    assert await house.releases.is_bad(**place, image="v1", config=new)
    assert not await house.releases.is_bad(**place, image="v1", config=old)
    assert await house.releases.is_bad(**place, image="v1"), "where none is known, the image counts"
    assert await house.releases.last_good(**place, but="v1") is None
    history = await house.releases.history(**place, limit=9)
    assert still_good(history, but="v1", but_config=new) == row
    assert set(kept_config(history, 1)) == set(new)
    assert set(kept_config(history, 5)) == {*old, *new}
