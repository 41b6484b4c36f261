"""Verdicts of the judge, with the windows they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from domain.verdict import MetricWindow, Verdict, VerdictKind
from store.database import Database, jsonb
from store.records import Lease

# The windows of a check are handed in again with each verdict; only new or changed ones are kept.
RECORD = """
WITH held AS MATERIALIZED (SELECT fermata_hold(%(run)s, %(fence)s) AS run_id),
seen AS (
    INSERT INTO metric_windows (run_id, step_id, start, metric, body)
    SELECT DISTINCT ON (w ->> 'start', w ->> 'metric')
           held.run_id, %(step)s, (w ->> 'start')::timestamptz, w ->> 'metric', w
    FROM held, jsonb_array_elements(%(windows)s) AS w
    ON CONFLICT (run_id, step_id, start, metric) DO UPDATE SET body = excluded.body
    WHERE metric_windows.body <> excluded.body
)
INSERT INTO verdicts (run_id, seq, step_id, phase, verdict, at)
SELECT held.run_id,
       (SELECT coalesce(max(seq), 0) + 1 FROM verdicts WHERE run_id = %(run)s),
       %(step)s, %(phase)s, %(verdict)s, %(now)s
FROM held
"""
WINDOWS = """
SELECT step_id, body FROM metric_windows WHERE run_id = %(run)s ORDER BY step_id, start, metric
"""
BEFORE = """
SELECT verdict ->> 'kind' FROM verdicts
WHERE run_id = %(run)s AND phase = 'pre' AND starts_with(step_id, %(prefix)s)
ORDER BY seq DESC LIMIT 1
"""


@dataclass(frozen=True)
class Verdicts:
    """What the judge said, look by look."""

    db: Database

    async def record(
        self,
        lease: Lease,
        step_id: str,
        phase: str,
        verdict: Verdict,
        windows: Sequence[MetricWindow],
        *,
        now: datetime,
    ) -> None:
        """Add a verdict on a check, and the windows it was given on. Raises `LeaseLost`."""
        await self.db.count(
            RECORD,
            {
                "run": lease.run_id,
                "fence": lease.fence,
                "step": step_id,
                "phase": phase,
                "now": now,
                "verdict": jsonb(verdict),
                "windows": jsonb([one.model_dump(mode="json") for one in windows]),
            },
        )

    async def windows(self, run_id: UUID) -> dict[str, tuple[MetricWindow, ...]]:
        """Every window that was measured in a run, by step, oldest first."""
        found: dict[str, list[MetricWindow]] = {}
        for step_id, body in await self.db.rows(WINDOWS, {"run": run_id}):
            found.setdefault(step_id, []).append(MetricWindow.model_validate(body))
        return {step_id: tuple(windows) for step_id, windows in found.items()}

    async def before(self, run_id: UUID, key: str) -> VerdictKind | None:
        """The last word on a target (`service/environment`) before the run changed it, if any."""
        found = await self.db.value(BEFORE, {"run": run_id, "prefix": f"{key}."})
        return VerdictKind(found) if found else None
