"""Runs: what is due, what the gate knows about a run, and what its passage writes down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.action import target_of
from domain.errors import LeaseLost
from domain.plan import Plan
from store.database import Database, Params, jsonb, text
from store.records import Lease, RunFacts, RunRow

# Each branch reads one partial index that holds only such rows, at most `limit` of them.
DUE = """
(SELECT id FROM runs
 WHERE finished_at IS NULL AND worker_id IS NULL AND (wake OR state IN ('queued', 'running'))
 ORDER BY created_at LIMIT %(limit)s)
UNION
(SELECT id FROM runs
 WHERE finished_at IS NULL AND worker_id IS NULL AND due_at IS NOT NULL AND due_at <= %(now)s
 ORDER BY due_at LIMIT %(limit)s)
UNION
(SELECT r.id FROM runs r
 WHERE r.worker_id IS NOT NULL AND NOT EXISTS (
     SELECT FROM workers w WHERE w.id = r.worker_id AND w.until > clock_timestamp())
 LIMIT %(limit)s)
LIMIT %(limit)s
"""
NEXT_DUE = """
SELECT min(due_at) FROM runs
WHERE finished_at IS NULL AND worker_id IS NULL AND due_at IS NOT NULL AND due_at > %(now)s
"""
MARK_STARTED = """
UPDATE runs SET started = true
WHERE id = %(run)s AND fence = %(fence)s AND worker_id = %(worker)s
"""
NOTE_STEP = """
UPDATE runs SET step_id = %(step)s, updated_at = clock_timestamp()
WHERE id = %(run)s AND fence = %(fence)s AND worker_id = %(worker)s
"""
# The commit of a `/deploy` without one, say, is known only now.
SAVE_PLAN = """
WITH saved AS (
    UPDATE runs
    SET plan = %(plan)s, plan_digest = %(digest)s, goal = %(goal)s, title = %(title)s,
        targets = %(targets)s, sha = coalesce(sha, %(sha)s), repo = coalesce(repo, %(repo)s),
        number = coalesce(number, %(number)s), started = true, updated_at = clock_timestamp()
    WHERE id = %(run)s AND fence = %(fence)s AND worker_id = %(worker)s
    RETURNING id, seq
), old AS (
    DELETE FROM run_services s USING saved
    WHERE s.run_id = saved.id AND NOT s.service = ANY (%(services)s)
), new AS (
    INSERT INTO run_services (run_id, service, run_seq)
    SELECT saved.id, service, saved.seq FROM saved, unnest(%(services)s::text[]) AS service
    ON CONFLICT (run_id, service) DO UPDATE SET active = true
)
SELECT id FROM saved
"""
APPEND_PATH = """
SELECT fermata_append_path(
    fermata_hold(%(run)s, %(fence)s), %(nodes)s::text[], %(times)s::timestamptz[])
"""
GET = "SELECT fermata_doc(r) FROM runs r WHERE id = %(run)s"
FACTS = """
SELECT json_build_object(
    'run', fermata_doc(r),
    'signals', coalesce((
        SELECT json_agg(fermata_doc(s) ORDER BY s.seq) FROM signals s
        WHERE s.run_id = r.id), '[]'),
    'approvals', coalesce((
        SELECT json_agg(fermata_doc(a) ORDER BY a.seq) FROM approvals a
        WHERE a.run_id = r.id), '[]'),
    'overrides', coalesce((
        SELECT json_agg(fermata_doc(o) ORDER BY o.at) FROM overrides o
        WHERE o.change_key = r.change_key), '[]'),
    'refused', coalesce((
        SELECT json_agg(x.signal_seq) FROM refusals x
        WHERE x.run_id = r.id AND x.signal_seq IS NOT NULL), '[]'),
    'ci', coalesce((
        SELECT json_agg(fermata_doc(c) ORDER BY c.name, c.source) FROM ci_facts c
        WHERE c.repo = r.repo AND c.sha = r.sha), '[]'))
FROM runs r WHERE r.id = %(run)s
"""


@dataclass(frozen=True)
class Runs:
    """Reads and writes of runs on behalf of the engine and its nodes.

    Every method that takes a lease raises `LeaseLost` when another worker has the run.
    """

    db: Database

    async def due(self, now: datetime, limit: int) -> list[UUID]:
        """Runs to be advanced: queued, woken, timer up (`now` is the world's time), orphaned."""
        return [row[0] for row in await self.db.rows(DUE, {"now": now, "limit": limit})]

    async def next_due(self, now: datetime) -> datetime | None:
        """When the next timer after `now` is up; None when none is set."""
        found: datetime | None = await self.db.value(NEXT_DUE, {"now": now})
        return found

    async def get(self, run_id: UUID) -> RunRow | None:
        """One run, or None."""
        return await self.db.model(RunRow, GET, {"run": run_id})

    async def facts(self, run_id: UUID) -> RunFacts:
        """What the gate has to know, in one round trip. Raises `LookupError` for no such run."""
        facts = await self.db.model(RunFacts, FACTS, {"run": run_id})
        if facts is None:
            raise LookupError(f"there is no run {run_id}")
        return facts

    async def mark_started(self, lease: Lease) -> None:
        """Note that the graph was entered, so that a checkpoint may exist."""
        await self._change(lease, MARK_STARTED, {})

    async def save_plan(self, lease: Lease, plan: Plan) -> None:
        """Store the plan, and which services and targets it touches."""
        targets = {
            target.key: target.service
            for step in plan.steps
            if (target := target_of(step.action)) is not None
        }
        await self._change(
            lease,
            SAVE_PLAN,
            {
                "plan": jsonb(plan),
                "digest": plan.digest,
                "goal": plan.goal,
                "title": text(plan.change.title),
                "targets": list(targets),
                "services": sorted(set(targets.values())),
                "sha": plan.change.sha,
                "repo": plan.change.repo,
                "number": plan.change.number,
            },
        )

    async def note_step(self, lease: Lease, step_id: str) -> None:
        """Show on the pages which step the run is at."""
        await self._change(lease, NOTE_STEP, {"step": step_id})

    async def append_path(self, lease: Lease, path: Sequence[tuple[str, datetime]]) -> None:
        """Append nodes to the run's path; `Leases.release` does so too."""
        await self.db.value(
            APPEND_PATH,
            {
                "run": lease.run_id,
                "fence": lease.fence,
                "nodes": [node for node, _ in path],
                "times": [at for _, at in path],
            },
        )

    async def _change(self, lease: Lease, sql: str, params: dict[str, Any]) -> None:
        holder: Params = {
            "run": lease.run_id,
            "fence": lease.fence,
            "worker": lease.worker_id,
            **params,
        }
        if await self.db.count(sql, holder) == 0:
            raise LeaseLost(f"run {lease.run_id} is no longer held under fence {lease.fence}")
