"""One Fermata server as its callers see it: signed webhooks in, the JSON API out."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

Json = dict[str, Any]
FINAL = {"succeeded", "rolled_back", "denied", "failed", "superseded", "cancelled"}
POLL_SECONDS = 0.1


class TooLate(AssertionError):
    """What a test waited for did not come in time; the text tells what was there instead."""


@dataclass(frozen=True)
class Api:
    """Calls one server. `token` None: as somebody without one."""

    url: str
    secret: str = field(repr=False)
    http: httpx.AsyncClient
    token: str | None = field(default=None, repr=False)

    def as_(self, token: str) -> Api:
        """The same server, called with another token."""
        return Api(self.url, self.secret, self.http, token)

    async def github(
        self, kind: str, payload: Json, *, delivery: str | None = None, secret: str | None = None
    ) -> httpx.Response:
        """Deliver a webhook as GitHub does: signed over the raw bytes."""
        body = json.dumps(payload).encode()
        key = (secret or self.secret).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": kind,
            "X-GitHub-Delivery": delivery or str(uuid4()),
            "X-Hub-Signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
        }
        return await self.http.post(f"{self.url}/webhooks/github", content=body, headers=headers)

    async def started(self, kind: str, payload: Json) -> str:
        """Deliver a webhook that has to start a run; the run's id."""
        answer = await self.github(kind, payload)
        assert answer.status_code == 202, answer.text
        told = answer.json()
        assert told["status"] == "accepted", told
        return str(told["run_id"])

    async def get(self, path: str, **params: str) -> Json:
        """A JSON document that has to be there."""
        answer = await self.http.get(self.url + path, params=params, headers=self._headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def post(self, path: str, body: Json) -> httpx.Response:
        """Post JSON; any answer will do."""
        return await self.http.post(self.url + path, json=body, headers=self._headers)

    async def run(self, run_id: str) -> Json:
        """Everything about a run."""
        return await self.get(f"/api/runs/{run_id}")

    async def vote(self, request: Json, decision: str = "approve") -> httpx.Response:
        """Answer a request for approval, naming the digest that it asks about."""
        body = {"decision": decision, "digest": request["digest"], "comment": "read and agreed"}
        return await self.post(f"/api/approvals/{request['id']}", body)

    async def tell(self, run_id: str, kind: str, reason: str = "") -> httpx.Response:
        """Hold, resume, cancel, retry or override a run."""
        return await self.post(f"/api/runs/{run_id}/signals", {"kind": kind, "reason": reason})

    async def until(
        self, run_id: str, what: str, check: Callable[[Json], bool], seconds: float
    ) -> Json:
        """The run as soon as `check` holds. Raises `TooLate`, at once when the run is over."""
        deadline = time.monotonic() + seconds
        while True:
            run = await self.run(run_id)
            if check(run):
                return run
            if run["state"] in FINAL or time.monotonic() > deadline:
                raise TooLate(f"waited for {what}:\n{described(run)}")
            await asyncio.sleep(POLL_SECONDS)

    async def until_state(self, run_id: str, state: str, seconds: float = 60.0) -> Json:
        """The run as soon as it is in a state."""
        return await self.until(run_id, state, lambda run: bool(run["state"] == state), seconds)

    async def until_over(self, run_id: str, seconds: float = 60.0) -> Json:
        """The run when it is over; nobody answers what it asks."""
        return await self.until(run_id, "the end", lambda run: run["state"] in FINAL, seconds)

    async def until_step(self, run_id: str, step: str, seconds: float = 60.0) -> Json:
        """The run as soon as it is at a step."""
        return await self.until(run_id, step, lambda run: bool(run["step_id"] == step), seconds)

    async def question(self, run_id: str, seconds: float = 60.0) -> Json:
        """The request for approval that a run waits for."""
        run = await self.until_state(run_id, "needs_approval", seconds)
        pending = [one for one in run["approvals"] if one["state"] == "pending"]
        assert pending, described(run)
        return dict(pending[-1])

    async def until_there(
        self,
        look: Callable[[], Awaitable[Json]],
        what: str,
        check: Callable[[Json], bool],
        seconds: float = 40.0,
    ) -> Json:
        """What `look` sees as soon as `check` holds. Raises `TooLate`."""
        deadline = time.monotonic() + seconds
        while True:
            seen = await look()
            if check(seen):
                return seen
            if time.monotonic() > deadline:
                raise TooLate(f"waited for {what}:\n{seen}")
            await asyncio.sleep(POLL_SECONDS)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def deciding(decision: Json) -> set[str]:
    """Ids of the rules that decided."""
    ruled = decision["decision"]
    return {one["rule"] for one in ruled["rules"] if one["outcome"] == ruled["outcome"]}


def described(run: Json) -> str:
    """A run in a few lines, for the message of a test that failed."""
    effects = "\n".join(
        f"  {one['state']} {one['step_id']}: {(one['result'] or {}).get('summary') or one['error']}"
        for one in run["effects"]
    )
    return (
        f"{run['title']} is {run['state']} at {run['step_id']}: {run['reason']}\n{effects}\n"
        f"  path: {' '.join(one['node'] for one in run['path'][-30:])}"
    )


def effects_in_order(run: Json) -> list[Json]:
    """What a run did, in the order of time."""
    return sorted(run["effects"], key=lambda one: str(one["started_at"]))


def changes_in(run: Json, environment: str) -> list[Json]:
    """What a run changed in the cluster, in one environment."""
    return [
        one
        for one in effects_in_order(run)
        if (one["action"].get("target") or {}).get("environment") == environment
    ]


def weights(run: Json) -> list[int]:
    """The canary weights that a run set, in the order of time."""
    return [
        int(one["action"]["weight"])
        for one in effects_in_order(run)
        if one["action_kind"] == "k8s_traffic"
    ]


def assert_every_effect_was_decided(run: Json) -> None:
    """Law 2: each effect points at the decision that allowed exactly this, before it was done; and
    where that took an approval, at one that was given for exactly this scope."""
    decisions = {one["id"]: one for one in run["decisions"]}
    approvals = {one["id"]: one for one in run["approvals"]}
    assert run["effects"]
    for effect in run["effects"]:
        decision = decisions[effect["decision_id"]]
        assert decision["decision"]["outcome"] == "allow", effect["step_id"]
        assert decision["action_digest"] == effect["digest"], effect["step_id"]
        assert decision["step_id"] == effect["step_id"]
        assert decision["approval_id"] == effect["approval_id"], effect["step_id"]
        if effect["approval_id"] is not None:
            approval = approvals[effect["approval_id"]]
            assert approval["state"] in ("approved", "spent")
            assert approval["digest"] == effect["scope_digest"], effect["step_id"]
    done = [(one["step_id"], one["digest"]) for one in run["effects"] if one["state"] == "applied"]
    assert len(done) == len(set(done)), "an effect was applied twice"
