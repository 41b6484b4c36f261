"""A small audit record put together by hand: one release with a window overridden and approved."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domain.audit import FORMAT, GENESIS, chained, digest, header_line, row_line

RUN = "11111111-1111-4111-8111-111111111111"
EVENT = "22222222-2222-4222-8222-222222222222"
ASKED = "33333333-3333-4333-8333-333333333333"
FIRST = "44444444-4444-4444-8444-444444444444"
SECOND = "55555555-5555-4555-8555-555555555555"
EFFECT = "66666666-6666-4666-8666-666666666666"
BEGIN = datetime(2026, 3, 6, 17, 30, tzinfo=UTC)
Fields = dict[str, Any]


@dataclass
class Entry:
    """A row before it is chained."""

    kind: str
    run: str | None
    data: Fields


def at(minutes: float) -> str:
    """A time of the operated world."""
    return (BEGIN + timedelta(minutes=minutes)).isoformat()


def decision(number: int, identity: str, outcome: str, rules: list[str], **more: Any) -> Entry:
    """A decision on the one step there is."""
    said = "allow" if outcome == "allow" else outcome
    return Entry(
        "decision",
        RUN,
        {
            "id": identity,
            "number": number,
            "step": "deploy",
            "action_digest": "a" * 64,
            "scope_digest": "b" * 64,
            "plan_digest": "c" * 64,
            "outcome": outcome,
            "approval": ASKED,
            "overrides": [],
            "fence": number,
            "decision": {
                "outcome": outcome,
                "at": at(10 * number),
                "policy_digest": "d" * 64,
                "rules": [{"rule": one, "outcome": said, "reason": "so"} for one in rules],
            },
            **more,
        },
    )


def effect(kind: str, **more: Any) -> Entry:
    """A row about the one effect there is."""
    return Entry(
        kind,
        RUN,
        {
            "id": EFFECT,
            "step": "deploy",
            "digest": "a" * 64,
            "scope_digest": "b" * 64,
            "decision": SECOND,
            "approval": ASKED,
            "tries": 1,
            "state": "started" if kind == "effect.claimed" else kind.removeprefix("effect."),
            "fence": 2,
            **more,
        },
    )


def vote(kind: str, principal: str, roles: list[str], **more: Any) -> Entry:
    """A vote on the one request there is."""
    return Entry(
        kind,
        RUN,
        {
            "approval_id": ASKED,
            "principal": principal,
            "roles": roles,
            "decision": "approve",
            "comment": "",
            "via": "api",
            "at": at(15),
            "refused": None if kind == "vote.counted" else "not you",
            **more,
        },
    )


def settled(kind: str, before: str) -> Entry:
    """What became of the one request there is."""
    return Entry(kind, RUN, {"id": ASKED, "digest": "b" * 64, "before": before})


def story() -> list[Entry]:
    """The record of a run in which everything was as it should be."""
    return [
        Entry(
            "policy",
            None,
            {"digest": "d" * 64, "source": "policy.yaml", "override_roles": ["sre-lead"]},
        ),
        Entry(
            "event",
            None,
            {
                "id": EVENT,
                "source": "github",
                "delivery": "one",
                "digest": "e" * 64,
                "status": "accepted",
                "runs": [RUN],
            },
        ),
        Entry(
            "plan",
            RUN,
            {"digest": "c" * 64, "event": EVENT, "change": "release:shop", "fence": 1},
        ),
        Entry(
            "override",
            RUN,
            {
                "id": "7",
                "change_key": "release:shop",
                "principal": "lin",
                "roles": ["sre-lead"],
                "reason": "the shop is down",
                "at": at(1),
                "expires_at": at(60),
            },
        ),
        Entry(
            "approval.asked",
            RUN,
            {
                "id": ASKED,
                "step_id": "deploy",
                "scope": "shop/prod",
                "digest": "b" * 64,
                "policy_digest": "d" * 64,
                "environment": "prod",
                "risk": "high",
                "question": "Go on?",
                "author": "ada",
                "requirement": {
                    "count": 1,
                    "roles": ["release-manager"],
                    "expires_seconds": 3600,
                    "allow_author": False,
                },
                "requested_at": at(10),
                "expires_at": at(50),
            },
        ),
        decision(1, FIRST, "needs_approval", ["approval.required"]),
        vote("vote.refused", "ada", ["release-manager"]),
        vote("vote.counted", "grace", ["release-manager"]),
        settled("approval.granted", "pending"),
        decision(2, SECOND, "allow", ["approval.granted", "override.accepted"]),
        settled("approval.spent", "approved"),
        effect("effect.claimed"),
        effect("effect.applied"),
    ]


def find(entries: list[Entry], kind: str) -> int:
    """Where the first row of a kind stands."""
    return next(place for place, one in enumerate(entries) if one.kind == kind)


def dumped(entries: list[Entry]) -> list[bytes]:
    """The lines of a dump of these rows, the chain as it has to be."""
    lines, before = [], GENESIS
    for seq, entry in enumerate(entries, 1):
        moment = (BEGIN + timedelta(seconds=seq)).isoformat(timespec="microseconds")
        linked = moment.replace("+00:00", "Z")
        record = {
            "seq": seq,
            "linked": linked,
            "at": moment,
            "run": entry.run,
            "data": entry.data,
            "kind": entry.kind,
        }
        text = json.dumps(record, ensure_ascii=False).encode()
        own = chained(before, digest(text))
        lines.append(row_line(text, before, own))
        before = own
    return [header(len(entries), before), *lines]


def header(last: int, head: bytes, **more: Any) -> bytes:
    """A header that promises so many rows."""
    fields = {
        "format": FORMAT,
        "exported": at(0),
        "rows": last,
        "last": last,
        "head": head.hex(),
        "selection": None,
        **more,
    }
    return header_line(fields)


Change = Callable[[list[Entry]], None]


def bent(change: Change) -> list[bytes]:
    """A dump of the story after something was done to it, its chain put right again."""
    entries = copy.deepcopy(story())
    change(entries)
    return dumped(entries)
