"""Tokens, roles, sessions and the cross-site checks."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import Depends, FastAPI

from domain.errors import SourceError
from web.auth import (
    COOKIE,
    CSRF_HEADER,
    Gatekeeper,
    Principal,
    Sessions,
    TokenBook,
    create_admin_token,
    require,
    router_sign_in,
    session_key,
)
from web.problems import install
from web.tokens import TokenEntry, hash_token

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@dataclass
class SetClock:
    """A clock that stands where it is put."""

    at: datetime = NOW
    speed: float = 1.0

    def now(self) -> datetime:
        return self.at


BOOK = TokenBook(
    (
        TokenEntry(hash_token("dev"), Principal("dana", ("developer",))),
        TokenEntry(hash_token("root"), Principal("ada", ("admin",))),
        TokenEntry(hash_token("old"), Principal("olga", ("admin",)), NOW - timedelta(seconds=1)),
        TokenEntry(hash_token("soon"), Principal("sam", ("admin",)), NOW + timedelta(hours=1)),
    )
)


@asynccontextmanager
async def pages(
    clock: SetClock | None = None, key: bytes = b"k" * 32
) -> AsyncIterator[httpx.AsyncClient]:
    """An application with a page for everybody signed in, and one for release managers."""
    app = FastAPI()
    install(app)
    app.state.gatekeeper = Gatekeeper(BOOK, Sessions(key), clock or SetClock())
    app.include_router(router_sign_in(app.state.gatekeeper))

    @app.get("/me")
    async def me(principal: Principal = Depends(require())) -> str:
        return principal.name

    @app.post("/ship")
    async def ship(principal: Principal = Depends(require("release-manager"))) -> str:
        return principal.name

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://fermata.test") as client:
        yield client


ORIGIN = {"origin": "http://fermata.test"}


async def test_a_role_is_needed_and_admin_has_every_role() -> None:
    async with pages() as client:
        refused = await client.post("/ship", headers={"x-api-key": "dev"})
        assert refused.status_code == 403
        assert refused.json()["error"] == "dana may not do this: it takes the role release-manager."
        assert (await client.post("/ship", headers={"x-api-key": "root"})).json() == "ada"


async def test_an_expired_token_says_so() -> None:
    clock = SetClock()
    async with pages(clock) as client:
        answer = await client.get("/me", headers={"authorization": "Bearer old"})
        assert answer.status_code == 401
        assert "expired" in answer.json()["error"]
        assert (await client.get("/me", headers={"x-api-key": "soon"})).status_code == 200
        clock.at += timedelta(hours=1)
        assert (await client.get("/me", headers={"x-api-key": "soon"})).status_code == 401


async def test_signing_in_by_link_sets_a_cookie_that_scripts_and_other_sites_cannot_use() -> None:
    async with pages() as client:
        answer = await client.get(
            "/sign-in", params={"token": "dev", "next": "/runs?state=waiting"}
        )
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs?state=waiting")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert "dev" not in cookie.split(";")[0]
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert (await client.get("/me")).json() == "dana"


async def test_the_cookie_is_secure_behind_https() -> None:
    async with pages() as client:
        answer = await client.get("https://fermata.test/sign-in", params={"token": "dev"})
        assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "target", ["https://evil.test/", "//evil.test", "/\\evil.test", "evil", "", "/a\nb"]
)
async def test_signing_in_never_leads_to_another_host(target: str) -> None:
    async with pages() as client:
        answer = await client.get("/sign-in", params={"token": "dev", "next": target})
        assert answer.headers["location"] == "/"


async def test_the_form_signs_in_from_our_own_page_only() -> None:
    async with pages() as client:
        form = {"token": " dev ", "next": "/approvals"}
        for origin in ("http://evil.test", "http://["):
            other = {"origin": origin}
            assert (await client.post("/sign-in", data=form, headers=other)).status_code == 403
        answer = await client.post("/sign-in", data=form, headers=ORIGIN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/approvals")
        wrong = await client.post("/sign-in", data={"token": "<b>x"}, headers=ORIGIN)
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        assert "<b>x" not in wrong.text


async def test_signing_out_ends_the_session_of_the_browser() -> None:
    async with pages() as client:
        await client.get("/sign-in", params={"token": "dev"})
        assert (await client.post("/sign-out", headers=ORIGIN)).status_code == 303
        assert (await client.get("/me")).status_code == 401


async def test_a_session_ends_with_its_time_its_token_or_another_key() -> None:
    clock = SetClock()
    async with pages(clock) as client:
        await client.get("/sign-in", params={"token": "soon"})
        cookie = client.cookies[COOKIE]
        clock.at += timedelta(minutes=59)
        assert (await client.get("/me")).status_code == 200
        clock.at += timedelta(minutes=1)
        assert (await client.get("/me")).status_code == 401
        await client.get("/sign-in", params={"token": "dev"})
        clock.at += timedelta(hours=12)
        assert (await client.get("/me")).status_code == 401
    async with pages(key=b"x" * 32) as other:
        other.cookies.set(COOKIE, cookie)
        assert (await other.get("/me")).status_code == 401
    sessions = Sessions(b"k" * 32)
    assert sessions.entry_of(cookie, TokenBook(), NOW) is None


@pytest.mark.parametrize("forge", ["", ".", "..", "a.b.c", "x" * 5000, "\xff.1.2"])
async def test_a_forged_cookie_is_no_session(forge: str) -> None:
    assert Sessions(b"k" * 32).entry_of(forge, BOOK, NOW) is None


async def test_a_changed_cookie_is_no_session() -> None:
    sessions = Sessions(b"k" * 32)
    cookie = sessions.issue(BOOK.entries[0], NOW)
    assert sessions.entry_of(cookie, BOOK, NOW) is BOOK.entries[0]
    start, until, mac = cookie.split(".")
    later = f"{start}.{int(until) + 1}.{mac}"
    stolen = f"{BOOK.entries[1].hash[:32]}.{until}.{mac}"
    swapped = f"{start}.{until}.{sessions.csrf_token(f'{start}.{until}')}"
    for forged in (later, stolen, swapped):
        assert sessions.entry_of(forged, BOOK, NOW) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://fermata.test"}, 200),
        ({"referer": "http://fermata.test/runs/1"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://evil.test"}, 403),
        ({"origin": "null"}, 403),
        ({"referer": "http://evil.test/?http://fermata.test"}, 403),
        ({"origin": "http://fermata.test.evil.test"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://fermata.test"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({CSRF_HEADER: "guess", "origin": "http://fermata.test"}, 403),
        ({}, 403),
    ],
)
async def test_a_cookie_alone_changes_nothing(headers: dict[str, str], status: int) -> None:
    async with pages() as client:
        await client.get("/sign-in", params={"token": "root"})
        assert (await client.post("/ship", headers=headers)).status_code == status


async def test_the_token_of_a_page_s_form_stands_in_for_its_origin() -> None:
    async with pages() as client:
        await client.get("/sign-in", params={"token": "root"})
        token = Sessions(b"k" * 32).csrf_token(client.cookies[COOKIE])
        assert (await client.post("/ship", headers={CSRF_HEADER: token})).status_code == 200


# ---- the book ------------------------------------------------------------------------------

HASH = hash_token("one")
OTHER = hash_token("two")


@pytest.mark.parametrize(
    "text",
    [
        f"- hash: {HASH}\n  principal: alice\n  roles: [developer]\n  expires: 2027-01-31\n",
        f"tokens:\n- hash: sha256:{HASH}\n  principal: alice\n  roles: [developer]\n"
        "  expires: 2027-01-31T23:59:59.999999Z\n",
        f'{{"hash": "{HASH}", "principal": "alice", "roles": ["developer"], '
        '"expires": "2027-01-31"}\n',
    ],
)
def test_the_file_is_yaml_or_json_lines(text: str) -> None:
    (entry,) = TokenBook.parse(text, "tokens").entries
    assert entry.principal == Principal("alice", ("developer",))
    assert entry.hash == HASH
    assert entry.expires == datetime(2027, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)


def test_json_lines_hold_one_entry_a_line() -> None:
    line = '{"hash": "%s", "principal": "%s"}'
    text = f"# people\n{line % (HASH, 'alice')}\n\n{line % (OTHER, 'bob')}\n"
    book = TokenBook.parse(text, "tokens")
    assert [entry.principal.name for entry in book.entries] == ["alice", "bob"]
    found = book.find("two")
    assert found is not None
    assert found.principal == Principal("bob", ())
    assert book.find("three") is None


def test_an_empty_file_is_an_empty_book() -> None:
    assert TokenBook.parse("# nobody yet\n", "tokens").entries == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("- principal: alice\n", 1, "sha256sum"),
        (f"- hash: {HASH}\n", 1, "principal"),
        (f"- hash: {HASH}\n  principal: a\n- hash: {HASH}\n  principal: b\n", 3, "line 1"),
        (f"\n- token: hunter2\n  hash: {HASH}\n  principal: a\n", 2, "in clear"),
        (f"- hash: {HASH}\n  principal: a\n  role: [x]\n", 1, "did you mean `roles`?"),
        (f"- hash: {HASH}\n  principal: a\n  roles: admin\n", 1, "list"),
        (f"- hash: {HASH}\n  principal: a\n  expires: soon\n", 1, "2027-01-31"),
        (f"- hash: {HASH}\n  principal: a\n  expires: 2027-13-45\n", 1, "2027-01-31"),
        ("- [1, 2\n", 2, "not valid YAML"),
        ("hello\n", 1, "list of tokens"),
        ("- hello\n", 1, "mapping"),
        ('{"hash": 1}\n{"hash": \n', 2, "not valid YAML"),
    ],
)
def test_a_wrong_file_names_the_line_and_what_would_be_right(
    text: str, line: int, words: str
) -> None:
    with pytest.raises(SourceError) as wrong:
        TokenBook.parse(text, "tokens.yaml")
    assert wrong.value.problems[0].line == line
    assert words in str(wrong.value)
    assert "hunter2" not in str(wrong.value)


def test_tokens_and_hashes_do_not_show_in_a_book_that_is_printed() -> None:
    book = TokenBook().with_token("one", "alice", ("admin",))
    assert HASH not in repr(book)


# ---- secrets of a data folder --------------------------------------------------------------


def test_the_admin_token_is_made_once_and_is_only_ours_to_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    token = create_admin_token(data)
    assert len(token) >= 43
    assert create_admin_token(data) == token
    assert (data / "admin-token").stat().st_mode & 0o777 == 0o600
    assert create_admin_token(tmp_path / "other") != token
    assert [path.name for path in data.iterdir()] == ["admin-token"]


def test_a_file_that_others_may_read_is_closed(tmp_path: Path) -> None:
    create_admin_token(tmp_path)
    os.chmod(tmp_path / "admin-token", 0o644)
    create_admin_token(tmp_path)
    assert (tmp_path / "admin-token").stat().st_mode & 0o777 == 0o600


def test_an_empty_file_is_not_taken_for_a_token(tmp_path: Path) -> None:
    (tmp_path / "admin-token").write_text("\n")
    with pytest.raises(ValueError, match="is empty"):
        create_admin_token(tmp_path)


def test_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        keys = pool.map(session_key, [tmp_path] * 16)
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
