"""Standing: what a person may do, and whether a pull request still is what it was.

Both are asked of the forge at the moment they matter. What it does not answer is unknown, and the
sentence that says so goes to whoever asked; nothing is counted on a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from domain.approval import ApprovalRequest
from domain.decision import Requirement
from domain.event import Commanded, CommandName, Event
from policy.rules import Rules
from tools.ports import ForgeReader

ASSOCIATION_ROLES = {
    "OWNER": ("admin", "release-manager", "developer"),
    "MEMBER": ("developer",),
    "COLLABORATOR": ("developer",),
}
"""What a signed payload's author_association gives where there is no forge to ask (a dry run)."""


@dataclass(frozen=True)
class Standing:
    """Roles and teams of a person. `unknown` says what could not be found out, '' when all was."""

    login: str
    roles: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    unknown: str = ""

    def has_any(self, roles: tuple[str, ...]) -> bool:
        """Whether one of the roles is known to be the person's."""
        return bool(set(self.roles) & set(roles))


def teams_named(requirement: Requirement) -> tuple[str, ...]:
    """Teams that membership in matters for a question, those that own changed paths among them."""
    owners = (one.removeprefix("@") for group in requirement.owners for one in group)
    return (*requirement.teams, *(one for one in owners if "/" in one))


@dataclass(frozen=True)
class WhoMay:
    """Looks standing up."""

    forge: ForgeReader
    rules: Callable[[], Rules]

    async def of(self, payload: Mapping[str, Any], wanted: tuple[str, ...] = ()) -> Standing:
        """Standing of whoever gave a command: the token's roles where one was used, otherwise the
        permission on the repository and the teams that policy names, or that are `wanted`."""
        login = str(payload.get("author") or "")
        given = tuple(str(role) for role in payload.get("roles") or ())
        if given:
            return Standing(login, given)
        repo = payload.get("repo")
        if not isinstance(repo, str) or not repo or not login:
            return Standing(login)
        unknown: list[str] = []
        roles = await self.forge.roles_of(repo, login)
        if roles is None:
            roles = ()
            if self.forge.can_look:
                unknown.append(f"what {login} may do on {repo}")
            else:
                association = str(payload.get("association") or "").upper()
                roles = ASSOCIATION_ROLES.get(association, ())
        teams = await self._teams(login, wanted)
        if teams is None:
            unknown.append(f"which teams {login} is in")
        from_teams = [
            role for team in teams or () for role in self.rules().team_roles.get(team.lower(), ())
        ]
        return Standing(
            login,
            tuple(dict.fromkeys((*roles, *from_teams))),
            teams or (),
            f"It could not be found out {' and '.join(unknown)}." if unknown else "",
        )

    async def teams_of(self, login: str, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The teams of a person who is known by a token already; what is unknown is left out."""
        return await self._teams(login, wanted) or ()

    async def _teams(self, login: str, wanted: tuple[str, ...]) -> tuple[str, ...] | None:
        teams = tuple(dict.fromkeys((*self.rules().teams, *(one.lower() for one in wanted))))
        if not teams:
            return ()
        if not self.forge.can_look:
            # a dry run knows what was put into it and nothing else
            return await self.forge.teams_of(login, teams) or ()
        return await self.forge.teams_of(login, teams)


@dataclass(frozen=True)
class Heads:
    """Reads a pull request's head again, right before something is done about it."""

    forge: ForgeReader

    async def now(self, event: Event, goal: str) -> tuple[bool, str | None]:
        """(whether the run stands or falls with the head of an open pull request, that head).

        It does when the head was taken for a `/deploy` that names no commit.
        """
        body = event.body
        if not isinstance(body, Commanded) or goal != "release":
            return False, None
        if any(len(one.args) > 2 for one in body.commands if one.name is CommandName.DEPLOY):
            return False, None
        if body.repo is None or body.number is None:
            return False, None
        return True, await self.forge.head_sha(body.repo, body.number)

    async def refusal(self, request: ApprovalRequest, event: Event, goal: str) -> str | None:
        """Why a vote on this request does not count because of the head; None when it may.

        Releases of merged commits have no head to move. Where there is no forge to ask, the
        request's digest alone says what is approved.
        """
        concerned, head = await self.now(event, goal)
        if not concerned or request.head is None:
            return None
        if head is None:
            if not self.forge.can_look:
                return None
            return (
                f"It could not be read whether {request.head[:7]} still is the pull request's "
                "head, so nothing was counted. Say it again when the forge answers."
            )
        if head == request.head:
            return None
        return (
            f"The pull request's head is {head[:7]} now; the question was about "
            f"{request.head[:7]}. The newer head has to be asked about anew."
        )
