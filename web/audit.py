"""`GET /api/audit`: the audit record for auditors, newest first. Proving it is the command's."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Protocol
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from store.audit import AuditRow, Head
from web.answers import Answer, refusals
from web.auth import API_KEY, BEARER, Principal, require
from web.problems import EdgeRoute
from web.shapes import STORABLE

AUDITOR = "auditor"
"""The role that may read the record; `admin` has every role."""
MOST_ROWS = 500

Auditor = Annotated[Principal, Depends(require(AUDITOR))]


class Record(Protocol):
    """Where the record is read (`store.audit.AuditLog`)."""

    async def head(self) -> Head | None:
        """The newest link."""
        ...

    async def page(
        self, *, run_id: UUID | None, kind: str | None, before: int | None, limit: int
    ) -> Sequence[AuditRow]:
        """Linked rows, newest first."""
        ...


class AuditHead(Answer):
    """The newest row's number and hash: keep it, and `fermata audit verify --head` will know."""

    seq: int
    hash: str


class AuditEntry(Answer):
    """One row of the record."""

    seq: int
    at: datetime
    kind: str
    run: UUID | None
    data: dict[str, Any]
    hash: str


class AuditPage(Answer):
    """Rows, newest first."""

    head: AuditHead | None = Field(description="null: nothing is on record yet")
    rows: tuple[AuditEntry, ...]
    next: int | None = Field(description="Give it as `before` for the next page; null: the last")


def router_audit(record: Record) -> APIRouter:
    """The one route. It needs the role `auditor`."""
    router = APIRouter(
        prefix="/api",
        route_class=EdgeRoute,
        tags=["audit"],
        dependencies=[Depends(BEARER), Depends(API_KEY)],
        responses=refusals(401, 403, 422),
    )

    @router.get("/audit", summary="Read the audit record")
    async def read_audit(
        _who: Auditor,
        run: Annotated[UUID | None, Query(description="Only rows of this run")] = None,
        kind: Annotated[
            str | None,
            Query(description="Only rows of this kind, such as `override`", pattern=STORABLE),
        ] = None,
        before: Annotated[int | None, Query(ge=1, description="`next` of the page before")] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many at most")] = 100,
    ) -> AuditPage:
        """Rows that are linked into the chain, newest first; needs the role `auditor`. For a proof,
        and for a dump that can be proven elsewhere, see `fermata audit`."""
        head = await record.head()
        rows = await record.page(run_id=run, kind=kind, before=before, limit=limit)
        return AuditPage(
            head=AuditHead(seq=head.seq, hash=head.hash) if head is not None else None,
            rows=tuple(
                AuditEntry(
                    seq=one.seq,
                    at=one.record["at"],
                    kind=one.record["kind"],
                    run=one.record["run"],
                    data=one.record["data"],
                    hash=one.hash,
                )
                for one in rows
            ),
            next=rows[-1].seq if len(rows) == limit and rows[-1].seq > 1 else None,
        )

    return router
