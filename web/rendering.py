"""Templates and what they are given to write with: times, rates, addresses. Everything escapes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from domain.address import split_address
from domain.approval import ApprovalState
from domain.clock import Clock
from domain.decision import Outcome
from domain.effect import EffectState
from domain.run import RunState
from domain.verdict import VerdictKind
from nodes.judge_words import shown_evidence, shown_times
from web.desk import Desk

_COMMIT = re.compile(r"(?<![0-9a-f])([0-9a-f]{10})[0-9a-f]{30}(?![0-9a-f])")

HERE = Path(__file__).parent
STATIC = HERE / "static"

TONES: Mapping[str, str] = {
    RunState.QUEUED: "quiet",
    RunState.RUNNING: "active",
    RunState.WAITING: "wait",
    RunState.NEEDS_APPROVAL: "ask",
    RunState.SUCCEEDED: "good",
    RunState.ROLLED_BACK: "bad",
    RunState.DENIED: "bad",
    RunState.FAILED: "bad",
    RunState.SUPERSEDED: "quiet",
    RunState.CANCELLED: "quiet",
    Outcome.ALLOW: "good",
    Outcome.DENY: "bad",
    Outcome.WAIT: "wait",
    VerdictKind.PASS: "good",
    VerdictKind.FAIL: "bad",
    VerdictKind.INCONCLUSIVE: "wait",
    VerdictKind.NODATA: "wait",
    VerdictKind.ERROR: "bad",
    EffectState.STARTED: "active",
    EffectState.APPLIED: "good",
    EffectState.REFUSED: "bad",
    EffectState.UNKNOWN: "wait",
    ApprovalState.PENDING: "ask",
    ApprovalState.APPROVED: "good",
    ApprovalState.SPENT: "good",
    ApprovalState.REJECTED: "bad",
    ApprovalState.EXPIRED: "quiet",
    ApprovalState.DISMISSED: "quiet",
    "done": "good",
    "current": "active",
    "waiting": "wait",
    "asked": "ask",
    "pending_step": "quiet",
    "skipped": "quiet",
    "accepted": "good",
    "ignored": "quiet",
    "duplicate": "quiet",
    "good": "good",
    "bad": "bad",
    "approve": "good",
    "reject": "bad",
    "real": "good",
    "simulated": "wait",
    "dry_run": "wait",
    "low": "quiet",
    "medium": "wait",
    "high": "bad",
    "critical": "bad",
}
"""Which of the six tones a word is set in; the word itself always stands beside the colour."""

ICONS: Mapping[str, str] = {
    "good": "check",
    "bad": "cross",
    "wait": "clock",
    "ask": "person",
    "active": "dot",
    "quiet": "ring",
}


def environment(desk: Desk) -> Environment:
    """The templates, with escaping on for all of them and undefined names an error."""
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    digests = {file.name: _digest(file) for file in sorted(STATIC.iterdir()) if file.is_file()}
    env.globals["asset"] = lambda name: f"/static/{name}?v={digests[name]}"
    env.globals["tone"] = lambda word: TONES.get(word, "quiet")
    env.globals["icons"] = ICONS
    env.filters.update(
        when=_when(desk.wall),
        world=_when(desk.clock),
        stamp=stamp,
        percent=percent,
        times=shown_times,
        evidence=shown_evidence,
        count=count,
        plain_word=plain_word,
        link=web_address,
        json=pretty,
        cover=desk.mask,
        mask=lambda text: short_commits(desk.mask(str(text))),
        span=span,
    )
    return env


def short_commits(text: str) -> str:
    """The text with full commit ids cut to ten digits, as people read them."""
    return _COMMIT.sub(r"\1", text)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:10]


def _when(clock: Clock) -> Any:
    def when(moment: datetime | None) -> Markup:
        """A `<time>` that says how long ago, or in how long, and holds the exact time."""
        if moment is None:
            return Markup("")
        moment = moment.astimezone(UTC)
        return Markup('<time datetime="{}" title="{}">{}</time>').format(
            f"{moment:%Y-%m-%dT%H:%M:%SZ}",
            f"{moment:%Y-%m-%d %H:%M:%S} UTC",
            relative((moment - clock.now()).total_seconds()),
        )

    return when


def relative(seconds: float) -> str:
    """`in 4 min`, `3 h ago`; under a minute is `just now`, so that pages stay calm."""
    if abs(seconds) < 60:
        return "just now" if seconds <= 0 else "in under 1 min"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit, rounded down."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:g} s"


def stamp(moment: datetime | None) -> Markup:
    """A `<time>` with date and time in UTC."""
    if moment is None:
        return Markup("")
    moment = moment.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{moment:%Y-%m-%dT%H:%M:%SZ}", f"{moment:%d %b %Y, %H:%M:%S} UTC"
    )


def percent(rate: float | None) -> str:
    """A fraction as percent with as many digits as it deserves; an en dash when unknown."""
    if rate is None:
        return "\N{EN DASH}"
    value = rate * 100
    digits = 0 if value >= 10 or value == 0 else (1 if value >= 1 else 2)
    return f"{value:.{digits}f}%"


def count(number: float) -> str:
    """A number of events with thousands set apart."""
    return f"{number:,.0f}"


def plain_word(word: str) -> str:
    """`needs_approval` as people write it."""
    return str(word).replace("_", " ")


def web_address(text: str) -> str:
    """The address when it is one of the web's, '' for `javascript:` and whatever else."""
    return text if split_address(text).scheme in ("http", "https") else ""


def pretty(value: Any) -> str:
    """Indented JSON; the template escapes it."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
