"""A trusted proxy: its word counts from its own address, in one header, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import httpx
import pytest

from domain.errors import SourceError
from tests.web.desk_twin import DEVELOPER
from tests.web.house import whole_app
from web.intake import ShortWay
from web.proxy import TrustedProxy

HEADER = "X-Forwarded-User"
PROXY, STRANGER = "192.0.2.10", "198.51.100.7"


@pytest.fixture(scope="module")
def door() -> ShortWay:
    door = whole_app({}, {})
    state = door.app.state
    proxy = TrustedProxy.of(HEADER, (PROXY, "2001:db8::/64"), "X-Forwarded-Roles")
    state.gatekeeper = replace(state.gatekeeper, proxy=proxy)
    return door


async def ask(
    door: ShortWay, peer: str, *headers: tuple[str, str], method: str = "GET", path: str = ""
) -> httpx.Response:
    transport = httpx.ASGITransport(door, client=(peer, 1234), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fermata.test") as http:
        return await http.request(method, path or "/api/services", headers=list(headers))


async def test_its_word_counts(door: ShortWay) -> None:
    for peer in (PROXY, "::ffff:192.0.2.10", "2001:db8::1"):
        assert (await ask(door, peer, (HEADER, "ada"))).status_code == 200, peer


@pytest.mark.parametrize("peer", [STRANGER, "127.0.0.1", "192.0.2.11", "not-an-address", ""])
async def test_from_anywhere_else_it_is_refused(door: ShortWay, peer: str) -> None:
    answer = await ask(door, peer, (HEADER, "ada"))
    assert answer.status_code == 401
    assert "no trusted proxy" in answer.json()["error"]


async def test_saying_that_one_was_forwarded_by_the_proxy_does_not_help(door: ShortWay) -> None:
    answer = await ask(door, STRANGER, (HEADER, "ada"), ("X-Forwarded-For", PROXY))
    assert answer.status_code == 401


@pytest.mark.parametrize("name", ["", "  ", "ada, eve", "ada\teve", "a" * 200, "../x"])
async def test_what_is_no_name_is_nobody(door: ShortWay, name: str) -> None:
    assert (await ask(door, PROXY, (HEADER, name))).status_code == 401


async def test_a_header_that_came_twice_is_nobody(door: ShortWay) -> None:
    answer = await ask(door, PROXY, (HEADER, "ada"), (HEADER, "eve"))
    assert answer.status_code == 401
    assert "replace what the client sent" in answer.json()["hint"]


async def test_roles_come_from_their_header_and_are_a_viewers_without(door: ShortWay) -> None:
    path = f"/api/runs/{'0' * 8}-0000-0000-0000-000000000000/signals"
    form = ("Origin", "http://fermata.test")
    viewer = await ask(door, PROXY, (HEADER, "ada"), form, method="POST", path=path)
    assert viewer.status_code == 403
    roles = ("X-Forwarded-Roles", "gardener, developer")
    developer = await ask(door, PROXY, (HEADER, "ada"), roles, form, method="POST", path=path)
    assert developer.status_code == 422
    gardener = await ask(door, PROXY, (HEADER, "ada"), ("X-Forwarded-Roles", "gardener"))
    assert gardener.status_code == 403


async def test_another_site_cannot_post_with_the_proxys_sign_in(door: ShortWay) -> None:
    path = f"/runs/{'0' * 8}-0000-0000-0000-000000000000/signals"
    roles = ("X-Forwarded-Roles", "developer")
    for header in (("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")):
        answer = await ask(door, PROXY, (HEADER, "ada"), roles, header, method="POST", path=path)
        assert answer.status_code == 403
        assert "one of our own pages" in answer.text


async def test_a_token_comes_first(door: ShortWay) -> None:
    answer = await ask(door, STRANGER, (HEADER, "root"), ("x-api-key", DEVELOPER))
    assert answer.status_code == 200


async def test_nobody_is_believed_without_the_setting() -> None:
    answer = await ask(whole_app({}, {}), PROXY, (HEADER, "ada"))
    assert answer.status_code == 401


@pytest.mark.parametrize("addresses", [(), ("0.0.0.0/0",), ("::/0",), ("proxy.example",)])
def test_a_proxy_has_to_be_named_by_its_address(addresses: tuple[str, ...]) -> None:
    with pytest.raises(SourceError, match="address"):
        TrustedProxy.of(HEADER, addresses)
