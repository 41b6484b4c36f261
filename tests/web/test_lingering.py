"""A refusal waits for the rest of the body, within bounds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from web import lingering
from web.lingering import Lingering

Answer = list[dict[str, Any]]


async def ask(
    chunks: list[bytes],
    status: int = 413,
    *,
    reads: int = 0,
    method: str = "POST",
    headers: dict[bytes, bytes] | None = None,
    endless: bool = False,
    read: str | None = None,
) -> tuple[Answer, list[bytes]]:
    """An app that reads so many chunks and answers; (what was sent, chunks nobody took)."""
    left, sent = list(chunks), []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        for _ in range(reads):
            await receive()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": left.pop(0), "more_body": endless or bool(left)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "headers": list((headers or {}).items())}
    if read is not None:
        scope[lingering.BODY] = read
    await Lingering(app)(scope, receive, send)  # type: ignore[arg-type]
    return sent, left


@pytest.mark.parametrize("reads", [0, 1, 3])
async def test_the_rest_of_a_refused_body_is_taken_before_the_answer(reads: int) -> None:
    sent, left = await ask([b"a", b"b", b"c"], reads=reads)
    assert [one["type"] for one in sent] == ["http.response.start", "http.response.body"]
    assert left == []


async def test_a_body_that_was_accepted_is_left_alone() -> None:
    _, left = await ask([b"a", b"b"], 202, reads=1)
    assert left == [b"b"]


async def test_a_sender_that_waits_for_a_word_gets_the_refusal_as_that_word() -> None:
    _, left = await ask([b"a"], headers={b"expect": b"100-Continue"})
    assert left == [b"a"]


async def test_no_more_than_the_limit_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_BYTES", 10)
    sent, left = await ask([b"12345"] * 5, endless=True)
    assert len(left) == 3
    assert sent[0]["status"] == 413


async def test_a_body_that_stops_arriving_does_not_hold_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "LINGER_SECONDS", 0.01)
    sent, _ = await ask([b"a"], endless=True)
    assert sent[0]["status"] == 413


async def test_a_sender_that_was_too_slow_is_not_waited_for() -> None:
    _, left = await ask([b"a", b"b"], 408, reads=1)
    assert left == [b"b"]


@pytest.mark.parametrize(("read", "untaken"), [("begun", []), ("over", [b"a", b"b"])])
async def test_it_knows_how_far_the_body_was_read_before(read: str, untaken: list[bytes]) -> None:
    _, left = await ask([b"a", b"b"], 422, read=read)
    assert left == untaken
