"""A hundred thousand sleeping runs cost the sweeper nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from store.runs import DUE, NEXT_DUE
from tests.store.house import NOW, House

FILL = """
INSERT INTO runs (id, thread_id, change_key, goal, title, repo, sha, author, event_id, state,
                  due_at, started)
SELECT gen_random_uuid(), gen_random_uuid(), 'k' || n, 'release', 't', 'acme/shop', n::text, 'd',
       gen_random_uuid(), CASE WHEN mod(n, 2) = 0 THEN 'waiting' ELSE 'needs_approval' END,
       %(now)s + make_interval(secs => n), true
FROM generate_series(1, 100000) AS n
"""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every node of a query plan."""
    yield plan
    for one in plan.get("Plans", ()):
        yield from nodes(one)


async def test_finding_what_is_due_reads_only_what_is_due(house: House) -> None:
    await house.db.count(FILL, {"now": NOW})
    await house.db.count("ANALYZE runs")
    lease = await house.leased()
    queued = await house.started()
    soon = NOW + timedelta(seconds=5)
    due = await house.runs.due(soon, 200)
    assert len(due) == 6
    assert queued.run_id in due
    assert lease.run_id not in due
    assert await house.runs.next_due(soon) == NOW + timedelta(seconds=6)
    for sql in (DUE, NEXT_DUE):
        explained = await house.db.value(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}", {"now": soon, "limit": 200}
        )
        plan = explained[0]["Plan"]
        scans = [one for one in nodes(plan) if one.get("Relation Name") == "runs"]
        assert scans
        assert {one["Node Type"] for one in scans} <= {"Index Scan", "Index Only Scan"}, scans
        assert max(one["Actual Rows"] for one in scans) <= 6
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100
