"""A small client of Fermata's own HTTP API, for the command line."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx


class ApiRefused(Exception):
    """The server said no, or could not be reached; `hint` says what to do."""

    def __init__(self, message: str, hint: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


@dataclass(frozen=True)
class Client:
    """Talks to one server with one token. Raises `ApiRefused` for everything but success."""

    base_url: str
    token: str | None = field(default=None, repr=False)
    timeout: float = 30.0

    def get(self, path: str, **params: str | int | None) -> Any:
        """GET a JSON document; parameters that are None are left out."""
        given = {key: value for key, value in params.items() if value is not None}
        return self._call("GET", path, params=given)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST a JSON document."""
        return self._call("POST", path, json=body)

    def post_raw(self, path: str, body: bytes, headers: dict[str, str]) -> Any:
        """POST bytes as they are."""
        return self._call("POST", path, content=body, headers=headers)

    def post_github(
        self, kind: str, body: bytes, secret: bytes, delivery: str | None = None
    ) -> Any:
        """Deliver a webhook body the way GitHub does: signed over the raw bytes."""
        signature = hmac.new(secret, body, hashlib.sha256).hexdigest()
        return self.post_raw(
            "/webhooks/github",
            body,
            {
                "Content-Type": "application/json",
                "X-GitHub-Event": kind,
                "X-GitHub-Delivery": delivery or str(uuid4()),
                "X-Hub-Signature-256": f"sha256={signature}",
            },
        )

    def _call(self, method: str, path: str, **how: Any) -> Any:
        headers = dict(how.pop("headers", {}))
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        try:
            answer = httpx.request(
                method, self.base_url + path, headers=headers, timeout=self.timeout, **how
            )
        except httpx.TransportError as error:
            raise ApiRefused(
                f"no server answers at {self.base_url} ({type(error).__name__})",
                "start one with `fermata serve`, or name it with --url or FERMATA_URL",
            ) from error
        except httpx.InvalidURL as error:
            raise ApiRefused(
                f"{self.base_url!r} is no address of a server: {error}",
                "write --url or FERMATA_URL as http://HOST:PORT",
            ) from error
        except UnicodeEncodeError:
            # `from None`: the error holds the token
            raise ApiRefused(
                "the token holds characters that no token has",
                "give another with --token or FERMATA_TOKEN",
            ) from None
        try:
            told = answer.json()
        except ValueError:
            told = {}
        if answer.is_success:
            return told
        message = told.get("error") or told.get("detail") or f"HTTP {answer.status_code}"
        hint = told.get("hint") or ""
        if answer.status_code == 401 and not hint:
            hint = "give a token with --token or FERMATA_TOKEN"
        raise ApiRefused(str(message), str(hint), answer.status_code)


def run_path(run: str) -> str:
    """Where a run is asked for, whatever was written for its id."""
    return f"/api/runs/{quote(run, safe='')}"


def local_token(data: Path) -> str | None:
    """The admin token that the first start on this machine kept in its data folder."""
    try:
        return (data / "admin-token").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
