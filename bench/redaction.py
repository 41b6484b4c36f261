"""Redaction: throughput on log text with all rules on, next to the same rules in Python's `re`."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from bench.figures import Figure, Section, Target
from bench.ground import Ground
from bench.log_text import ordinary, plain_log
from policy.redaction.engine import Redactor
from policy.redaction.rule import Rule
from policy.redaction.stream import Stream
from web.redacting import read_rules

LOG_BYTES = 16_000_000
PLAIN_BYTES = 400_000
"""Plain `re` needs about a second for each half megabyte."""
PIECE = 1 << 18
ROUNDS = 5
MEGABYTE = 1e6


async def measure(_ground: Ground, tell: Callable[[str], None]) -> Section:
    """Best of some rounds each, in one process, taking turns."""
    return await asyncio.to_thread(_measure, tell)


def _measure(tell: Callable[[str], None]) -> Section:
    began = time.perf_counter()
    rules = read_rules(None)
    redactor = Redactor(rules, key=b"bench" * 8)
    log = plain_log(1, LOG_BYTES)
    mixed = ordinary(1, LOG_BYTES // 4)
    few = log[: log.rfind(b"\n", 0, PLAIN_BYTES) + 1]
    plain = [(one, _compiled(one)) for one in rules.rules]
    understood = [(rule, regex) for rule, regex in plain if regex is not None]
    tell(f"{len(rules.rules)} rules, {len(understood)} of them in Python's re")
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        ours.append(_seconds(lambda: _streamed(redactor, log)) / len(log))
        if len(theirs) < 2:
            theirs.append(_seconds(lambda: _plainly(understood, few)) / len(few))
    other = min(_seconds(lambda: _streamed(redactor, mixed)) / len(mixed) for _ in range(2))
    rate, slow = 1 / min(ours) / MEGABYTE, 1 / min(theirs) / MEGABYTE
    found = len(redactor.find(mixed))
    return Section(
        title="Redaction of log text",
        figures=(
            Figure(
                "throughput, all rules on",
                rate,
                "MB/s",
                Target("at least", 50),
                f"{len(rules.rules)} rules, disguises included, one core, {redactor.engine}",
            ),
            Figure("the same rules in Python's re", slow, "MB/s", None, "no disguises, no streams"),
            Figure("ratio", rate / slow, "x", Target("at least", 5), "paired in one run"),
            Figure(
                "throughput, hashes, images, locks and all",
                1 / other / MEGABYTE,
                "MB/s",
                None,
                "every encoded run is decoded and looked into",
            ),
            Figure(
                "false positives",
                found / (len(mixed) / MEGABYTE),
                "a MB",
                Target("at most", 1),
                f"{found} in {len(mixed) / MEGABYTE:.0f} MB without a secret",
            ),
        ),
        seconds=time.perf_counter() - began,
    )


def _streamed(redactor: Redactor, data: bytes) -> None:
    stream = Stream(redactor)
    for at in range(0, len(data), PIECE):
        stream.feed(data[at : at + PIECE])
    stream.close()


def _plainly(rules: list[tuple[Rule, re.Pattern[bytes]]], data: bytes) -> None:
    """What a straightforward program does: the keywords, then each rule over each line."""
    for line in data.splitlines():
        lower = line.lower()
        for rule, regex in rules:
            if any(word in lower for word in rule.keywords):
                for match in regex.finditer(line):
                    rule.is_secret(line, match.span(), match.span(), None)


def _compiled(rule: Rule) -> re.Pattern[bytes] | None:
    try:
        return re.compile(rule.pattern.replace(r"\z", r"\Z").encode())
    except re.error:
        return None


def _seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
