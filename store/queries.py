"""Reads for the API and the pages. Nothing here changes anything or needs a lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.event import Event, Frozen
from domain.run import RunState
from store.database import Database
from store.events import prefix_range
from store.records import RunDetail, RunRow

DETAIL = """
SELECT json_build_object(
    'run', fermata_doc(r),
    'event', fermata_doc(e),
    'decisions', coalesce((
        SELECT json_agg(fermata_doc(d) ORDER BY d.seq) FROM decisions d
        WHERE d.run_id = r.id), '[]'),
    'approvals', coalesce((
        SELECT json_agg(fermata_doc(a) ORDER BY a.seq) FROM approvals a
        WHERE a.run_id = r.id), '[]'),
    'effects', coalesce((
        SELECT json_agg(fermata_doc(f) ORDER BY f.started_at, f.id) FROM effects f
        WHERE f.run_id = r.id), '[]'),
    'verdicts', coalesce((
        SELECT json_agg(fermata_doc(v) ORDER BY v.seq) FROM verdicts v
        WHERE v.run_id = r.id AND v.phase <> 'share'), '[]'),
    'shares', coalesce((
        SELECT json_agg(fermata_doc(v) ORDER BY v.seq) FROM verdicts v
        WHERE v.run_id = r.id AND v.phase = 'share'), '[]'),
    'signals', coalesce((
        SELECT json_agg(fermata_doc(s) ORDER BY s.seq) FROM signals s
        WHERE s.run_id = r.id), '[]'),
    'path', coalesce((
        SELECT json_agg(json_build_array(p.node, p.at) ORDER BY p.seq) FROM run_path p
        WHERE p.run_id = r.id), '[]'))
FROM runs r JOIN events e ON e.id = r.event_id WHERE r.id = %(run)s
"""
# Planned anew each time: which index serves best depends on which filters are given.
# Answers to comments are runs, too, but nobody looks for them here.
LIST = """
SELECT fermata_doc(r) FROM runs r
WHERE r.goal <> 'answer'
  AND (%(before)s::uuid IS NULL OR r.seq < (SELECT seq FROM runs WHERE id = %(before)s))
  AND (%(state)s::text IS NULL OR r.state = %(state)s)
  AND (%(repo)s::text IS NULL OR r.repo = %(repo)s)
ORDER BY r.seq DESC LIMIT %(limit)s
"""
LIST_OF_SERVICE = """
SELECT fermata_doc(r) FROM run_services s JOIN runs r ON r.id = s.run_id
WHERE s.service = %(service)s
  AND (%(before)s::uuid IS NULL OR s.run_seq < (SELECT seq FROM runs WHERE id = %(before)s))
  AND (%(state)s::text IS NULL OR r.state = %(state)s)
  AND (%(repo)s::text IS NULL OR r.repo = %(repo)s)
ORDER BY s.run_seq DESC LIMIT %(limit)s
"""
BY_PREFIX = """
SELECT fermata_doc(r) FROM runs r WHERE r.id BETWEEN %(first)s AND %(last)s
ORDER BY r.seq DESC LIMIT %(limit)s
"""
OF_THREAD = """
SELECT fermata_doc(r) FROM runs r WHERE r.thread_id = %(thread)s
ORDER BY r.seq DESC LIMIT %(limit)s
"""
COUNTS = "SELECT state, count(*) FROM runs WHERE goal <> 'answer' GROUP BY state"
EVENTS = """
SELECT json_build_object(
    'event', fermata_doc(e), 'status', e.status, 'reason', e.reason, 'thread_id', e.thread_id,
    'run_ids', e.run_ids, 'stored_at', e.stored_at)
FROM events e WHERE (%(id)s::uuid IS NULL OR e.id = %(id)s) ORDER BY e.seq DESC LIMIT %(limit)s
"""
CANDIDATES = 10


class EventRow(Frozen):
    """An event as stored, and what became of it. `stored_at` is the database's time."""

    event: Event
    status: str
    reason: str
    thread_id: UUID | None
    run_ids: tuple[UUID, ...]
    stored_at: datetime


@dataclass(frozen=True)
class Queries:
    """What may be looked at."""

    db: Database

    async def run_detail(self, run_id: UUID) -> RunDetail | None:
        """Everything about one run, in one round trip; None when there is no such run."""
        return await self.db.model(RunDetail, DETAIL, {"run": run_id})

    async def list_runs(
        self,
        *,
        state: RunState | None = None,
        service: str | None = None,
        repo: str | None = None,
        limit: int = 50,
        before: UUID | None = None,
    ) -> list[RunRow]:
        """Runs, newest first; with `before`, those that began before that run (for paging)."""
        params: dict[str, Any] = {
            "state": state.value if state is not None else None,
            "repo": repo,
            "service": service,
            "limit": limit,
            "before": before,
        }
        return await self.db.models(RunRow, LIST if service is None else LIST_OF_SERVICE, params)

    async def find_run(self, prefix: str) -> tuple[RunRow, ...]:
        """Runs whose id begins with a prefix of at least 6 hex digits, newest first, at most 10.

        One means that the prefix is unique; several are the candidates to choose from.
        """
        between = prefix_range(prefix)
        if between is None:
            return ()
        first, last = between
        found = await self.db.models(
            RunRow, BY_PREFIX, {"first": first, "last": last, "limit": CANDIDATES}
        )
        return tuple(found)

    async def runs_of_thread(self, thread_id: UUID, limit: int = 50) -> list[RunRow]:
        """Runs of one change, newest first."""
        return await self.db.models(RunRow, OF_THREAD, {"thread": thread_id, "limit": limit})

    async def counts_by_state(self) -> dict[RunState, int]:
        """How many runs are in each state; every state is named."""
        counts = dict.fromkeys(RunState, 0)
        for state, count in await self.db.rows(COUNTS):
            counts[RunState(state)] = int(count)
        return counts

    async def list_events(self, limit: int = 50) -> list[EventRow]:
        """Events with what became of them, newest first."""
        return await self.db.models(EventRow, EVENTS, {"id": None, "limit": limit}, prepare=False)

    async def event(self, event_id: UUID) -> EventRow | None:
        """One event, or None."""
        return await self.db.model(EventRow, EVENTS, {"id": event_id, "limit": 1})
