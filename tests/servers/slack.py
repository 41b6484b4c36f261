"""Slack's incoming webhook and a generic JSON webhook, on loopback, checked against their shape.

After https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks and the reference of
Block Kit. Slack answers in plain text: `ok`, or one word for what is wrong.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web

from tests.servers.local import LocalServer

SLACK_PATH = "/services/T0000/B0000/s3cr3t-part"
PLAIN_PATH = "/hooks/s3cr3t-part"
FIELDS = {"text", "blocks", "unfurl_links"}
LIMITS = {"header": 150, "section": 3000}
_MARKUP = re.compile(r"<(https?://[^\s<>|]+)\|([^<>|]+)>")


class SlackServer(LocalServer):
    """Keeps the messages it took; `plain` holds those of the generic webhook, by key."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.plain: dict[str, dict[str, Any]] = {}

    @property
    def slack_url(self) -> str:
        """Address of the Slack webhook."""
        return self.url + SLACK_PATH

    @property
    def plain_url(self) -> str:
        """Address of the generic webhook."""
        return self.url + PLAIN_PATH

    async def handle(self, request: web.Request, body: Any) -> web.Response:
        if request.method != "POST":
            self.wrong(f"{request.method} {request.path}: only POST is understood")
        if request.headers.get("Content-Type") != "application/json":
            self.wrong(f"Content-Type is {request.headers.get('Content-Type')!r}")
        if request.path == SLACK_PATH:
            return self._slack(body)
        if request.path == PLAIN_PATH:
            return self._plain(request, body)
        return web.Response(status=404, text="no_service")

    def _slack(self, body: Any) -> web.Response:
        if not isinstance(body, dict) or not isinstance(body.get("text"), str):
            self.wrong("a message without text")
            return web.Response(status=400, text="invalid_payload")
        if set(body) - FIELDS:
            self.wrong(f"unknown fields {set(body) - FIELDS}")
        if not body["text"].strip() or len(body["text"]) > 40_000:
            return web.Response(status=400, text="no_text")
        problems = [said for block in body.get("blocks", []) for said in block_problems(block)]
        problems += unescaped(body["text"])
        if problems or len(body.get("blocks", [])) > 50:
            self.wrong("; ".join(problems) or "more than 50 blocks")
            return web.Response(status=400, text="invalid_blocks")
        self.messages.append(body)
        return web.Response(text="ok")

    def _plain(self, request: web.Request, body: Any) -> web.Response:
        key = request.headers.get("Idempotency-Key", "")
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            self.wrong(f"Idempotency-Key is {key!r}")
        if not isinstance(body, dict) or body.get("id") != key:
            self.wrong("the body's id is not the key")
            return web.Response(status=422)
        self.plain[key] = body
        return web.json_response({"received": key}, status=202)


def block_problems(block: Any) -> list[str]:
    """What Slack would have against a block."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "context":
        elements = block.get("elements")
        if not isinstance(elements, list) or not 1 <= len(elements) <= 10:
            return ["a context block needs 1 to 10 elements"]
        return [said for one in elements for said in _text(one, "mrkdwn", 3000)]
    if kind == "image":
        return _image(block)
    if kind == "actions":
        elements = block.get("elements")
        if not isinstance(elements, list) or not 1 <= len(elements) <= 25:
            return ["an actions block needs 1 to 25 elements"]
        return [said for one in elements for said in _button(one)]
    if kind not in LIMITS:
        return [f"unknown block {kind!r}"]
    return _text(block.get("text"), "plain_text" if kind == "header" else "mrkdwn", LIMITS[kind])


def _image(block: dict[str, Any]) -> list[str]:
    """Slack fetches the picture itself, over the public web."""
    url, alt = block.get("image_url"), block.get("alt_text")
    problems = []
    if not isinstance(url, str) or not url.startswith("https://") or len(url) > 3000:
        problems.append(f"image_url is {url!r}")
    if not isinstance(alt, str) or not 1 <= len(alt) <= 2000:
        problems.append("an image needs alt_text")
    return problems


def _button(button: Any) -> list[str]:
    if not isinstance(button, dict) or button.get("type") != "button":
        return [f"unknown element {button!r}"]
    problems = _text(button.get("text"), "plain_text", 75)
    url = button.get("url")
    if not isinstance(url, str) or not re.fullmatch(r"https?://\S{1,2990}", url):
        problems.append(f"button url is {url!r}")
    if not button.get("action_id"):
        problems.append("a button needs an action_id")
    return problems


def _text(text: Any, kind: str, limit: int) -> list[str]:
    if not isinstance(text, dict) or text.get("type") != kind:
        return [f"expected a {kind} object"]
    value = text.get("text")
    if not isinstance(value, str) or not 1 <= len(value) <= limit:
        return [f"{kind} of {len(value or '')} characters, 1 to {limit} are allowed"]
    if kind != "mrkdwn":
        return []
    parsed = [] if text.get("verbatim") is True else ["bare addresses and names become links"]
    return parsed + unescaped(value)


def unescaped(text: str) -> list[str]:
    """Angle brackets and ampersands that are no link and no entity."""
    left = _MARKUP.sub("", text)
    strange = re.search(r"[<>]|&(?!amp;|lt;|gt;)", left)
    return [f"unescaped {strange[0]!r}"] if strange else []
