"""Releases: which image was proven in an environment, and which was rolled back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from store.database import Database, text
from store.records import Lease, ReleaseRow

# A node may run twice: the same word of the same run is kept once.
RECORD = """
INSERT INTO releases (service, environment, image, sha, run_id, status, reason, at)
SELECT %(service)s, %(environment)s, %(image)s, %(sha)s, held.run_id, %(status)s, %(reason)s,
       %(at)s
FROM (SELECT fermata_hold(%(run)s, %(fence)s) AS run_id) held
ON CONFLICT (service, environment, image, run_id, status) DO NOTHING
"""
# Good, and neither found bad nor taken back since.
LAST_GOOD = """
SELECT fermata_doc(l) FROM releases l
WHERE l.service = %(service)s AND l.environment = %(environment)s AND l.status = 'good'
  AND (%(but)s::text IS NULL OR l.image <> %(but)s)
  AND NOT EXISTS (
      SELECT FROM releases b
      WHERE b.service = l.service AND b.environment = l.environment AND b.image = l.image
        AND b.status <> 'good' AND b.seq > l.seq)
ORDER BY l.seq DESC LIMIT 1
"""
HISTORY = """
SELECT fermata_doc(l) FROM releases l
WHERE l.service = %(service)s AND l.environment = %(environment)s
ORDER BY l.seq DESC LIMIT %(limit)s
"""
IS_BAD = """
SELECT status = 'bad' FROM releases
WHERE service = %(service)s AND environment = %(environment)s AND image = %(image)s
ORDER BY seq DESC LIMIT 1
"""


def still_good(history: Iterable[ReleaseRow], but: str | None = None) -> ReleaseRow | None:
    """The latest good image of a history (newest first), not taken back since, other than `but`."""
    gone: set[str] = set()
    for row in history:
        if row.status != "good":
            gone.add(row.image)
        elif row.image not in gone and row.image != but:
            return row
    return None


@dataclass(frozen=True)
class Releases:
    """What is known about images in environments."""

    db: Database

    async def record(
        self,
        lease: Lease,
        *,
        service: str,
        environment: str,
        image: str,
        sha: str | None,
        status: Literal["good", "bad", "withdrawn"],
        reason: str,
        at: datetime,
    ) -> None:
        """Say that an image proved itself in an environment, did not, or was taken back with its
        group. Raises `LeaseLost`.

        `at` is in the time of the world that is operated, as policy looks back in it.
        """
        await self.db.count(
            RECORD,
            {
                "run": lease.run_id,
                "fence": lease.fence,
                "service": service,
                "environment": environment,
                "image": image,
                "sha": sha,
                "status": status,
                "reason": text(reason),
                "at": at,
            },
        )

    async def last_good(
        self, service: str, environment: str, but: str | None = None
    ) -> ReleaseRow | None:
        """The image to go back to: the latest good one, not found bad since, other than `but`."""
        return await self.db.model(
            ReleaseRow, LAST_GOOD, {"service": service, "environment": environment, "but": but}
        )

    async def history(self, service: str, environment: str, limit: int = 20) -> list[ReleaseRow]:
        """What was said about images in an environment, newest first."""
        return await self.db.models(
            ReleaseRow,
            HISTORY,
            {"service": service, "environment": environment, "limit": limit},
        )

    async def is_bad(self, service: str, environment: str, image: str) -> bool:
        """Whether the latest word on an image there is that it is bad."""
        return bool(
            await self.db.value(
                IS_BAD, {"service": service, "environment": environment, "image": image}
            )
        )
