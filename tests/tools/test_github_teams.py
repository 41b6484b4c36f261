"""Team memberships: looked up live, remembered for a short while, unknown when GitHub is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from tests.servers.github import GitHubServer
from tests.servers.local import Fault
from tests.tools.forge_cases import QUICK, SECRET
from tools.github_client import GitHubClient, Token
from tools.github_teams import Memberships

TEAMS = ("acme/release-managers", "acme/sre")


@dataclass
class Watch:
    """A clock set by hand, in seconds."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def github() -> AsyncIterator[GitHubServer]:
    async with GitHubServer(token=SECRET) as server:
        server.teams["acme/release-managers"] = {"rita": "active", "newcomer": "pending"}
        server.teams["acme/sre"] = {"sam": "active"}
        yield server


@pytest.fixture
async def client(github: GitHubServer) -> AsyncIterator[GitHubClient]:
    client = GitHubClient(Token(SecretStr(SECRET)), base_url=github.url, pace=QUICK)
    yield client
    await client.aclose()


async def test_active_members_are_told_from_invited_ones_and_strangers(
    client: GitHubClient,
) -> None:
    known = Memberships(client)
    assert await known.of("rita", TEAMS) == ("acme/release-managers",)
    assert await known.of("sam", TEAMS) == ("acme/sre",)
    assert await known.of("newcomer", TEAMS) == ()
    assert await known.of("stranger", TEAMS) == ()


async def test_an_answer_counts_for_a_short_while_only(
    github: GitHubServer, client: GitHubClient
) -> None:
    watch = Watch()
    known = Memberships(client, seconds=60, now=watch)
    assert await known.of("rita", TEAMS) == ("acme/release-managers",)
    asked = len(github.seen)
    assert await known.of("Rita", TEAMS) == ("acme/release-managers",)
    assert len(github.seen) == asked
    del github.teams["acme/release-managers"]["rita"]
    watch.now = 61
    assert await known.of("rita", TEAMS) == ()


@pytest.mark.parametrize("status", [401, 403, 500])
async def test_what_github_does_not_tell_is_unknown_and_asked_again(
    github: GitHubServer, client: GitHubClient, status: int
) -> None:
    known = Memberships(client)
    github.faults.append(Fault("GET", "/sre/", status=status, times=3))
    assert await known.of("sam", TEAMS) is None
    github.faults.clear()
    assert await known.of("sam", TEAMS) == ("acme/sre",)


async def test_names_cannot_reach_other_places(github: GitHubServer, client: GitHubClient) -> None:
    known = Memberships(client)
    assert await known.of("../../../user", ("acme/sre",)) == ()
    assert all("/memberships/" in one.path or "%2F" in one.path for one in github.seen)
