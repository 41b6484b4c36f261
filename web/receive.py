"""The shared way in: a verified, understood delivery is correlated, stored, hinted and answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from uuid import UUID, uuid4

import orjson
import psycopg
import structlog
from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from domain.clock import Clock
from domain.digest import digest_of_bytes
from domain.event import (
    AlertGroup,
    CheckResult,
    Commanded,
    Event,
    EventBody,
    PullRequestChanged,
    Pushed,
    Tagged,
    Unhandled,
)
from domain.intake import Ignore, Intake
from domain.refusal import Refusal, Unheard
from domain.service import Catalogue
from store.records import Receipt
from web.auth import Gatekeeper, Tokens
from web.commanded import COMMIT
from web.correlate import answer_to, correlate, spelled
from web.problems import Problem

log = structlog.get_logger(__name__)

MAX_ID = 200
"""Characters of a delivery id; longer ones are replaced by their digest."""

MAX_NAME = 255
"""Characters of repositories, branches, tags, commits and check names: they end in index keys."""

MAX_TEXT = 1000
"""Characters kept of titles and the like."""

Source = Literal["github", "alertmanager", "cloudevents", "api", "cli"]


Revive = Callable[[Event, Sequence[Intake]], Awaitable[tuple[Event, list[Intake]]]]


class Accepts(Protocol):
    """Where events go: `store.events.EventLog`."""

    async def accept(self, event: Event, intakes: Sequence[Intake], payload: bytes) -> Receipt:
        """Store the event with all it asks for in one transaction, or say that it is known."""
        ...


@dataclass(frozen=True)
class Edge:
    """What the intake routers need. `account` is our own login on the forge ('' if unknown).

    `secrets` are the webhook keys, several while rotating; none: the webhook is not set up.
    """

    events: Accepts
    hint: Callable[[UUID], None]
    catalogue: Callable[[], Catalogue]
    secrets: tuple[bytes, ...] = field(repr=False)
    tokens: Tokens
    clock: Clock
    account: str = ""
    roles: Callable[[], frozenset[str]] = frozenset
    """Roles that policy names, which a sender may have."""
    refuse: Callable[[Refusal], Awaitable[None]] | None = None
    """Keeps a refusal (`store.refusals.Refusals.add`)."""
    clean: Callable[[EventBody], EventBody] = lambda body: body
    """Takes secrets out of what came in: from here on nobody sees them, except in the raw payload
    that is kept for replays."""
    revive: Revive | None = None
    """Looks whether a command is about a run that has ended (`web.revival.Revival.of`)."""

    def gatekeeper(self) -> Gatekeeper:
        """Tells senders by their tokens; page sessions do not count here."""
        return Gatekeeper(self.tokens, roles=self.roles)


@dataclass(frozen=True)
class Delivery:
    """One verified delivery, understood.

    `remarks` are sentences about parts that were left out (a misspelt command beside a good one).
    """

    source: Source
    delivery_id: str
    body_digest: str
    payload: bytes = field(repr=False)
    body: EventBody
    remarks: tuple[str, ...] = ()
    unheard: tuple[Unheard, ...] = ()
    """Commands in a comment that is not read: kept as refused."""


class Accepted(BaseModel):
    """Answer to a delivery. `reason` says why it was ignored, or what it repeats."""

    model_config = ConfigDict(frozen=True)

    event_id: UUID
    status: Literal["accepted", "duplicate", "ignored"]
    run_id: UUID | None = Field(description="Run that was started or joined, if any")
    thread_id: UUID | None = Field(description="Thread of the change the event is about")
    reason: str | None = None


class Refused(BaseModel):
    """Answer to a request that is refused."""

    error: str = Field(description="What is wrong, in one sentence")
    hint: str = Field(description="What would help")


ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"model": Accepted, "description": "Stored, or known already"},
    400: {"model": Refused, "description": "Malformed"},
    401: {"model": Refused, "description": "Not authenticated"},
    403: {"model": Refused, "description": "Not allowed"},
    413: {"model": Refused, "description": "Larger than 25 MB"},
    415: {"model": Refused, "description": "Content type not understood"},
    422: {"model": Refused, "description": "Wrong shape; `path` names the field"},
    503: {"model": Refused, "description": "Cannot be stored now; send it again"},
}
"""What the intake routes answer, for OpenAPI."""


async def receive(edge: Edge, delivery: Delivery) -> Response:
    """Correlate, store, hint at the runs it is for, and answer 202."""
    catalogue = edge.catalogue()
    event = Event(
        id=uuid4(),
        source=delivery.source,
        delivery_id=bounded_id(delivery.delivery_id),
        body_digest=delivery.body_digest,
        received_at=edge.clock.now(),
        body=edge.clean(spelled(delivery.body, catalogue)),
    )
    remarks = tuple(Ignore(reason=remark) for remark in delivery.remarks)
    asked = correlate(event, catalogue)
    if remarks and isinstance(event.body, Commanded) and not event.body.commands:
        asked = ()
    intakes: Sequence[Intake] = (*asked, *remarks, *answer_to(event, catalogue))
    with _storable(event):
        if edge.revive is not None and isinstance(event.body, Commanded):
            event, intakes = await edge.revive(event, intakes)
        receipt = await edge.events.accept(event, intakes, delivery.payload)
        await _keep_refusals(edge, event, delivery, receipt)
    reason = _reason(receipt, intakes)
    log.info(
        "event",
        event_id=receipt.event_id,
        source=event.source,
        kind=event.body.kind,
        status=receipt.status,
        run_id=receipt.run_id,
        reason=reason or None,
    )
    if receipt.status == "accepted":
        for run_id in receipt.run_ids:
            edge.hint(run_id)
    return _answer(receipt, reason)


async def _keep_refusals(edge: Edge, event: Event, delivery: Delivery, receipt: Receipt) -> None:
    """Write down the commands that this delivery gives in vain: in a comment that is not read, or
    read before."""
    unheard = delivery.unheard if receipt.status != "duplicate" else ()
    body = delivery.body
    if receipt.status == "duplicate" and isinstance(body, Commanded):
        unheard = tuple(
            Unheard(
                kind="replayed",
                command=name,
                principal=body.author.login,
                reason=f"This was received before, as event {receipt.event_id}; it counts once.",
                repo=body.repo,
                number=body.number,
                comment_id=body.comment_id,
            )
            for name in dict.fromkeys(one.name.value for one in body.commands)
        )
    if edge.refuse is None:
        return
    via = "comment" if delivery.source == "github" else "api"
    for one in unheard:
        refusal = Refusal(
            **one.model_dump(), via=via, at=event.received_at, event_id=receipt.event_id
        )
        await edge.refuse(refusal)


def _reason(receipt: Receipt, intakes: Sequence[Intake]) -> str:
    """Why nothing was started, in the store's words or in those of the intakes."""
    match receipt.status:
        case "ignored":
            ignored = "; ".join(one.reason for one in intakes if isinstance(one, Ignore))
            return receipt.reason or ignored
        case "duplicate":
            return receipt.reason or "this delivery, or one with the same body, was received before"
        case "accepted":
            return receipt.reason


def _answer(receipt: Receipt, reason: str) -> Response:
    content: dict[str, Any] = {
        "event_id": receipt.event_id,
        "status": receipt.status,
        "run_id": receipt.run_id,
        "thread_id": receipt.thread_id,
    }
    if reason:
        content["reason"] = reason
    return Response(orjson.dumps(content), status_code=202, media_type="application/json")


@contextmanager
def _storable(event: Event) -> Iterator[None]:
    """A database that does not answer becomes a 503: nothing was promised yet, so that the sender
    keeps the event and tries again."""
    try:
        yield
    except (psycopg.OperationalError, OSError) as error:
        log.warning("event not stored", source=event.source, error=type(error).__name__)
        raise Problem(
            503,
            "The event could not be stored: the database does not answer.",
            "Send it again in a few seconds; nothing is done twice.",
            headers={"Retry-After": "5"},
        ) from error


def bounded_id(text: str) -> str:
    """A delivery id that fits an index: as it is, or its digest when it is too long."""
    return text if len(text) <= MAX_ID else f"sha256:{digest_of_bytes(text.encode())}"


def misfit(body: EventBody) -> tuple[str, str] | None:
    """(field, what is wrong) of a body that cannot be stored or acted on; None when all fits."""
    names: dict[str, str | None] = {}
    commits: dict[str, str | None] = {}
    number: int | None = None
    match body:
        case PullRequestChanged():
            names = {"repo": body.repo, "head_ref": body.head_ref, "base_ref": body.base_ref}
            commits = {
                "head_sha": body.head_sha,
                "base_sha": body.base_sha,
                "merge_sha": body.merge_sha,
            }
            number = body.number
        case Pushed():
            names = {"repo": body.repo, "branch": body.branch}
            commits = {"sha": body.sha}
        case Tagged():
            names, commits = {"repo": body.repo, "tag": body.tag}, {"sha": body.sha}
        case CheckResult():
            names, commits = {"repo": body.repo, "name": body.name}, {"sha": body.sha}
        case Commanded():
            names, number = {"repo": body.repo}, body.number
        case AlertGroup() | Unhandled():
            return None
    if not isinstance(body, CheckResult):
        names["author.login"] = body.author.login
    for field_name, name in names.items():
        if name is not None and not 0 < len(name) <= MAX_NAME:
            return field_name, f"has to have 1 to {MAX_NAME} characters"
    for field_name, commit in commits.items():
        if commit is not None and not COMMIT.fullmatch(commit):
            return field_name, "is not a commit id"
    if number is not None and not 0 < number < 2**31:
        return "number", "has to be a number from 1 to 2147483647"
    return None
