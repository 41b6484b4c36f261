"""A delivery becomes rows exactly once, and reaches exactly the runs it is about."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from domain.event import Actor, Command, Commanded, CommandName, Event, Pushed, Tagged
from domain.intake import Address, Ignore, Intake, SendSignal
from domain.run import RunState
from store.database import Database, jsonb
from store.events import ACCEPT_ALL, _record, prefix_range
from tests.store.house import NOW, House, checked, event, plan, pushed, start


async def test_an_event_starts_a_run_and_is_kept_whole(house: House) -> None:
    sha = uuid4().hex
    one = event(pushed(sha))
    receipt = await house.log.accept(one, [start(sha)], b'{"raw": "\xc3\xa9"}')
    assert (receipt.status, receipt.event_id) == ("accepted", one.id)
    assert receipt.thread_id == start(sha).thread_id
    assert receipt.run_ids == (receipt.run_id,)
    assert receipt.run_id is not None
    run = await house.runs.get(receipt.run_id)
    assert run is not None
    assert (run.state, run.sha, run.author) == (RunState.QUEUED, sha, "dana")
    assert await house.log.payload(one.id) == b'{"raw": "\xc3\xa9"}'
    stored = await house.queries.event(one.id)
    assert stored is not None
    assert stored.event == one


@pytest.mark.parametrize("same", ["delivery_id", "body_digest"])
async def test_the_same_delivery_counts_once(house: House, same: str) -> None:
    sha = uuid4().hex
    first = event(pushed(sha))
    receipt = await house.log.accept(first, [start(sha)], None)
    second = event(pushed(sha), **{same: getattr(first, same)})
    again = await house.log.accept(second, [start(uuid4().hex)], None)
    assert again == receipt.model_copy(update={"status": "duplicate"})
    elsewhere = event(pushed(sha), source="api", **{same: getattr(first, same)})
    assert (await house.log.accept(elsewhere, [start(sha)], None)).status == "accepted"


async def test_the_same_delivery_many_times_at_once_gives_one_run(house: House) -> None:
    """Through several logs at once, as several processes would send it."""
    sha = uuid4().hex
    one = event(pushed(sha))
    logs = [type(house.log)(house.db) for _ in range(10)]
    receipts = await asyncio.gather(
        *(
            log.accept(one.model_copy(update={"id": uuid4()}), [start(sha)], b"x")
            for log in logs * 3
        )
    )
    assert sorted(one.status for one in receipts) == ["accepted"] + ["duplicate"] * 29
    assert len({(one.event_id, one.run_id) for one in receipts}) == 1
    assert len(await house.queries.runs_of_thread(start(sha).thread_id)) == 1


async def test_different_deliveries_about_one_change_join_its_run(house: House) -> None:
    sha = uuid4().hex
    logs = [type(house.log)(house.db) for _ in range(5)]
    receipts = await asyncio.gather(
        *(log.accept(event(pushed(sha)), [start(sha)], None) for log in logs * 4)
    )
    assert {one.status for one in receipts} == {"accepted"}
    assert len({one.run_id for one in receipts}) == 1


async def test_a_change_that_has_ended_is_joined_unless_asked_for_again(house: House) -> None:
    sha = uuid4().hex
    first = await house.log.accept(event(pushed(sha)), [start(sha)], None)
    assert first.run_id is not None
    await house.leases.release(await house.taken(first.run_id), state=RunState.SUCCEEDED, reason="")
    joined = await house.log.accept(event(pushed(sha)), [start(sha)], None)
    assert joined.run_id == first.run_id
    anew = await house.log.accept(event(pushed(sha)), [start(sha, again=True)], None)
    assert anew.run_id not in (None, first.run_id)
    assert anew.thread_id == first.thread_id


async def test_a_newer_change_supersedes_the_older_ones_of_its_group(house: House) -> None:
    group = uuid4().hex
    old, other, new = uuid4().hex, uuid4().hex, uuid4().hex
    first = await house.log.accept(event(pushed(old)), [start(old, supersede_group=group)], None)
    apart = await house.log.accept(event(pushed(other)), [start(other)], None)
    assert first.run_id is not None
    assert apart.run_id is not None
    lease = await house.taken(first.run_id)
    await house.leases.release(lease, state=RunState.NEEDS_APPROVAL, reason="")
    later = await house.log.accept(event(pushed(new)), [start(new, supersede_group=group)], None)
    facts = await house.runs.facts(first.run_id)
    assert facts.run.superseded_by == later.run_id
    [signal] = facts.signals
    assert signal.kind == "superseded"
    assert signal.payload == {"by": str(later.run_id), "key": start(new).change_key}
    assert first.run_id in await house.runs.due(NOW, 1000)
    assert (await house.runs.facts(apart.run_id)).run.superseded_by is None


async def test_changes_of_a_group_at_the_same_moment_leave_one_standing(house: House) -> None:
    group = uuid4().hex
    logs = [type(house.log)(house.db) for _ in range(12)]
    shas = [uuid4().hex for _ in logs]
    receipts = await asyncio.gather(
        *(
            log.accept(event(pushed(sha)), [start(sha, supersede_group=group)], None)
            for log, sha in zip(logs, shas, strict=True)
        )
    )
    rows = await house.db.rows(
        "SELECT id, superseded_by FROM runs WHERE supersede_group = %s ORDER BY seq", (group,)
    )
    assert len(rows) == len(receipts)
    assert [by is None for _, by in rows] == [False] * 11 + [True]
    told = await house.db.rows(
        "SELECT count(*) FROM signals WHERE kind = 'superseded' AND run_id = ANY (%s)",
        ([one.run_id for one in receipts],),
    )
    assert told[0][0] == 11, "each is told once"


async def test_a_change_that_could_not_see_another_yet_settles_with_it(house: House) -> None:
    group = uuid4().hex
    old, new = uuid4().hex, uuid4().hex
    first = event(pushed(old))
    params = {
        "events": jsonb([_record(first, [start(old, supersede_group=group)])]),
        "payloads": [None],
    }
    async with house.db.transaction() as conn:
        await conn.execute(ACCEPT_ALL, params)
        later = asyncio.create_task(
            house.log.accept(event(pushed(new)), [start(new, supersede_group=group)], None)
        )
        await asyncio.wait({later}, timeout=0.3)
    receipt = await later
    older = await house.queries.event(first.id)
    assert older is not None
    told = await house.signals.of_run(older.run_ids[0])
    assert [one.payload["by"] for one in told] == [str(receipt.run_id)]


async def test_a_ci_result_is_kept_even_when_no_run_waits_for_it(house: House) -> None:
    sha = uuid4().hex
    tell = SendSignal(address=Address(repo="acme/shop", sha=sha), kind="ci_result", payload={})
    early = await house.log.accept(event(checked(sha, "failure")), [tell], None)
    assert (early.status, early.run_ids) == ("ignored", ())
    assert f"repository acme/shop, commit {sha}" in early.reason
    await house.log.accept(event(checked(sha, None, "lint")), [tell], None)
    receipt = await house.log.accept(event(pushed(sha)), [start(sha)], None)
    assert receipt.run_id is not None
    late = event(checked(sha, "success"), received_at=NOW + timedelta(seconds=9))
    assert (await house.log.accept(late, [tell], None)).run_ids == (receipt.run_id,)
    stale = event(checked(sha, "cancelled"), received_at=NOW + timedelta(seconds=5))
    await house.log.accept(stale, [tell], None)
    facts = await house.runs.facts(receipt.run_id)
    assert [(one.name, one.conclusion) for one in facts.ci] == [
        ("build", "success"),
        ("lint", None),
    ]


@pytest.mark.parametrize("together", [True, False])
async def test_a_check_result_reads_no_other_runs_under_way(
    fresh: Database, together: bool
) -> None:
    """Nor with plans that were made while there were none."""
    house = await House.on(fresh)
    result = checked(uuid4().hex)
    signal = SendSignal(kind="ci", payload={}, address=Address(repo="acme/shop", sha=result.sha))
    statement = "SELECT fermata_accept_all(%s, %s::bytea[])"
    read = """
        SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read
        FROM pg_stat_xact_user_tables WHERE relname = 'runs'
    """
    async with fresh.connection() as conn:
        for under_way in (0, 60):
            for _ in range(under_way):
                sha = uuid4().hex
                await house.log.accept(event(pushed(sha)), [start(sha)], None)
            for _ in range(7):  # more than PostgreSQL makes plans of its own for
                records = [_record(event(result), [signal])]
                if not together:  # two for one run: each is looked at by itself
                    records = [_record(event(result), [signal, signal])]
                async with conn.transaction():
                    await conn.execute(statement, (jsonb(records), [b"x"]))
                    row = await (await conn.execute(read)).fetchone()
                assert row is not None
                assert row[0] == 0


@pytest.mark.parametrize(
    "wrong", [{"repo": "acme/other"}, {"number": 8}, {"sha": "beef"}, {"service": "cart"}]
)
async def test_every_criterion_of_an_address_has_to_match(
    house: House, wrong: dict[str, Any]
) -> None:
    lease = await house.leased(number=7)
    await house.runs.save_plan(lease, plan())
    run = await house.runs.get(lease.run_id)
    assert run is not None
    right = {"repo": "acme/shop", "number": 7, "sha": run.sha, "service": "checkout"}
    by_prefix = {**right, "run": str(run.id)[:13]}
    for given in (right, by_prefix):
        hit = SendSignal(address=Address(**given), kind="hold", payload={"a": 1})
        assert (await house.log.accept(_said(), [hit], None)).run_ids == (run.id,)
        miss = SendSignal(address=Address(**{**given, **wrong}), kind="hold", payload={})
        assert (await house.log.accept(_said(), [miss], None)).status == "ignored"


async def test_a_finished_run_hears_only_what_is_meant_for_finished_ones_too(house: House) -> None:
    lease = await house.leased(number=70)
    await house.leases.release(lease, state=RunState.FAILED, reason="")
    for address, heard in (
        (Address(repo="acme/shop", number=70), ()),
        (Address(repo="acme/shop", number=70, include_final=True), (lease.run_id,)),
        (Address(run=str(lease.run_id)[:8]), ()),
        (Address(run=str(lease.run_id)[:8], include_final=True), (lease.run_id,)),
        (Address(run="zzzzzz", include_final=True), ()),
    ):
        signal = SendSignal(address=address, kind="retry", payload={})
        assert (await house.log.accept(_said(), [signal], None)).run_ids == heard


async def test_the_reasons_of_what_was_left_out_are_kept(house: House) -> None:
    ignored = await house.log.accept(_said(), [Ignore(reason="a tag"), Ignore(reason="b")], None)
    assert (ignored.status, ignored.reason) == ("ignored", "a tag; b")
    sha = uuid4().hex
    miss = SendSignal(address=Address(run="abcdef"), kind="hold", payload={})
    mixed = await house.log.accept(_said(), [start(sha), miss], None)
    assert mixed.status == "accepted"
    assert "run abcdef" in mixed.reason


async def test_one_that_cannot_be_stored_does_not_take_others_with_it(house: House) -> None:
    good = [uuid4().hex for _ in range(8)]
    bad = event(Tagged(repo="r", tag="t", sha="s", author=Actor(login="d")))
    broken = start("x", number=2**40)
    answers = await asyncio.gather(
        *(house.log.accept(event(pushed(sha)), [start(sha)], None) for sha in good[:4]),
        house.log.accept(bad, [broken], None),
        *(house.log.accept(event(pushed(sha)), [start(sha)], None) for sha in good[4:]),
        return_exceptions=True,
    )
    failed = [one for one in answers if isinstance(one, BaseException)]
    assert len(failed) == 1
    assert await house.queries.event(bad.id) is None


async def test_nul_characters_do_not_stop_an_event(house: House) -> None:
    sha = uuid4().hex
    receipt = await house.log.accept(event(pushed(sha)), [start(sha, title="a\x00b")], b"\x00raw")
    assert receipt.run_id is not None
    run = await house.runs.get(receipt.run_id)
    assert run is not None
    assert run.title == "ab"
    assert await house.log.payload(receipt.event_id) == b"\x00raw"


def test_prefixes_of_run_ids() -> None:
    first, last = prefix_range("3F2A91") or (None, None)
    assert str(first) == "3f2a9100-0000-0000-0000-000000000000"
    assert str(last) == "3f2a91ff-ffff-ffff-ffff-ffffffffffff"
    assert prefix_range("3f2a9") is None
    assert prefix_range("3f2a9x") is None
    assert prefix_range("f" * 33) is None


def _said() -> Event:
    return event(Commanded(commands=(Command(name=CommandName.HOLD),), author=Actor(login="dana")))


async def test_a_shared_commit_gives_what_one_by_one_would_have_given(house: House) -> None:
    """Deliveries of every kind in one call: plain ones, and such as depend on one another."""
    sha, other, twin, old, alone = (uuid4().hex for _ in range(5))
    plain = event(pushed(uuid4().hex))
    assert isinstance(plain.body, Pushed)
    ended = await house.log.accept(event(pushed(old)), [start(old)], None)
    assert ended.run_id is not None
    await house.leases.release(await house.taken(ended.run_id), state=RunState.FAILED, reason="")
    known = event(pushed(uuid4().hex))
    await house.log.accept(known, [Ignore(reason="seen")], None)

    def told(commit: str) -> SendSignal:
        return SendSignal(
            address=Address(repo="acme/shop", sha=commit), kind="ci_result", payload={}
        )

    first = event(pushed(sha))
    batch: list[tuple[Event, list[Intake]]] = [
        (first, [start(sha)]),
        (event(checked(sha)), [told(sha)]),
        (event(checked(other, "failure")), [told(other)]),
        (event(checked(other), received_at=NOW + timedelta(seconds=1)), [told(other)]),
        (event(pushed(other)), [start(other, supersede_group=f"group {other}")]),
        (event(_said().body), [Ignore(reason="nothing to do")]),
        (first.model_copy(update={"id": uuid4(), "body_digest": "f" * 64}), [start(sha)]),
        (known.model_copy(update={"id": uuid4()}), [start(uuid4().hex)]),
        (event(pushed(twin)), [start(twin)]),
        (event(pushed(twin)), [start(twin)]),
        (event(pushed(old)), [start(old)]),
        (event(pushed(old)), [start(old, again=True)]),
        (plain, [start(plain.body.sha, number=7)]),
        (event(checked(alone, "failure")), [told(alone)]),
        (event(checked(alone), received_at=NOW + timedelta(seconds=1)), [told(alone)]),
    ]
    params = {
        "events": jsonb([_record(one, asks) for one, asks in batch]),
        "payloads": [str(number).encode() for number in range(len(batch))],
    }
    found = [orjson.loads(row[0]) for row in await house.db.rows(ACCEPT_ALL, params)]
    assert [one["status"] for one in found] == [
        *("accepted", "accepted", "ignored", "ignored", "accepted", "ignored"),
        *("duplicate", "duplicate", "accepted", "accepted", "accepted", "accepted"),
        *("accepted", "ignored", "ignored"),
    ]
    runs = [one.get("run_id") for one in found]
    assert runs[0] == runs[1] == runs[6]
    assert runs[8] == runs[9]
    assert (runs[10], runs[11] == runs[10]) == (str(ended.run_id), False)
    run = await house.runs.get(UUID(runs[12]))
    assert run is not None
    assert (run.sha, run.number, run.event_id) == (plain.body.sha, 7, plain.id)
    stored = await house.queries.event(plain.id)
    assert stored is not None
    assert (stored.event, stored.status, stored.run_ids) == (plain, "accepted", (run.id,))
    assert await house.log.payload(plain.id) == b"12"
    assert f"commit {alone}" in found[13]["reason"]
    assert found[5]["reason"] == "nothing to do"
    kept = "SELECT conclusion FROM ci_facts WHERE sha = %s"
    assert await house.db.rows(kept, (alone,)) == [("success",)]
    again = await house.db.rows(ACCEPT_ALL, params)
    assert {orjson.loads(row[0])["status"] for row in again} == {"duplicate"}


async def test_a_plain_start_joins_a_run_that_somebody_else_is_just_starting(house: House) -> None:
    sha = uuid4().hex
    async with house.db.transaction() as conn:
        params = {"events": jsonb([_record(event(pushed(sha)), [start(sha)])]), "payloads": [b""]}
        first = await (await conn.execute(ACCEPT_ALL, params)).fetchone()
        second = asyncio.create_task(house.log.accept(event(pushed(sha)), [start(sha)], None))
        async with asyncio.timeout(10):
            while True:
                if await house.db.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    break
                await asyncio.sleep(0.01)
    assert first is not None
    joined = await second
    assert (joined.status, str(joined.run_id)) == ("accepted", orjson.loads(first[0])["run_id"])
