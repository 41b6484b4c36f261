"""What nobody should send, sent to a server as anybody would start it: a 4xx with a sentence, no
word of the payload or of a secret in the answer or in what the server prints, nothing stored."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.e2e.served import SECRET, Served

CANARY = "hunter2-in-the-payload"
"""In every body, so that it shows wherever a body leaks."""
MEGABYTE = 1024 * 1024
DOORS = ("/webhooks/github", "/event", "/webhooks/alertmanager")
BROKEN = {
    "cut off": f'{{"type": "deploy", "x": "{CANARY}"'.encode(),
    "a comma too many": f'{{"x": "{CANARY}",}}'.encode(),
    "not JSON": f"token={CANARY}".encode(),
    "not UTF-8": b'{"x": "' + CANARY.encode() + b'\xff"}',
    "nothing": b"",
    "not a number": f'{{"x": "{CANARY}", "n": NaN}}'.encode(),
    "a number beyond all measure": f'{{"x": "{CANARY}", "n": 1e999}}'.encode(),
    "arrays in arrays": f'{{"x": "{CANARY}", "n": '.encode() + b"[" * 101 + b"]" * 101 + b"}",
    "arrays without an end": b"[" * 2_000_000,
    "objects without an end": b'{"a":' * 400_000,
}


def headers(served: Served, door: str, body: bytes, **other: str) -> dict[str, str]:
    """What a proper sender of that body would say at that door, but for `other`."""
    said = {"content-type": "application/json"}
    if door == "/webhooks/github":
        signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        said |= {
            "x-github-event": "push",
            "x-github-delivery": str(uuid4()),
            "x-hub-signature-256": f"sha256={signature}",
        }
    else:
        said["authorization"] = f"Bearer {served.api.token}"
    return said | {name.replace("_", "-"): value for name, value in other.items()}


async def stored(served: Served) -> tuple[list[str], list[str]]:
    """Every event and every run there is."""
    events = await served.api.get("/api/events", limit="200")
    runs = await served.api.get("/api/runs", limit="200")
    return [one["id"] for one in events["events"]], [one["id"] for one in runs["runs"]]


async def refused(served: Served, answer: httpx.Response, status: int) -> str:
    """Hold a refusal against what is promised of all of them; its sentence."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told["error"].endswith(".")
    assert len(told["error"].split()) >= 4
    printed = served.program.said()
    assert served.api.token is not None
    for secret in (CANARY, SECRET, served.api.token):
        assert secret not in answer.text
    for secret in (CANARY, SECRET):
        assert secret not in printed
    assert "Traceback" not in printed
    return str(told["error"])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", BROKEN)
async def test_json_that_cannot_be_understood_is_a_400(
    served: Served, door: str, kind: str
) -> None:
    before, body = await stored(served), BROKEN[kind]
    answer = await served.api.http.post(
        served.api.url + door, content=body, headers=headers(served, door, body)
    )
    said = await refused(served, answer, 400)
    if kind.endswith("an end") or kind == "arrays in arrays":
        assert "nested deeper than 100 levels" in said
    assert await stored(served) == before


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "multipart/form-data", ""])
async def test_another_content_type_is_a_415(served: Served, door: str, kind: str) -> None:
    before, body = await stored(served), f'{{"x": "{CANARY}"}}'.encode()
    sent = headers(served, door, body, content_type=kind)
    if not kind:
        del sent["content-type"]
    answer = await served.api.http.post(served.api.url + door, content=body, headers=sent)
    assert "content type" in await refused(served, answer, 415)
    assert await stored(served) == before


@pytest.mark.parametrize(
    "signature",
    [
        "sha256=" + "0" * 64,
        "sha256=" + hmac.new(b"another", b"{}", hashlib.sha256).hexdigest(),
        "sha1=" + hmac.new(SECRET.encode(), b"{}", hashlib.sha1).hexdigest(),
        "sha256=",
        "sha256=tést",
        "",
    ],
)
async def test_a_wrong_signature_is_a_401(served: Served, signature: str) -> None:
    before = await stored(served)
    body = f'{{"x": "{CANARY}"}}'.encode()
    sent = headers(served, DOORS[0], body)
    raw = [(name.encode(), value.encode()) for name, value in sent.items()]
    raw = [(name, value) for name, value in raw if name != b"x-hub-signature-256"]
    if signature:
        raw.append((b"x-hub-signature-256", signature.encode("latin-1")))
    answer = await served.api.http.post(served.api.url + DOORS[0], content=body, headers=raw)
    await refused(served, answer, 401)
    assert await stored(served) == before


@pytest.mark.parametrize("door", DOORS[1:])
@pytest.mark.parametrize("token", ["guess", "tést", ""])
async def test_an_unknown_token_is_a_401(served: Served, door: str, token: str) -> None:
    before, body = await stored(served), f'{{"x": "{CANARY}"}}'.encode()
    raw = [(b"content-type", b"application/json")]
    if token:
        raw.append((b"authorization", b"Bearer " + token.encode("latin-1")))
    answer = await served.api.http.post(served.api.url + door, content=body, headers=raw)
    await refused(served, answer, 401)
    assert await stored(served) == before


@pytest.mark.parametrize("door", DOORS)
async def test_more_than_25_mb_is_a_413_announced_or_not(served: Served, door: str) -> None:
    before = await stored(served)
    body = b'{"x": "' + CANARY.encode() + b" " * (26 * MEGABYTE) + b'"}'

    async def chunks() -> AsyncIterator[bytes]:
        for first in range(0, len(body), MEGABYTE):
            yield body[first : first + MEGABYTE]

    for content in (body, chunks()):
        answer = await served.api.http.post(
            served.api.url + door, content=content, headers=headers(served, door, body)
        )
        assert "25 MB" in await refused(served, answer, 413)
    assert await stored(served) == before


async def test_curl_is_told_that_a_body_is_too_large(
    served: Served, tmp_path: Path, program: Callable[[str], str]
) -> None:
    file = tmp_path / "large.json"
    file.write_bytes(b" " * (26 * MEGABYTE))
    process = await asyncio.create_subprocess_exec(
        *(program("curl"), "--silent", "--noproxy", "*", "--write-out", "\n%{http_code}"),
        *("--header", "Content-Type: application/json"),
        *("--header", f"Authorization: Bearer {served.api.token}"),
        *("--data-binary", f"@{file}", f"{served.api.url}/event"),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    text, _, code = out.decode().rpartition("\n")
    assert code == "413"
    assert "larger than 25 MB" in text
