"""The audit record: nothing without its row, nobody may change one, and the chain loses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import pytest_asyncio

from domain.action import action_digest
from domain.decision import Outcome
from domain.effect import Applied, Attempt, EffectState
from policy.proof.proving import Proof, Prover
from store import migrate, roles
from store.audit import AuditLog
from store.database import Database
from tests.store.house import NOW, SCOPE, House, checked, event, fine, plan, vote

STEP = plan().steps[0]


@pytest_asyncio.fixture(loop_scope="session")
async def service(db: Database) -> AsyncIterator[Database]:
    """The database as `serve` holds it."""
    connected = await Database.open(await roles.service_url(db, embedded=True), max_size=10)
    yield connected
    await connected.close()


async def dump(log: AuditLog, **selection: object) -> list[bytes]:
    async with log.reading() as reading:
        return [line async for line in reading.lines(**selection)]  # type: ignore[arg-type]


async def proven(log: AuditLog) -> tuple[Proof, list[str]]:
    """The proof of all there is, and what the tables hold beyond it."""
    await log.link()
    prover = Prover()
    async with log.reading() as reading:
        async for line in reading.lines():
            prover.feed(line)
        gaps, _ = prover.laws.mirror.gaps([one async for one in reading.tables()])
    return prover.finish(), gaps


async def released(house: House) -> None:
    """A run that is planned, refused a vote, approved, and done."""
    lease = await house.leased()
    await house.runs.save_plan(lease, plan())
    asked = await house.asked(lease)
    await house.approvals.vote(asked, vote("ann"), "0" * 64, fine)
    await house.approvals.vote(asked, vote("ann"), SCOPE, fine)
    decision = await house.decided(lease, approval_id=asked)
    claim = await house.effects.claim(
        lease,
        step_id=STEP.id,
        action=STEP.action,
        digest=action_digest(STEP.action),
        scope_digest=SCOPE,
        decision_id=decision,
        approval_id=asked,
        now=NOW,
    )
    done = Attempt(state=EffectState.APPLIED, applied=Applied(summary="rolled out"))
    await house.effects.finish(lease, claim.effect_id, done, now=NOW)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET record = record",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "TRUNCATE audit, audit_links",
        "UPDATE audit_links SET hash = hash",
        "DELETE FROM audit_links",
        "INSERT INTO audit (kind, at, record) VALUES ('event', now(), '{}')",
        "INSERT INTO audit_links VALUES (99, 99, now(), sha256(''))",
        "UPDATE audit_progress SET done_to = 1000000",
        "UPDATE policies SET override_roles = '{viewer}'",
        "DELETE FROM policies",
        "SELECT fermata_audit('event', NULL, '{}')",
        "ALTER TABLE audit DISABLE TRIGGER ALL",
        "ALTER TABLE events DISABLE TRIGGER events_audit",
        "DROP TRIGGER decisions_audit ON decisions",
        "CREATE TABLE anything (a int)",
        "SET session_replication_role = replica",
        "SET ROLE postgres",
        "DROP TABLE audit CASCADE",
    ],
)
async def test_the_service_can_change_nothing_that_was_recorded(
    service: Database, statement: str
) -> None:
    assert (await roles.standing(service)).guard == "sealed"
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await service.count(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET kind = kind",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "UPDATE audit_links SET hash = hash",
        "DELETE FROM audit_links",
        "TRUNCATE audit_links",
    ],
)
async def test_triggers_refuse_the_owner_as_well(db: Database, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only ever added"):
        await db.count(statement)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only ever added"):
        await _replaying(db, statement)


async def _replaying(db: Database, statement: str) -> None:
    """The statement in a session that claims to replay what others did."""
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL session_replication_role = replica")
        await conn.execute(statement.encode())


async def test_everything_that_happens_to_a_run_is_on_record(service: Database) -> None:
    house = await House.on(service)
    log = AuditLog(service)
    await log.announce("p", "policy.yaml", ["admin"])
    await released(house)
    lease = await house.leased()
    await house.runs.save_plan(lease, plan())
    await house.signals.send(lease.run_id, "hold", {"author": "ann"})
    await house.signals.send(lease.run_id, "ci_result", {"name": "unit"})
    await house.overrides.add(
        lease.run_id, "lin", ("sre-lead",), "it is down", NOW, NOW + timedelta(hours=1)
    )
    await house.locks.acquire(lease, "checkout/prod")
    await house.locks.unlock("checkout/prod", "ann", "stuck")
    expired = await house.asked(lease)
    await house.approvals.expire(lease, expired)
    proof, gaps = await proven(log)
    assert proof.broken is None, str(proof.broken)
    assert gaps == []
    assert {
        "approval.asked", "approval.granted", "approval.spent", "approval.expired", "command",
        "decision", "effect.applied", "effect.claimed", "event", "lock.removed", "override",
        "plan", "policy", "vote.counted", "vote.refused",
    } <= set(proof.kinds)  # fmt: skip
    assert proof.kinds["command"] == 1


async def test_a_selection_of_one_run_is_proven_down_to_the_head(service: Database) -> None:
    house = await House.on(service)
    await released(house)
    [(run_id,)] = await service.rows("SELECT id FROM runs ORDER BY seq DESC LIMIT 1")
    between = datetime.now(UTC)
    await released(house)
    log = AuditLog(service)
    await log.link()
    head = await log.head()
    assert head is not None
    for selection in ({"run_id": run_id}, {"since": between}):
        prover = Prover()
        for line in await dump(log, **selection):
            prover.feed(line)
        proof = prover.finish()
        assert proof.broken is None, str(proof.broken)
        assert proof.head == head.hash
        assert proof.omitted > 0
        assert proof.kinds["effect.applied"] >= 1


async def test_a_row_that_is_committed_late_is_linked_late_and_never_lost(fresh: Database) -> None:
    house, log = await House.on(fresh), AuditLog(fresh)
    await log.link()
    async with fresh.transaction() as slow:
        await slow.execute("INSERT INTO policies (digest, source) VALUES ('a', 'b')")
        for _ in range(3):
            await house.log.accept(event(checked("1")), [], None)
            assert await log.link() >= 1
            assert await log.link() == 0
    assert await log.link() == 1
    await house.log.accept(event(checked("2")), [], None)
    assert await log.link() == 1
    proof, gaps = await proven(log)
    assert (proof.broken, gaps) == (None, [])
    assert proof.rows == await fresh.value("SELECT count(*) FROM audit")
    assert await log.unlinked() == 0


async def test_what_is_rolled_back_leaves_no_gap(fresh: Database) -> None:
    house, log = await House.on(fresh), AuditLog(fresh)
    for _ in range(3):
        await house.log.accept(event(checked("1")), [], None)
        async with fresh.transaction() as conn:
            await conn.execute("INSERT INTO policies (digest, source) VALUES ('a', 'b')")
            raise psycopg.Rollback
    proof, _ = await proven(log)
    assert (proof.broken, proof.last) == (None, 3)
    highest, done = (
        await fresh.value("SELECT max(id) FROM audit"),
        await fresh.value("SELECT coalesce(next_done_to, done_to) FROM audit_progress"),
    )
    assert highest == done == 5


async def test_many_who_link_at_once_make_one_chain(fresh: Database) -> None:
    house = await House.on(fresh)
    logs = [AuditLog(fresh) for _ in range(6)]

    async def write() -> None:
        for _ in range(20):
            await house.log.accept(event(checked("1")), [], None)

    async def link(log: AuditLog, wait: bool) -> None:
        for _ in range(10):
            await log.link(wait=wait)

    await asyncio.gather(
        *(write() for _ in range(4)), *(link(log, n % 2 == 0) for n, log in enumerate(logs))
    )
    proof, gaps = await proven(logs[0])
    assert (proof.broken, proof.rows, gaps) == (None, 80, [])


async def test_what_was_done_behind_the_records_back_is_found(fresh: Database) -> None:
    house, log = await House.on(fresh), AuditLog(fresh)
    await log.announce("p", "policy.yaml", ["admin"])
    await released(house)
    lease = await house.leased()
    await house.runs.save_plan(lease, plan())
    denied = await house.decided(lease, Outcome.DENY)
    assert (await proven(log))[1] == []
    await fresh.count("UPDATE decisions SET outcome = 'allow' WHERE id = %s", (denied,))
    await fresh.count("ALTER TABLE events DISABLE TRIGGER events_audit")
    await house.log.accept(event(checked("1")), [], None)
    proof, gaps = await proven(log)
    assert proof.broken is None
    assert len(gaps) == 2
    assert any("is not in the record" in one for one in gaps)
    assert any(f"decisions: {denied} says allow" in one for one in gaps)


async def test_a_row_changed_in_the_database_is_named(fresh: Database) -> None:
    house, log = await House.on(fresh), AuditLog(fresh)
    await log.announce("p", "policy.yaml", ["admin"])
    await released(house)
    await log.link()
    await fresh.count("ALTER TABLE audit DISABLE TRIGGER audit_only_grows")
    changed = await fresh.value(
        "UPDATE audit SET record = replace(record, 'ann', 'bob') WHERE kind = 'vote.counted' "
        "RETURNING (SELECT seq FROM audit_links WHERE audit_id = id)"
    )
    proof, _ = await proven(log)
    assert proof.broken is not None
    assert (proof.broken.seq, proof.broken.kind) == (changed, "vote.counted")


async def test_what_there_was_before_the_record_is_carried_over(
    new_database: Callable[[], str],
) -> None:
    database = await Database.open(new_database(), min_size=1, max_size=5)
    everything = migrate.known()
    before = tuple(one for one in everything if one.version < 11)
    await migrate.apply(database, before)
    house, log = await House.on(database), AuditLog(database)
    await released(house)
    lease = await house.leased()
    await house.runs.save_plan(lease, plan())
    waits = await house.asked(lease)
    await migrate.apply(database)
    # What was asked before is answered, decided and done afterwards.
    await house.approvals.vote(waits, vote("ann"), SCOPE, fine)
    await house.decided(lease, approval_id=waits)
    proof, gaps = await proven(log)
    assert proof.broken is None, str(proof.broken)
    assert gaps == []
    assert proof.kinds["effect.applied"] == 1
    await database.close()


async def test_a_login_of_its_own_may_serve_and_may_not_migrate(
    fresh: Database, new_database: Callable[[], str]
) -> None:
    await _login(fresh, "fermata_test_app", "IN ROLE fermata_service")
    app = await Database.open(roles.with_login(fresh.url, "fermata_test_app"), max_size=3)
    assert await migrate.apply(app) == []
    assert (await roles.standing(app)).guard == "sealed"
    assert await roles.service_url(app, embedded=False) == app.url
    await released(await House.on(app))
    await AuditLog(app).link()
    await app.close()
    old = await Database.open(new_database(), min_size=1, max_size=2)
    await migrate.apply(old, migrate.known()[:2])
    await old.count("GRANT SELECT ON ALL TABLES IN SCHEMA public TO fermata_service")
    late = await Database.open(roles.with_login(old.url, "fermata_test_app"), max_size=3)
    with pytest.raises(migrate.MigrationError, match="run `fermata db migrate` with the owner's"):
        await migrate.apply(late)
    await late.close()
    await old.close()


async def test_an_owner_that_can_put_the_role_on_does(fresh: Database) -> None:
    dressed = await Database.open(await roles.service_url(fresh, embedded=False), max_size=3)
    standing = await roles.standing(dressed)
    assert standing.guard == "guarded"
    assert "a login of its own that is a member of fermata_service" in standing.detail
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await dressed.count("DELETE FROM audit")
    await released(await House.on(dressed))
    await dressed.close()


async def _login(database: Database, name: str, more: str) -> None:
    try:
        await database.count(f"CREATE ROLE {name} LOGIN {more}")
    except psycopg.errors.DuplicateObject:
        return


async def test_an_owner_that_may_make_no_roles_serves_and_says_so(
    new_database: Callable[[], str],
) -> None:
    root = await Database.open(new_database(), min_size=1, max_size=2)
    await _login(root, "fermata_test_owner", "NOCREATEROLE")
    await root.count("ALTER SCHEMA public OWNER TO fermata_test_owner")
    owner = await Database.open(roles.with_login(root.url, "fermata_test_owner"), max_size=3)
    await migrate.apply(owner)
    assert await roles.service_url(owner, embedded=False) == owner.url
    standing = await roles.standing(owner)
    assert standing.guard == "open"
    assert "run `fermata db migrate` as the owner" in standing.detail
    house, log = await House.on(owner), AuditLog(owner)
    await log.announce("p", "policy.yaml", ["admin"])
    await released(house)
    assert (await proven(log))[0].holds
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only ever added"):
        await owner.count("DELETE FROM audit")
    await owner.close()
    await root.close()
