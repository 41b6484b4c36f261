"""What a sender may cost: sizes, slowness, depth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from tests.web.twin import TOKEN, house, signature
from web.limits import MAX_BODY, MAX_DEPTH, parse_json, read_body
from web.lingering import BODY
from web.problems import Problem


def request_of(receive: Callable[[], Any], **headers: str) -> Request:
    """A request whose body comes from `receive`."""
    raw = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def test_reading_stops_at_the_limit() -> None:
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 1024, "more_body": True}

    with pytest.raises(Problem) as refused:
        await read_body(request_of(receive), limit=10 * 1024)
    assert refused.value.status_code == 413
    assert taken == 11, "one chunk over the limit, and not one more"


async def test_a_body_of_exactly_the_limit_is_read() -> None:
    chunks = [b"a" * 600, b"b" * 424]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    assert len(await read_body(request_of(receive), limit=1024)) == 1024


@pytest.mark.parametrize("more", [True, False])
async def test_a_refusal_knows_whether_more_of_the_body_is_to_come(more: bool) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 1025, "more_body": more}

    request = request_of(receive)
    with pytest.raises(Problem) as refused:
        await read_body(request, limit=1024)
    assert refused.value.status_code == 413
    assert request.scope[BODY] == ("begun" if more else "over")


async def test_an_announced_length_is_refused_before_anything_is_read() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing may be read")

    for length in (str(MAX_BODY + 1), "9" * 40):
        with pytest.raises(Problem) as refused:
            await read_body(request_of(receive, content_length=length))
        assert refused.value.status_code == 413


async def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    with pytest.raises(Problem) as refused:
        await read_body(request_of(receive), seconds=0.01)
    assert refused.value.status_code == 408


async def test_a_connection_that_closes_early_is_no_error_of_ours() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(Problem) as refused:
        await read_body(request_of(receive))
    assert refused.value.status_code == 400


@pytest.mark.parametrize("path", ["/event", "/webhooks/github", "/webhooks/alertmanager"])
async def test_every_intake_refuses_more_than_25_mb(path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(27):
            yield b" " * (1024 * 1024)

    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {TOKEN}",
        "x-hub-signature-256": signature(b""),
    }
    async with house() as h:
        streamed = await h.client.post(path, content=chunks(), headers=headers)
        assert streamed.status_code == 413
        assert streamed.json()["error"] == "The body is larger than 25 MB."
        assert h.log.events == []


def test_depth_is_counted_from_the_outermost_bracket() -> None:
    deepest = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert orjson.dumps(parse_json(deepest)) == deepest
    for bomb in (b"[" + deepest + b"]", b'{"a":' * 101 + b"1" + b"}" * 101, b"[" * 10**6):
        with pytest.raises(Problem) as refused:
            parse_json(bomb)
        assert refused.value.status_code == 400


def test_many_brackets_side_by_side_are_not_deep() -> None:
    wide = b"[" + b",".join([b"[{}]"] * 50_000) + b"]"
    assert len(parse_json(wide)) == 50_000


def test_brackets_in_strings_do_not_count() -> None:
    assert parse_json(orjson.dumps({"a": "[" * 5000})) == {"a": "[" * 5000}


def test_a_bomb_is_refused_quickly() -> None:
    begun = time.perf_counter()
    with pytest.raises(Problem):
        parse_json(b'{"a":[' * 4_000_000)
    assert time.perf_counter() - begun < 2


def test_a_byte_order_mark_is_passed_over() -> None:
    assert parse_json(b"\xef\xbb\xbf{}") == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(JSON)
def test_json_comes_through_unchanged_but_for_nul(value: Any) -> None:
    written = orjson.dumps(value)
    clean = orjson.dumps(parse_json(written))
    assert clean == written.replace(b"\\u0000", "\N{REPLACEMENT CHARACTER}".encode()) or (
        b"\\\\u0000" in written
    )
    assert b"\\u0000" not in clean.replace(b"\\\\", b"")


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_400(body: bytes) -> None:
    try:
        expected = orjson.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        with pytest.raises(Problem) as refused:
            parse_json(body)
        assert refused.value.status_code == 400
    else:
        assert parse_json(body) == expected
