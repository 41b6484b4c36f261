"""A notification as a Slack message: blocks, and plain text where blocks cannot be shown. Pure.

Text from outside is escaped as Slack asks (& < >), so it can neither link, mention, nor call a
channel together. Limits after https://docs.slack.dev/reference/block-kit/blocks.
"""

from __future__ import annotations

import re
from typing import Any

from domain.action import Notify

MAX_HEADER = 150
MAX_SECTION = 3000
MAX_FALLBACK = 3000
MAX_LINKS = 10
SIGNS = {
    "info": ":information_source:",
    "warning": ":warning:",
    "critical": ":rotating_light:",
}
_WEB = re.compile(r"https?://[^\s<>|]+")


def slack_message(notice: Notify) -> dict[str, Any]:
    """The JSON body for an incoming webhook."""
    title = " ".join(notice.title.split()) or "Fermata"
    sign = SIGNS[notice.severity]
    header = _cut(f"{sign} {title}", MAX_HEADER)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": header, "emoji": True}}
    ]
    text = notice.text.strip()
    if text:
        blocks.append(_section(fitted(text, MAX_SECTION)))
    links = " · ".join(_links(notice))
    if links:
        blocks.append(_section(links))
    about = f"{escaped(notice.severity)} · for {escaped(_cut(notice.channel, 100))}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": about}]})
    fallback = f"[{notice.severity}] {title}" + (f"\n{text}" if text else "")
    return {"text": fitted(fallback, MAX_FALLBACK), "blocks": blocks, "unfurl_links": False}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _links(notice: Notify) -> list[str]:
    """Links as `<url|label>`, as many as fit a section; what is no web address is left out."""
    links: list[str] = []
    room = MAX_SECTION
    for label, url in notice.links[:MAX_LINKS]:
        if not _WEB.fullmatch(url):
            continue
        shown = escaped(_cut(" ".join(label.replace("|", " ").split()), 80)) or "link"
        link = f"<{escaped(url)}|{shown}>"
        room -= len(link) + 3
        if room < 0:
            break
        links.append(link)
    return links


def escaped(text: str) -> str:
    """Text that Slack shows as it is."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def fitted(text: str, limit: int) -> str:
    """Escaped text of at most `limit` characters; an ellipsis stands for what was cut."""
    whole = escaped(text)
    if len(whole) <= limit:
        return whole
    kept, room = [], limit - 2
    for character in text:
        part = escaped(character)
        room -= len(part)
        if room < 0:
            break
        kept.append(part)
    return "".join(kept).rstrip() + " …"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
