"""The plain JSON forms of `POST /event`, and what each means.

    {"type": "deploy", "service": "checkout", "environment": "prod", "sha": "…"}
    {"type": "rollback", "service": "checkout", "environment": "prod", "reason": "…"}
    {"type": "command", "text": "/approve 3f2a91c0", "repo": "acme/shop", "number": 7}
    {"type": "pull_request" | "push" | "tag" | "ci_result" | "alert", …}

The last five are the models of `domain/event.py` without `kind`. `id` makes a form idempotent.
What a command says is said by the owner of the token, whatever else the form holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from domain.event import (
    Actor,
    AlertGroup,
    CheckResult,
    Command,
    Commanded,
    CommandName,
    EventBody,
    PullRequestChanged,
    Pushed,
    Tagged,
)
from web.auth import Principal
from web.comments import parse_comment
from web.problems import nearest, shown
from web.receive import misfit
from web.shapes import misshapen, shaped

ENVELOPE = frozenset({"type", "id"})
"""Keys of every form that are not part of what it says."""

ONE_OFF = frozenset({"deploy", "rollback", "command"})
"""Forms that ask for something now: saying the same again another day is not a repetition."""


LATEST_COUNTS = frozenset({"ci_result"})
"""Forms that replace what was said before, and may say again what was said before that: a check
that failed, passed when run again, and fails once more. Taken twice they change nothing."""


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeployForm(_Form):
    """Deploy a service to an environment, at a commit or at what the branch points at."""

    service: str = Field(min_length=1, max_length=200)
    environment: str = Field(min_length=1, max_length=200)
    sha: str | None = Field(default=None, min_length=1, max_length=64)


class RollbackForm(_Form):
    """Bring a service in an environment back to the last known good version."""

    service: str = Field(min_length=1, max_length=200)
    environment: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=1000)


class CommandForm(_Form):
    """Slash commands as in a comment; `repo` and `number` say on which pull request."""

    text: str = Field(max_length=65536)
    repo: str | None = None
    number: int | None = None


def body_of(data: Mapping[str, Any], principal: Principal) -> EventBody:
    """The event that a form describes; a 422 names the field, or the nearest type."""
    kind = data.get("type")
    if not isinstance(kind, str):
        raise misshapen("type", "is missing", f"It is one of {', '.join(FORMS)}.")
    return body_of_type(kind, data, principal)


def body_of_type(kind: str, data: Mapping[str, Any], principal: Principal) -> EventBody:
    """The same for a type that stands elsewhere, as in a CloudEvent."""
    build = FORMS.get(kind)
    if build is None:
        meant = nearest(kind, FORMS)
        hint = f"Did you mean `{meant}`?" if meant else f"It is one of {', '.join(FORMS)}."
        raise misshapen("type", f"no event has the type {shown(kind)}", hint)
    said = {key: value for key, value in data.items() if key not in ENVELOPE}
    body = build(said, principal)
    wrong = misfit(body)
    if wrong is not None:
        raise misshapen(*wrong)
    return body


def _deploy(said: dict[str, Any], principal: Principal) -> EventBody:
    form = shaped(DeployForm, said)
    args = (form.service, form.environment, *((form.sha,) if form.sha else ()))
    return _commanded((Command(name=CommandName.DEPLOY, args=args),), principal)


def _rollback(said: dict[str, Any], principal: Principal) -> EventBody:
    form = shaped(RollbackForm, said)
    args = (form.service, form.environment, *((form.reason,) if form.reason else ()))
    return _commanded((Command(name=CommandName.ROLLBACK, args=args),), principal)


def _command(said: dict[str, Any], principal: Principal) -> EventBody:
    form = shaped(CommandForm, said)
    found = parse_comment(form.text)
    for one in found:
        if not isinstance(one, Command):
            hint = f"Did you mean `/{one.suggestion}`?" if one.suggestion else _all_commands()
            raise misshapen("text", f"line {one.line}: {one.error}", hint)
    if not found:
        raise misshapen("text", "holds no command", _all_commands())
    commands = tuple(one for one in found if isinstance(one, Command))
    return _commanded(commands, principal, form.repo, form.number)


def _commanded(
    commands: tuple[Command, ...],
    principal: Principal,
    repo: str | None = None,
    number: int | None = None,
) -> Commanded:
    return Commanded(
        commands=commands,
        author=Actor(login=principal.person),
        roles=principal.roles,
        repo=repo,
        number=number,
    )


def _all_commands() -> str:
    return f"A command begins a line: {', '.join(f'/{name.value}' for name in CommandName)}."


def _authored(
    model: type[PullRequestChanged] | type[Pushed] | type[Tagged],
) -> Callable[[dict[str, Any], Principal], EventBody]:
    def build(said: dict[str, Any], principal: Principal) -> EventBody:
        author = said.get("author", principal.person)
        # a bare login will do
        return shaped(
            model, {**said, "author": {"login": author} if isinstance(author, str) else author}
        )

    return build


def _plain(
    model: type[CheckResult] | type[AlertGroup],
) -> Callable[[dict[str, Any], Principal], EventBody]:
    def build(said: dict[str, Any], _principal: Principal) -> EventBody:
        return shaped(model, said)

    return build


FORMS: dict[str, Callable[[dict[str, Any], Principal], EventBody]] = {
    "deploy": _deploy,
    "rollback": _rollback,
    "command": _command,
    "pull_request": _authored(PullRequestChanged),
    "push": _authored(Pushed),
    "tag": _authored(Tagged),
    "ci_result": _plain(CheckResult),
    "alert": _plain(AlertGroup),
}
"""Form by type."""
