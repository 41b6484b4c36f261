"""Notifications through webhooks: Slack's, or any that takes JSON.

A webhook cannot be asked what it has received, so there is nothing to read back. The generic
webhook carries an `Idempotency-Key`, the same for every try of one step of one run: a message whose
answer was lost is sent again, and the receiver can tell. Slack has no such key, and a chat that
says everything twice is soon ignored: after a crash or a lost answer its message counts as
unconfirmed and is not repeated; what it said stands on the run's page.
The address of a webhook is its password: it stands in no message, log line or representation.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson
from aiolimiter import AsyncLimiter
from pydantic import SecretStr

from domain.action import Action, Notify
from domain.digest import digest_of
from domain.effect import Applied, Stamp
from domain.errors import AdapterError, OutcomeUnknown, Permanent, Temporary
from tools.ports import Guard
from tools.slack_message import slack_message

LONGEST_WAIT_SECONDS = 3600.0
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _WebhookWriter(ABC):
    """Posts one JSON body per notification. Raises Temporary, Permanent or OutcomeUnknown."""

    service = "the webhook"
    setting = "NOTIFY_WEBHOOK_URL"
    pace = 20.0
    """Notifications a second."""

    def __init__(
        self, url: SecretStr, *, per_second: float | None = None, timeout_seconds: float = 10.0
    ) -> None:
        """`per_second` None: the service's own pace. Raises `Permanent` for a useless address."""
        self._url = url
        self._check_address()
        self._pace = AsyncLimiter(1, 1 / (per_second or self.pace))
        self._hidden = _HideAddress(url.get_secret_value().strip())
        logging.getLogger("httpx").addFilter(self._hidden)
        # A redirect would carry the message, and the trust in it, elsewhere.
        self._client = httpx.AsyncClient(timeout=timeout_seconds, follow_redirects=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(to {self.host})"

    @property
    def host(self) -> str:
        """Where it posts to, without the secret part of the address."""
        return httpx.URL(self._url.get_secret_value().strip()).host

    async def aclose(self) -> None:
        """Close connections."""
        await self._client.aclose()
        logging.getLogger("httpx").removeFilter(self._hidden)

    @abstractmethod
    def body(self, notice: Notify, stamp: Stamp) -> dict[str, Any]:
        """The JSON that is posted."""

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Post the notification, once per call."""
        notice = notification(action)
        content = orjson.dumps(self.body(notice, stamp))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "fermata",
            "Idempotency-Key": idempotency_key(stamp),
        }
        await self._pace.acquire()
        await guard()
        response = await self._post(content, headers)
        if not response.is_success:
            raise self._refused(response)
        return Applied(
            summary=f"told {notice.channel} through {self.service}: {notice.title}",
            data={"host": self.host, "status": response.status_code},
        )

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Always None: a webhook does not say what it has received. See the module's docstring."""
        notification(action)
        return None

    async def _post(self, content: bytes, headers: dict[str, str]) -> httpx.Response:
        try:
            return await self._client.post(
                self._url.get_secret_value().strip(), content=content, headers=headers
            )
        except httpx.HTTPError as error:
            # The original is left out: it holds the request, and that the address.
            raise self._lost(error) from None

    def _lost(self, error: httpx.HTTPError) -> AdapterError:
        how = type(error).__name__
        if isinstance(error, NEVER_SENT):
            return Temporary(f"{self.service} cannot be reached ({how})")
        return OutcomeUnknown(f"{self.service} was sent the message, but no answer came ({how})")

    def _refused(self, response: httpx.Response) -> AdapterError:
        status = response.status_code
        if status in (408, 425, 429) or status >= 500:
            return Temporary(f"{self.service} answered {status}", _retry_after(response))
        return Permanent(f"{self.service} answered {status}{self._said(response)}", self._remedy())

    def _said(self, response: httpx.Response) -> str:
        """The receiver's own word for what is wrong, when it is a plain one."""
        word = response.text.strip()[:60]
        return f": {word}" if word and word.replace("_", "").replace(" ", "").isalnum() else ""

    def _remedy(self) -> str:
        return f"check that {self.setting} is right and that its receiver takes this JSON"

    def _check_address(self) -> None:
        hint = f"set {self.setting} to the whole address, beginning with https://"
        try:
            url = httpx.URL(self._url.get_secret_value().strip())
        except httpx.InvalidURL:
            raise Permanent(f"{self.setting} is not an address", hint) from None
        safe = url.scheme == "https" or (url.scheme == "http" and url.host in LOOPBACK)
        if not safe or not url.host:
            raise Permanent(f"{self.setting} is not an https address", hint)


class SlackNotifier(_WebhookWriter):
    """Slack's incoming webhook. It is bound to one channel; the action's is named in the text."""

    service = "Slack"
    setting = "SLACK_WEBHOOK_URL"
    pace = 1.0  # https://docs.slack.dev/apis/web-api/rate-limits

    def body(self, notice: Notify, stamp: Stamp) -> dict[str, Any]:
        return slack_message(notice)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """It may have been said or not; saying it again might be saying it twice."""
        notice = notification(action)
        return Applied(
            summary="may have reached Slack before the worker stopped; not repeated",
            data={"unconfirmed": True, "title": notice.title, "text": notice.text},
        )

    def _remedy(self) -> str:
        return (
            "make a new incoming webhook in Slack and set SLACK_WEBHOOK_URL (no_service, "
            "channel_not_found, channel_is_archived, action_prohibited: the old one is of no use)"
        )


class WebhookNotifier(_WebhookWriter):
    """Any webhook that takes JSON: all fields of the notification, and which run and step it is."""

    def body(self, notice: Notify, stamp: Stamp) -> dict[str, Any]:
        return plain_message(notice, stamp)


def plain_message(notice: Notify, stamp: Stamp) -> dict[str, Any]:
    """The JSON body for a generic webhook."""
    return {
        "version": 1,
        "id": idempotency_key(stamp),
        "channel": notice.channel,
        "severity": notice.severity,
        "title": notice.title,
        "text": notice.text,
        "links": [{"label": label, "url": url} for label, url in notice.links],
        "facts": [{"label": label, "text": said} for label, said in notice.facts],
        "actions": [{"label": label, "url": url} for label, url in notice.buttons],
        "picture": notice.picture or None,
        "run_id": str(stamp.run_id),
        "step_id": stamp.step_id,
    }


def idempotency_key(stamp: Stamp) -> str:
    """The same for every try of one step of one run, and for nothing else.

    The action's digest alone would not do: two runs may have the same thing to say.
    """
    return digest_of([str(stamp.run_id), stamp.step_id, stamp.digest])


def notification(action: Action) -> Notify:
    """The action, when it is a notification; `Permanent` otherwise."""
    if not isinstance(action, Notify):
        raise Permanent(f"a notifier cannot do {action.kind}", "see the settings in the README")
    return action


def _retry_after(response: httpx.Response) -> float | None:
    """The header in seconds; RFC 9110 allows a number or a date."""
    told = response.headers.get("retry-after", "").strip()
    if told.isdigit():
        return min(float(told), LONGEST_WAIT_SECONDS)
    try:
        at = parsedate_to_datetime(told).timestamp()
    except (ValueError, TypeError):
        return None
    return min(max(at - time.time(), 0.0), LONGEST_WAIT_SECONDS)


class _HideAddress(logging.Filter):
    """Takes the webhook's address out of the line that httpx logs for each request."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = httpx.URL(address)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                f"{self._address.scheme}://{self._address.host}/(hidden)"
                if isinstance(one, httpx.URL) and one == self._address
                else one
                for one in record.args
            )
        return True
