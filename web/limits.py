"""What a sender may cost us: bytes of body, seconds of sending, depth of nesting."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import orjson
from fastapi import Request

from web.lingering import BODY
from web.problems import Problem

MAX_BODY = 25 * 1024 * 1024
"""Bytes. GitHub caps its payloads at 25 MB and sends nothing above that."""

MAX_DEPTH = 100
"""Levels of nested arrays and objects; real payloads stay under 15."""

BODY_SECONDS = 60.0
"""How long a body may take to arrive."""

LARGE = 32 * 1024
"""Bytes from which a body is understood in a thread, so that the others need not wait."""


def check_length(request: Request, limit: int = MAX_BODY) -> None:
    """Refuse (413) by the announced length, before a byte is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)


async def read_body(
    request: Request, limit: int = MAX_BODY, seconds: float = BODY_SECONDS
) -> bytes:
    """The raw body. Stops reading at `limit` bytes (413), and after `seconds` (408)."""
    check_length(request, limit)
    chunks: list[bytes] = []
    size = 0
    more = True
    try:
        async with asyncio.timeout(seconds):
            request.scope[BODY] = "begun"
            while more:
                message = await request.receive()
                came = message["type"] == "http.request"
                more = came and message.get("more_body", False)
                if not more:
                    # Before anything is refused: whoever waited for the rest would wait in vain.
                    request.scope[BODY] = "over"
                if not came:
                    raise Problem(400, "The connection was closed before the body was complete.")
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
                chunks.append(chunk)
    except TimeoutError:
        raise Problem(
            408,
            f"The body did not arrive within {seconds:g} seconds.",
            "Send the request again.",
            headers={"Connection": "close"},
        ) from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_again(request: Request, limit: int) -> bytes:
    """The raw body, also where it has been read before. Refuses more than `limit` bytes (413)."""
    check_length(request, limit)
    body = await request.body()
    if len(body) > limit:
        raise _too_large(limit)
    return body


def parse_json(body: bytes) -> Any:
    """Parse UTF-8 JSON, or raise a 400 that names line and column (1-based).

    Refuses nesting deeper than `MAX_DEPTH`. Never recurses in Python on what was sent, and
    replaces NUL characters in strings, which PostgreSQL cannot store.
    """
    text = body.removeprefix(b"\xef\xbb\xbf")
    if not text.strip():
        raise Problem(400, "The body is empty; it has to be JSON.")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        # `from None`: the error holds the whole document, which must not reach a log
        message, line, column = error.msg, error.lineno, error.colno
        if "depth" in message or "recursion" in message.lower():
            raise _too_deep() from None
        raise Problem(
            400,
            f"The body is not valid JSON: {message} (line {line}, column {column}).",
            "Check the JSON, for instance with `jq . FILE`.",
            more={"line": line, "column": column},
        ) from None
    # the count of brackets is an upper bound for the depth, and nearly free
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _depth_exceeds(value, MAX_DEPTH):
        raise _too_deep()
    return _without_nul(value) if b"\\u0000" in text else value


async def parse_json_fairly(body: bytes) -> Any:
    """`parse_json`, in a thread when the body is large."""
    if len(body) < LARGE:
        return parse_json(body)
    return await asyncio.to_thread(parse_json, body)


def media_type(request: Request, allowed: tuple[str, ...]) -> str:
    """The request's content type without parameters; 415 unless it is one of `allowed`.

    Refuses charsets other than UTF-8 and compressed bodies as well.
    """
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "Compressed bodies are not understood.", "Send the body as it is.")
    return _media_type(request.headers.get("content-type", ""), allowed)


@functools.lru_cache(maxsize=64)
def _media_type(header: str, allowed: tuple[str, ...]) -> str:
    kind, _, parameters = header.partition(";")
    kind = kind.strip().lower()
    wanted = " or ".join(allowed)
    if kind not in allowed:
        said = "a content type that is not understood" if kind else "no content type"
        raise Problem(
            415,
            f"The request has {said}; it has to be {wanted}.",
            f"Send `content-type: {wanted}`.",
        )
    for parameter in parameters.lower().split(";"):
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise Problem(415, "The body has to be UTF-8.", "Send `charset=utf-8`, or no charset.")
    return kind


def _depth_exceeds(value: Any, limit: int) -> bool:
    """Whether arrays and objects nest deeper than `limit`, walked level by level."""
    level = [value]
    for _ in range(limit):
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(child for child in one.values() if isinstance(child, dict | list))
            elif isinstance(one, list):
                below.extend(child for child in one if isinstance(child, dict | list))
        if not below:
            return False
        level = below
    return True


def _without_nul(value: Any) -> Any:
    """The same data without NUL characters; recursion is bounded by `MAX_DEPTH`."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(one) for key, one in value.items()}
    return value


def _too_large(limit: int) -> Problem:
    return Problem(
        413,
        f"The body is larger than {_size(limit)}.",
        "Send less: name commits and artifacts instead of including them.",
        headers={"Connection": "close"},
    )


def _size(count: int) -> str:
    mega = 1024 * 1024
    return f"{count // mega} MB" if count >= mega else f"{count // 1024} KB"


def _too_deep() -> Problem:
    return Problem(400, f"The JSON is nested deeper than {MAX_DEPTH} levels.", "Flatten it.")
