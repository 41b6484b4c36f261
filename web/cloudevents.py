"""CloudEvents 1.0 over HTTP, structured and binary, and what CDEvents mean here.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
https://github.com/cdevents/spec. A CDEvent carries no commit; where one is needed, `customData`
has to hold `repo` and `sha` (a merged change: `branch` as well).
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from pydantic import BaseModel, Field

from domain.digest import digest_of
from domain.event import (
    Actor,
    Alert,
    AlertGroup,
    CheckResult,
    EventBody,
    Pushed,
    Unhandled,
)
from web.auth import Principal
from web.event_forms import FORMS, body_of_type
from web.limits import parse_json
from web.problems import Problem, nearest, shown
from web.receive import MAX_NAME, misfit
from web.shapes import misshapen, shaped

OURS = "dev.fermata."
"""Prefix of CloudEvent types whose data is a plain form: `dev.fermata.deploy`."""

CDEVENTS = "dev.cdevents."

_LIKE = 0.85
"""How alike a type has to be to count as misspelt: the prefixes are half of it already."""

_CDEVENT = re.compile(r"dev\.cdevents\.([a-z]+\.[a-z]+)(?:\.\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)?")
_VCS = re.compile(r"(?:git\+)?(?:https?|ssh)://[^/]+/(?P<repo>[^@]+?)(?:\.git)?@(?P<sha>\w+)")


@dataclass(frozen=True)
class CloudEvent:
    """The attributes that matter, and the data."""

    id: str
    source: str
    type: str
    time: datetime | None
    data: Any


class _Attributes(BaseModel):
    specversion: Literal["1.0"]
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    type: str = Field(min_length=1)
    time: datetime | None = None
    datacontenttype: str | None = None


def structured(payload: object) -> CloudEvent:
    """A CloudEvent in JSON format."""
    if not isinstance(payload, dict):
        raise misshapen("", "a CloudEvent has to be an object")
    attributes = _attributes(payload)
    data = payload.get("data")
    if "data_base64" in payload:
        if data is not None:
            raise misshapen("data_base64", "stands beside `data`", "Send one of them.")
        try:
            data = parse_json(b64decode(payload["data_base64"], validate=True))
        except (Base64Error, TypeError, ValueError):
            raise misshapen("data_base64", "is not base64") from None
    return _cloud_event(attributes, data)


def binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """A CloudEvent whose attributes are `ce-*` headers and whose data is the body."""
    raw = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return _cloud_event(_attributes(raw), parse_json(body) if body.strip() else None)


def body_of(event: CloudEvent, principal: Principal) -> EventBody:
    """What a CloudEvent means to us. A type of others is `Unhandled`, a misspelt one a 422."""
    if event.type.startswith(OURS):
        data = {} if event.data is None else event.data
        if not isinstance(data, dict):
            raise misshapen("data", "has to be an object")
        return body_of_type(event.type.removeprefix(OURS), data, principal)
    if event.type.startswith(CDEVENTS):
        return _cd_body(event)
    meant = nearest(event.type, (*(OURS + form for form in FORMS), *CDEVENT_TYPES), _LIKE)
    if meant is not None:
        raise misshapen(
            "type", f"no event has the type {shown(event.type)}", f"Did you mean `{meant}`?"
        )
    return Unhandled(what=f"nothing to do for {shown(event.type)}")


def _attributes(raw: Mapping[str, Any]) -> _Attributes:
    version = raw.get("specversion")
    if version != "1.0":
        raise misshapen("specversion", 'has to be "1.0"', "CloudEvents 1.0 is understood.")
    attributes = shaped(_Attributes, raw)
    kind = (attributes.datacontenttype or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "The data of the CloudEvent has to be JSON.", "Send JSON data.")
    return attributes


def _cloud_event(attributes: _Attributes, data: Any) -> CloudEvent:
    return CloudEvent(attributes.id, attributes.source, attributes.type, attributes.time, data)


# ---- CDEvents ------------------------------------------------------------------------------

_OUTCOMES: dict[str, Literal["success", "failure", "error", "cancelled"]] = {
    "success": "success",
    "pass": "success",
    "failure": "failure",
    "fail": "failure",
    "error": "error",
    "cancel": "cancelled",
}

_RUNS = frozenset({"pipelinerun", "taskrun", "testsuiterun"})
_INCIDENTS: dict[str, Literal["firing", "resolved"]] = {
    "incident.detected": "firing",
    "incident.reported": "firing",
    "incident.resolved": "resolved",
}
_SUBJECTS = {
    "artifact": "packaged signed published downloaded deleted",
    "branch": "created deleted",
    "build": "queued started finished",
    "change": "created reviewed merged abandoned updated",
    "environment": "created modified deleted",
    "incident": "detected reported resolved",
    "pipelinerun": "queued started finished",
    "repository": "created modified deleted",
    "service": "deployed published removed rolledback upgraded",
    "taskrun": "queued started finished",
    "testcaserun": "queued started finished skipped",
    "testoutput": "published",
    "testsuiterun": "queued started finished",
    "ticket": "created updated closed",
}
CDEVENT_TYPES = tuple(
    f"{CDEVENTS}{subject}.{predicate}"
    for subject, predicates in _SUBJECTS.items()
    for predicate in predicates.split()
)
"""The CDEvents types of specification 0.4, without their versions."""


class _Named(BaseModel):
    id: str = ""


class _Content(BaseModel):
    description: str = ""
    environment: _Named = _Named()
    service: _Named = _Named()
    repository: _Named = _Named()
    outcome: str = ""
    pipelineName: str = ""
    taskName: str = ""
    testSuite: _Named = _Named()
    url: str = ""
    uri: str = ""
    user: str = ""


class _Subject(BaseModel):
    id: str = Field(min_length=1)
    content: _Content = _Content()


class _Context(BaseModel):
    timestamp: datetime


class _Custom(BaseModel):
    """What we read of `customData`."""

    repo: str = ""
    sha: str = ""
    branch: str = ""
    default_branch: str = ""
    author: str = ""


class _CDEvent(BaseModel):
    context: _Context
    subject: _Subject
    customData: Any = None

    @property
    def custom(self) -> _Custom:
        """`customData`, when it is one that we can read."""
        return (
            shaped(_Custom, self.customData, "data.customData")
            if isinstance(self.customData, dict)
            else _Custom()
        )


def _cd_body(event: CloudEvent) -> EventBody:
    match = _CDEVENT.fullmatch(event.type)
    what = match[1] if match else ""
    if CDEVENTS + what not in CDEVENT_TYPES:
        meant = nearest(CDEVENTS + what if what else event.type, CDEVENT_TYPES, _LIKE)
        if meant is not None:
            raise misshapen(
                "type", f"no CDEvent has the type {shown(event.type)}", f"Did you mean `{meant}`?"
            )
        return Unhandled(what=f"nothing to do for {shown(event.type)}")
    if not isinstance(event.data, dict):
        raise misshapen("data", "has to be a CDEvent with context and subject")
    cd_event = shaped(_CDEvent, event.data, "data")
    body = _cd_meaning(what, cd_event)
    wrong = misfit(body)
    if wrong is not None:
        return Unhandled(what=f"{what}: {wrong[0]} {wrong[1]}")
    return body


def _cd_meaning(what: str, event: _CDEvent) -> EventBody:
    subject, _, predicate = what.partition(".")
    if what in _INCIDENTS:
        return _incident(event, _INCIDENTS[what])
    if what == "change.merged":
        return _merged(event)
    if what == "artifact.published":
        return _published(event)
    if subject in _RUNS:
        return _run(event, subject, predicate)
    return Unhandled(what=f"nothing to do for {CDEVENTS}{what}")


def _merged(event: _CDEvent) -> EventBody:
    custom = event.custom
    repo = custom.repo or event.subject.content.repository.id
    if not (repo and custom.sha and custom.branch):
        return Unhandled(
            what="change.merged names no commit; put sha and branch into its customData"
        )
    return Pushed(
        repo=repo,
        branch=custom.branch,
        default_branch=custom.default_branch or custom.branch,
        sha=custom.sha,
        before="",
        author=Actor(login=custom.author or "cdevents"),
    )


def _run(event: _CDEvent, subject: str, predicate: str) -> EventBody:
    custom, content = event.custom, event.subject.content
    if not (custom.repo and custom.sha):
        return Unhandled(
            what=f"{subject}.{predicate} names no commit; put repo and sha into its customData"
        )
    name = content.pipelineName or content.taskName or content.testSuite.id or event.subject.id
    # finished without a word that we know is no success
    conclusion = _OUTCOMES.get(content.outcome, "error") if predicate == "finished" else None
    return CheckResult(
        source="status",
        repo=custom.repo,
        sha=custom.sha,
        name=name[:MAX_NAME],
        conclusion=conclusion,
        url=content.url or content.uri,
    )


def _published(event: _CDEvent) -> EventBody:
    """A published artifact is a check that passed on its commit: `artifact NAME`."""
    custom = event.custom
    name, _, qualifiers = event.subject.id.partition("?")
    vcs = _VCS.search(parse_qs(qualifiers).get("vcs_url", [""])[0])
    repo, sha = (vcs["repo"], vcs["sha"]) if vcs else (custom.repo, custom.sha)
    if not (repo and sha):
        return Unhandled(
            what="artifact.published names no commit; use vcs_url in its purl, or customData"
        )
    short = unquote(name.partition("@")[0].rpartition("/")[2])
    return CheckResult(
        source="status",
        repo=repo,
        sha=sha,
        name=f"artifact {short}"[:MAX_NAME],
        conclusion="success",
    )


def _incident(event: _CDEvent, status: Literal["firing", "resolved"]) -> AlertGroup:
    content = event.subject.content
    labels = {
        "alertname": "Incident",
        "service": content.service.id,
        "environment": content.environment.id,
        "incident": event.subject.id,
    }
    time = event.context.timestamp
    return AlertGroup(
        group_key=f"cdevents:{event.subject.id}",
        status=status,
        receiver="cdevents",
        alerts=(
            Alert(
                name="Incident",
                status=status,
                fingerprint=digest_of(event.subject.id)[:16],
                labels={key: value for key, value in labels.items() if value},
                annotations={"summary": content.description} if content.description else {},
                starts_at=time,
                ends_at=time if status == "resolved" else None,
            ),
        ),
    )
