"""All of the store, one object a concern, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from store.approvals import Approvals
from store.audit import AuditLog
from store.database import Database
from store.decisions import Decisions
from store.effects import Effects
from store.events import EventLog
from store.leases import Leases
from store.locks import Locks
from store.overrides import Overrides
from store.queries import Queries
from store.refusals import Refusals
from store.releases import Releases
from store.runs import Runs
from store.signals import Signals
from store.verdicts import Verdicts


@dataclass(frozen=True)
class Books:
    """The store as the rest of the house holds it."""

    database: Database
    events: EventLog
    runs: Runs
    leases: Leases
    decisions: Decisions
    approvals: Approvals
    effects: Effects
    verdicts: Verdicts
    signals: Signals
    locks: Locks
    releases: Releases
    overrides: Overrides
    refusals: Refusals
    queries: Queries
    audit: AuditLog

    @classmethod
    def of(cls, database: Database) -> Books:
        """All books on one database."""
        return cls(
            database=database,
            events=EventLog(database),
            runs=Runs(database),
            leases=Leases(database),
            decisions=Decisions(database),
            approvals=Approvals(database),
            effects=Effects(database),
            verdicts=Verdicts(database),
            signals=Signals(database),
            locks=Locks(database),
            releases=Releases(database),
            overrides=Overrides(database),
            refusals=Refusals(database),
            queries=Queries(database),
            audit=AuditLog(database),
        )
