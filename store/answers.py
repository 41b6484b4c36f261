"""Answers: what came of a comment's commands, and the small runs that tell their author.

An answer is a run like any other, with a goal of its own, so that its words pass the gate and
`execute` and stand in the ledger. It belongs to no pull request number: commands are not for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

from domain.event import Frozen
from domain.refusal import Refusal
from domain.run import thread_id_of
from store.database import Database, jsonb
from store.records import RunRow, SignalRow

START = "SELECT fermata_start(%(ask)s, %(event)s)"
OUTCOME = """
SELECT json_build_object(
    'reason', e.reason,
    'told', coalesce((
        SELECT json_agg(json_build_object('run_id', s.run_id, 'kind', s.kind) ORDER BY s.run_id)
        FROM (SELECT DISTINCT s.run_id, s.kind FROM runs r
              JOIN signals s ON s.run_id = r.id AND s.event_id = e.id
              WHERE r.id = ANY (e.run_ids)) s), '[]'),
    'begun', coalesce((
        SELECT json_agg(json_build_object('run_id', r.id, 'kind', r.goal) ORDER BY r.seq)
        FROM runs r WHERE r.event_id = e.id AND r.goal <> 'answer'), '[]'),
    'votes', coalesce((
        SELECT json_agg(json_build_object(
            'run_id', a.run_id, 'decision', v.decision, 'refused', v.refused,
            'digest', a.digest, 'scope', a.scope, 'state', a.state,
            'given', (SELECT count(DISTINCT lower(g.principal)) FROM votes g
                      WHERE g.approval_id = a.id AND g.refused IS NULL
                        AND g.decision = 'approve'),
            'needed', (a.requirement ->> 'count')::integer) ORDER BY v.id)
        FROM votes v JOIN approvals a ON a.id = v.approval_id WHERE v.event_id = e.id), '[]'),
    'refusals', coalesce((
        SELECT json_agg(fermata_doc(x) ORDER BY x.id) FROM refusals x
        WHERE x.event_id = e.id), '[]'))
FROM events e WHERE e.id = %(event)s
"""
# A word may name another run of the repository, or what another run asks about.
NAMES = """
SELECT EXISTS (
    SELECT FROM runs r WHERE r.repo = %(repo)s AND r.id <> %(run)s
      AND replace(r.id::text, '-', '') LIKE %(word)s || '%%'
    UNION ALL
    SELECT FROM approvals a JOIN runs r ON r.id = a.run_id
    WHERE r.repo = %(repo)s AND r.id <> %(run)s AND a.state = 'pending'
      AND a.digest LIKE %(word)s || '%%')
"""


class Touched(Frozen):
    """A run that a comment reached or began; `kind` is the command or the run's goal."""

    run_id: UUID
    kind: str


class Counted(Frozen):
    """A vote that a comment was. `refused` is None when it counts."""

    run_id: UUID
    decision: str
    refused: str | None
    digest: str
    scope: str
    state: str
    given: int
    needed: int


class Outcome(Frozen):
    """All that came of one comment so far. `reason` is what the intake had to say about it."""

    reason: str
    told: tuple[Touched, ...]
    begun: tuple[Touched, ...]
    votes: tuple[Counted, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class Answers:
    """Begins answers, and gathers what they have to say."""

    db: Database
    hint: Callable[[UUID], Awaitable[None]] | None = None

    async def begin(self, event_id: UUID, signal: SignalRow) -> None:
        """Start the run that tells what became of a command; the same one starts once."""
        payload = signal.payload
        repo, comment = payload.get("repo"), payload.get("comment_id")
        place = f"{repo}#{payload.get('number')}:{comment}"
        key = f"answer:{place}:{signal.run_id}:{signal.seq}"
        run_id = await self.db.insist(
            START,
            {
                "event": event_id,
                "ask": jsonb(
                    {
                        "run_id": str(uuid4()),
                        "thread_id": str(thread_id_of(key)),
                        "change_key": key,
                        "supersede_group": None,
                        "goal": "answer",
                        "title": f"Answer /{signal.kind} of {payload.get('author')}",
                        "repo": repo,
                        "number": None,
                        "sha": None,
                        "author": str(payload.get("author") or ""),
                        "again": False,
                    }
                ),
            },
        )
        if self.hint is not None:
            await self.hint(run_id)

    async def outcome(self, event_id: UUID) -> Outcome | None:
        """What came of a comment so far; None when there is no such event."""
        return await self.db.model(Outcome, OUTCOME, {"event": event_id})

    async def names_another(self, run: RunRow, word: str) -> bool:
        """Whether a word that is not about this run is about another one of its repository."""
        found = await self.db.value(
            NAMES, {"repo": run.repo, "run": run.id, "word": word.replace("-", "")}
        )
        return bool(found)
