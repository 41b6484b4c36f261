"""`POST /webhooks/github`: signatures checked over the raw bytes, payloads made into events.

Whatever GitHub sends is answered 202 and recorded: what is not understood becomes `Unhandled`
with the reason. https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from urllib.parse import parse_qs

import structlog
from fastapi import APIRouter, Request, Response

from domain.digest import digest_of_bytes
from domain.event import Commanded, Unhandled
from web.github_payloads import Understood, understand
from web.limits import LARGE, check_length, media_type, parse_json, read_body
from web.problems import IntakeRoute, Problem, shown
from web.receive import ANSWERS, Delivery, Edge, receive
from web.roles import SIGNATURE, states

log = structlog.get_logger(__name__)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def router_github(edge: Edge) -> APIRouter:
    """The webhook's route."""
    router = APIRouter(route_class=IntakeRoute, tags=["events"])

    @router.post(
        "/webhooks/github",
        status_code=202,
        responses=ANSWERS,
        summary="Receive a GitHub webhook",
        openapi_extra=states(SIGNATURE),
        description="Signed with `X-Hub-Signature-256`; JSON or form-encoded (`payload=`).",
    )
    async def github(request: Request) -> Response:
        return await _take(edge, request)

    return router


def verify(body: bytes, signature: str, secrets: tuple[bytes, ...]) -> bool:
    """Whether one of the secrets signed these bytes. Every secret is tried, in constant time."""
    right = False
    for secret in secrets:
        expected = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
        right |= hmac.compare_digest(expected.encode(), signature.encode())
    return right


async def _take(edge: Edge, request: Request) -> Response:
    if not edge.secrets:
        raise Problem(
            503,
            "The GitHub webhook has no secret yet.",
            "Set GITHUB_WEBHOOK_SECRET to the secret of the webhook and restart.",
        )
    check_length(request)
    signature = _signature(request)
    kind = media_type(request, (JSON, FORM))
    body = await read_body(request)
    if not await _signed(body, signature, edge.secrets):
        raise Problem(
            401,
            "The signature does not match the body.",
            "The secret of the webhook and GITHUB_WEBHOOK_SECRET have to be the same.",
        )
    event, delivery = _header(request, "X-GitHub-Event"), _header(request, "X-GitHub-Delivery")
    understood = await _understand(event, kind, body, edge.account)
    if understood.problem:
        log.warning("webhook not understood", kind=shown(event), reason=understood.problem)
    return await receive(
        edge,
        Delivery(
            source="github",
            delivery_id=delivery,
            body_digest=_digest(understood, body),
            payload=body,
            body=understood.body,
            remarks=understood.remarks,
            unheard=understood.unheard,
        ),
    )


def _digest(understood: Understood, body: bytes) -> str:
    """What a delivery is known by, whatever id it comes under. A comment is read once: the delivery
    id is not signed, and the same comment may come in other wrappings."""
    meaning = understood.body
    if isinstance(meaning, Commanded) and meaning.comment_id is not None:
        where = f"{(meaning.repo or '').lower()}\n{meaning.comment_id}"
        name = f"comment\n{where}\n{meaning.author.login.lower()}\n{understood.text_digest}"
        return digest_of_bytes(name.encode())
    return digest_of_bytes(body)


async def _signed(body: bytes, signature: str, secrets: tuple[bytes, ...]) -> bool:
    if len(body) < LARGE:
        return verify(body, signature, secrets)
    return await asyncio.to_thread(verify, body, signature, secrets)


async def _understand(event: str, kind: str, body: bytes, account: str) -> Understood:
    if len(body) < LARGE:
        return _read(event, kind, body, account)
    return await asyncio.to_thread(_read, event, kind, body, account)


def _read(event: str, kind: str, body: bytes, account: str) -> Understood:
    payload = parse_json(_form_payload(body) if kind == FORM else body)
    if not isinstance(payload, dict):
        what = f"{shown(event)} without a payload object"
        return Understood(Unhandled(what=what), problem=what)
    return understand(event, payload, account)


def _signature(request: Request) -> str:
    signature = request.headers.get("x-hub-signature-256")
    if signature is not None:
        return signature
    if request.headers.get("x-hub-signature") is not None:
        raise Problem(
            401,
            "Only the SHA-1 signature was sent, which proves too little.",
            "Send `X-Hub-Signature-256` as well; GitHub does so by itself.",
        )
    raise Problem(
        401,
        "The request is not signed.",
        "Give the webhook a secret, so that GitHub sends `X-Hub-Signature-256`.",
    )


def _header(request: Request, name: str) -> str:
    value = request.headers.get(name, "").strip()
    if not value:
        raise Problem(400, f"The header {name} is missing.", "GitHub sends it with each delivery.")
    return value


def _form_payload(body: bytes) -> bytes:
    try:
        fields = parse_qs(body, strict_parsing=True, max_num_fields=10)
    except ValueError:
        raise Problem(400, "The body is not form-encoded.", "Send JSON, or `payload=…`.") from None
    values = fields.get(b"payload")
    if not values:
        raise Problem(400, "The form has no field `payload`.", "Send JSON, or `payload=…`.")
    return values[0]
