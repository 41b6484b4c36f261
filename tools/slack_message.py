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
MAX_FACTS = 12
MAX_BUTTONS = 5
MAX_URL = 3000
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
    if notice.facts:
        blocks += [_section(_fact(label, said)) for label, said in notice.facts[:MAX_FACTS]]
    elif text:
        blocks.append(_section(fitted(text, MAX_SECTION)))
    if (picture := _picture(notice, title)) is not None:
        blocks.append(picture)
    if buttons := _buttons(notice):
        blocks.append({"type": "actions", "elements": buttons})
    links = " · ".join(_links(notice))
    if links:
        blocks.append(_section(links))
    about = f"{escaped(notice.severity)} · for {escaped(_cut(notice.channel, 100))}"
    blocks.append({"type": "context", "elements": [_words(about)]})
    fallback = f"[{notice.severity}] {title}" + (f"\n{text}" if text else "")
    return {"text": fitted(fallback, MAX_FALLBACK), "blocks": blocks, "unfurl_links": False}


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _words(text)}


def _words(text: str) -> dict[str, Any]:
    """Verbatim: or Slack would make links of bare addresses, and of names of channels."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _fact(label: str, said: str) -> str:
    return f"*{escaped(_cut(label, 60))}*\n{fitted(said, MAX_SECTION - 100)}"


def _picture(notice: Notify, title: str) -> dict[str, Any] | None:
    """The drawing, where Slack's servers may reach it: they refuse the whole message if not."""
    if not notice.picture.startswith("https://") or len(notice.picture) > MAX_URL:
        return None
    return {"type": "image", "image_url": notice.picture, "alt_text": _cut(title, 200)}


def _buttons(notice: Notify) -> list[dict[str, Any]]:
    """Buttons that open a page; nothing is done until somebody signed in confirms it there."""
    return [
        {
            "type": "button",
            "text": {"type": "plain_text", "text": _cut(label, 75), "emoji": False},
            "url": url,
            "action_id": f"open-{index}",
        }
        for index, (label, url) in enumerate(notice.buttons[:MAX_BUTTONS])
        if _WEB.fullmatch(url) and len(url) <= MAX_URL
    ]


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
