"""`POST /webhooks/alertmanager`: a group of alerts, as Alertmanager's webhook receiver sends it.

Version 4 of https://prometheus.io/docs/alerting/latest/configuration/#webhook_config. A token
authenticates it, as a bearer token or as the password of `basic_auth`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from domain.digest import digest_of, digest_of_bytes
from domain.event import Alert, AlertGroup
from web.auth import BEARER, basic_password
from web.limits import check_length, media_type, parse_json_fairly, read_body
from web.problems import IntakeRoute
from web.receive import ANSWERS, Delivery, Edge, receive
from web.roles import ACTOR, states
from web.shapes import misshapen, shaped

NO_TIME_BEFORE = 1970
"""Year under which a time is Go's zero time: not set."""


class AlertPayload(BaseModel):
    """One alert as Alertmanager spells it."""

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    startsAt: datetime
    endsAt: datetime | None = None
    generatorURL: str = ""
    fingerprint: str = ""


class GroupPayload(BaseModel):
    """A group as Alertmanager spells it; fields that nobody reads are left out."""

    version: str
    groupKey: str = Field(min_length=1)
    status: Literal["firing", "resolved"]
    receiver: str = ""
    externalURL: str = ""
    alerts: list[AlertPayload] = Field(min_length=1)


def router_alertmanager(edge: Edge) -> APIRouter:
    """The webhook's route."""
    router = APIRouter(route_class=IntakeRoute, tags=["events"])
    gatekeeper = edge.gatekeeper()

    @router.post(
        "/webhooks/alertmanager",
        status_code=202,
        responses=ANSWERS,
        summary="Receive an Alertmanager notification",
        dependencies=[Depends(BEARER)],
        openapi_extra=states(ACTOR),
        description="Payload version 4; bearer token, or basic auth with a token as password.",
    )
    async def alertmanager(request: Request) -> Response:
        check_length(request)
        password = basic_password(request)
        gatekeeper.require(request, ACTOR, token=password)
        media_type(request, ("application/json",))
        body = await read_body(request)
        group = group_of(await parse_json_fairly(body))
        return await receive(
            edge,
            Delivery(
                source="alertmanager",
                delivery_id=delivery_id_of(group),
                body_digest=digest_of_bytes(body),
                payload=body,
                body=group,
            ),
        )

    return router


def group_of(payload: object) -> AlertGroup:
    """The group a payload describes; a 422 names the field that is wrong."""
    if not isinstance(payload, dict):
        raise misshapen("", "the payload has to be an object")
    if payload.get("version") != "4":
        raise misshapen("version", 'has to be "4"', "Alertmanager 0.16 and later send it.")
    group = shaped(GroupPayload, payload)
    return AlertGroup(
        group_key=group.groupKey,
        status=group.status,
        receiver=group.receiver,
        external_url=group.externalURL,
        alerts=tuple(_alert(alert) for alert in group.alerts),
    )


def delivery_id_of(group: AlertGroup) -> str:
    """The same for the same news: Alertmanager's retries, its repeats of alerts that still fire,
    and the notifications of both halves of a highly available pair."""
    news = sorted(
        f"{alert.fingerprint} {alert.status} {alert.starts_at.isoformat()}"
        for alert in group.alerts
    )
    return f"group:{digest_of([group.group_key, group.status, news])}"


def _alert(alert: AlertPayload) -> Alert:
    ends = None if alert.endsAt is None or alert.endsAt.year < NO_TIME_BEFORE else alert.endsAt
    return Alert(
        name=alert.labels.get("alertname") or "alert",
        status=alert.status,
        # what Alertmanager would send is a hash over the labels, too
        fingerprint=alert.fingerprint or digest_of(alert.labels)[:16],
        labels=alert.labels,
        annotations=alert.annotations,
        starts_at=alert.startsAt,
        ends_at=ends,
        generator_url=alert.generatorURL,
    )
