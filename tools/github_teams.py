"""Who is in which team on GitHub: looked up when somebody speaks, and kept for a short while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

import structlog

from domain.errors import AdapterError
from tools.github_client import GitHubClient
from tools.github_errors import Refused

log = structlog.get_logger(__name__)

KEPT_SECONDS = 60.0
"""How long an answer counts. Whoever leaves a team loses its roles after this at the latest."""
MOST_KEPT = 10_000


@dataclass
class Memberships:
    """Memberships with a short memory. What could not be looked up is not remembered at all."""

    client: GitHubClient
    seconds: float = KEPT_SECONDS
    now: Callable[[], float] = time.monotonic
    _known: dict[tuple[str, str], tuple[float, bool]] = field(default_factory=dict)

    async def of(self, login: str, teams: tuple[str, ...]) -> tuple[str, ...] | None:
        """Those of `teams` that the login is an active member of.

        None when one of them could not be looked up: a yes that is missing may be a yes.
        """
        answers = await asyncio.gather(*(self._member(login, team) for team in teams))
        if None in answers:
            return None
        return tuple(team for team, member in zip(teams, answers, strict=True) if member)

    async def _member(self, login: str, team: str) -> bool | None:
        key = (login.lower(), team.lower())
        until, known = self._known.get(key, (0.0, False))
        if until > self.now():
            return known
        member = await self._ask(login, team)
        if member is not None:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            self._known[key] = (self.now() + self.seconds, member)
        return member

    async def _ask(self, login: str, team: str) -> bool | None:
        """https://docs.github.com/rest/teams/members#get-team-membership-for-a-user"""
        organisation, _, slug = team.partition("/")
        path = f"/teams/{quote(slug, safe='')}/memberships/{quote(login, safe='')}"
        try:
            told = await self.client.get(path, organisation=organisation)
        except Refused as error:
            if error.status == 404:
                return False
            log.warning("forge.unknown", what="teams_of", team=team, reason=str(error))
            return None
        except AdapterError as error:
            log.warning("forge.unknown", what="teams_of", team=team, reason=str(error))
            return None
        return isinstance(told, dict) and told.get("state") == "active"
