"""Releases: which image was proven in an environment, and which was rolled back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from domain.configuration import Configuration, is_other
from store.database import Database, jsonb, text
from store.records import Lease, ReleaseRow

# A node may run twice: the same word of the same run is kept once.
RECORD = """
INSERT INTO releases (service, environment, image, sha, run_id, status, reason, at, config)
SELECT %(service)s, %(environment)s, %(image)s, %(sha)s, held.run_id, %(status)s, %(reason)s,
       %(at)s, %(config)s
FROM (SELECT fermata_hold(%(run)s, %(fence)s) AS run_id) held
ON CONFLICT (service, environment, image, run_id, status, config) DO NOTHING
"""
# Good, and neither found bad nor taken back since.
LAST_GOOD = """
SELECT fermata_doc(l) FROM releases l
WHERE l.service = %(service)s AND l.environment = %(environment)s AND l.status = 'good'
  AND (%(but)s::text IS NULL OR l.image <> %(but)s
       OR NOT fermata_same_config(l.config, %(but_config)s))
  AND NOT EXISTS (
      SELECT FROM releases b
      WHERE b.service = l.service AND b.environment = l.environment AND b.image = l.image
        AND fermata_same_config(b.config, l.config) AND b.status <> 'good' AND b.seq > l.seq)
ORDER BY l.seq DESC LIMIT 1
"""
HISTORY = """
SELECT fermata_doc(l) FROM releases l
WHERE l.service = %(service)s AND l.environment = %(environment)s
ORDER BY l.seq DESC LIMIT %(limit)s
"""
# Each run that looks at a place before it changes it leaves another good word on what runs there.
FAILURES = """
SELECT fermata_doc(l) FROM releases l
WHERE l.service = %(service)s AND l.environment = %(environment)s AND l.status = 'bad'
ORDER BY l.seq DESC LIMIT %(limit)s
"""
GOOD = """
SELECT fermata_doc(l) FROM releases l
WHERE l.service = %(service)s AND l.environment = %(environment)s AND l.status = 'good'
  AND NOT EXISTS (
      SELECT FROM releases n
      WHERE n.service = l.service AND n.environment = l.environment AND n.image = l.image
        AND n.config = l.config AND n.status = 'good' AND n.seq > l.seq)
ORDER BY l.seq DESC LIMIT %(limit)s
"""
IS_BAD = """
SELECT status = 'bad' FROM releases
WHERE service = %(service)s AND environment = %(environment)s AND image = %(image)s
  AND fermata_same_config(config, %(config)s)
ORDER BY seq DESC LIMIT 1
"""


def still_good(
    history: Iterable[ReleaseRow], but: str | None = None, but_config: Configuration = ()
) -> ReleaseRow | None:
    """The latest good version of a history (newest first), not taken back since, other than `but`.

    A version is an image with its configuration.
    """
    gone: list[ReleaseRow] = []
    for row in history:
        if row.status != "good":
            gone.append(row)
            continue
        is_but = row.image == but and not is_other(row.config, but_config)
        is_gone = any(
            one.image == row.image and not is_other(one.config, row.config) for one in gone
        )
        if not is_but and not is_gone:
            return row
    return None


def kept_config(history: Iterable[ReleaseRow], count: int) -> Configuration:
    """What the latest `count` good versions of a history (newest first) ran with."""
    good = list(dict.fromkeys((row.image, row.config) for row in history if row.status == "good"))
    return tuple(dict.fromkeys(one for _, config in good[:count] for one in config if one.digest))


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
        config: Configuration = (),
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
                "config": _json(config),
            },
        )

    async def last_good(
        self,
        service: str,
        environment: str,
        but: str | None = None,
        but_config: Configuration = (),
    ) -> ReleaseRow | None:
        """What to go back to: the latest good version, not found bad since, other than `but`."""
        return await self.db.model(
            ReleaseRow,
            LAST_GOOD,
            {
                "service": service,
                "environment": environment,
                "but": but,
                "but_config": _json(but_config),
            },
        )

    async def history(self, service: str, environment: str, limit: int = 20) -> list[ReleaseRow]:
        """What was said about images in an environment, newest first."""
        return await self.db.models(
            ReleaseRow,
            HISTORY,
            {"service": service, "environment": environment, "limit": limit},
        )

    async def failures(self, service: str, environment: str, limit: int) -> list[ReleaseRow]:
        """The words that a version there is bad, newest first."""
        place = {"service": service, "environment": environment, "limit": limit}
        return await self.db.models(ReleaseRow, FAILURES, place)

    async def kept(self, service: str, environment: str, count: int) -> Configuration:
        """What the latest `count` good versions there ran with."""
        place = {"service": service, "environment": environment, "limit": count}
        return kept_config(await self.db.models(ReleaseRow, GOOD, place), count)

    async def is_bad(
        self, service: str, environment: str, image: str, config: Configuration = ()
    ) -> bool:
        """Whether the latest word on an image (with its configuration) there is that it is bad."""
        place = {"service": service, "environment": environment, "image": image}
        return bool(await self.db.value(IS_BAD, {**place, "config": _json(config)}))


def _json(config: Configuration) -> Any:
    """In one order, so that the same configuration is the same text."""
    ordered = sorted(config, key=lambda one: (one.kind, one.name))
    return jsonb([one.model_dump(mode="json") for one in ordered])
