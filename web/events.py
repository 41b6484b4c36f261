"""`POST /event`: CloudEvents, CDEvents and plain JSON from whoever holds a token.

Idempotency: a CloudEvent is known by source and id, a plain form by the `Idempotency-Key` header
or its `id`. A form without either is known by its sender and its body: for facts (a push, an
alert) for good, for requests (deploy, rollback, command) for some ten minutes, so that a client
that repeats itself causes nothing twice, while the same rollback can be asked for next week. A
`ci_result` without either is always taken: it replaces the one before, and may go back to it.
"""

from __future__ import annotations

from time import time as real_time
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Request, Response

from domain.digest import digest_of_bytes
from web.auth import API_KEY, BEARER, Principal
from web.cloudevents import CloudEvent, binary, structured
from web.cloudevents import body_of as body_of_cloud_event
from web.event_forms import LATEST_COUNTS, ONE_OFF, body_of
from web.limits import check_length, media_type, parse_json_fairly, read_body
from web.problems import IntakeRoute, Problem
from web.receive import ANSWERS, Delivery, Edge, receive
from web.roles import ACTOR, states
from web.shapes import misshapen

JSON = "application/json"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"

REPEAT_SECONDS = 600
"""Span in which a request without an idempotency key is taken for a repetition."""


def router_events(edge: Edge) -> APIRouter:
    """The route of `POST /event`."""
    router = APIRouter(route_class=IntakeRoute, tags=["events"])
    gatekeeper = edge.gatekeeper()

    @router.post(
        "/event",
        status_code=202,
        responses=ANSWERS,
        summary="Send an event",
        description=__doc__,
        dependencies=[Depends(BEARER), Depends(API_KEY)],
        openapi_extra={"requestBody": _REQUEST_BODY, **states(ACTOR)},
    )
    async def event(request: Request) -> Response:
        check_length(request)
        principal = gatekeeper.require(request, ACTOR)
        return await receive(edge, await _delivery(request, principal))

    return router


async def _delivery(request: Request, principal: Principal) -> Delivery:
    binary_mode = "ce-specversion" in request.headers
    if request.headers.get("content-type", "").lower().startswith(BATCH):
        raise Problem(415, "Batches are not taken.", "Send one CloudEvent a request.")
    if not (binary_mode and "content-type" not in request.headers):
        kind = media_type(request, (JSON,) if binary_mode else (JSON, STRUCTURED))
    body = await read_body(request)
    if binary_mode:
        return _of_cloud_event(binary(request.headers, body), body, principal)
    data = await parse_json_fairly(body)
    if kind == STRUCTURED or (isinstance(data, dict) and "specversion" in data):
        return _of_cloud_event(structured(data), body, principal)
    if not isinstance(data, dict):
        raise misshapen("", "an event has to be an object", 'Send `{"type": …}`.')
    return _of_form(data, body, _key(request, data), principal)


def _of_cloud_event(event: CloudEvent, body: bytes, principal: Principal) -> Delivery:
    # what parts the two must not stand in the first
    source = event.source.replace("%", "%25").replace("#", "%23")
    delivery_id = f"{source}#{event.id}"
    return Delivery(
        source="cloudevents",
        delivery_id=delivery_id,
        # source and id alone make a CloudEvent what it is: equal data is not a repetition
        body_digest=_digest("cloudevent", delivery_id, body),
        payload=body,
        body=body_of_cloud_event(event, principal),
    )


def _of_form(data: dict[str, Any], body: bytes, key: str | None, principal: Principal) -> Delivery:
    if key is not None:
        delivery_id = f"{principal.name}:{key}"
        digest = _digest("key", delivery_id, body)
    else:
        delivery_id = str(uuid4())
        span = str(int(real_time()) // REPEAT_SECONDS) if data.get("type") in ONE_OFF else ""
        if data.get("type") in LATEST_COUNTS:
            span = delivery_id
        # the sender counts: two people who approve in the same words are two approvals
        digest = _digest("form", f"{principal.name}\n{span}", body)
    return Delivery(
        source="api",
        delivery_id=delivery_id,
        body_digest=digest,
        payload=body,
        body=body_of(data, principal),
    )


def _key(request: Request, data: dict[str, Any]) -> str | None:
    """The sender's own name for this request, from the header or the form."""
    header = request.headers.get("idempotency-key", "").strip().strip('"')
    if header:
        return header
    own = data.get("id")
    if own is None:
        return None
    if not isinstance(own, str) or not own:
        raise misshapen("id", "has to be a string", "Leave it out to have one made.")
    return own


def _digest(purpose: str, scope: str, body: bytes) -> str:
    return digest_of_bytes(f"{purpose}\n{scope}\n".encode() + body)


_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        JSON: {
            "schema": {"type": "object", "required": ["type"]},
            "examples": {
                "deploy": {
                    "value": {
                        "type": "deploy",
                        "service": "checkout",
                        "environment": "staging",
                        "sha": "4f2c1a9d",
                    }
                },
                "rollback": {
                    "value": {"type": "rollback", "service": "checkout", "environment": "prod"}
                },
                "command": {"value": {"type": "command", "text": "/approve 3f2a91c0 looks right"}},
            },
        },
        STRUCTURED: {"schema": {"type": "object", "required": ["specversion", "id", "type"]}},
    },
}
