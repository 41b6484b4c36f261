"""What commands ask for: runs to start, running changes to tell. Part of `correlate`, and pure."""

from __future__ import annotations

import re
from typing import Any, assert_never

from domain.event import Command, Commanded, CommandName, Event
from domain.intake import Address, Ignore, Intake, SendSignal, StartRun
from domain.naming import named
from domain.service import Catalogue, Environment, Service
from web.problems import nearest, shown

COMMIT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""What may name a commit: hex digits mostly, and never more than an image tag may hold."""

_RUN_PREFIX = re.compile(r"[0-9a-f]{6,8}|[0-9a-f]{8}-?[0-9a-f-]{0,27}", re.IGNORECASE)
_FINISHED_TOO = frozenset({CommandName.RETRY, CommandName.OVERRIDE})


def commands(body: Commanded, event: Event, catalogue: Catalogue) -> tuple[Intake, ...]:
    """The intakes of all commands. A run is planned from its event, so one event starts one run."""
    intakes: list[Intake] = []
    started = False
    for command in body.commands:
        match command.name:
            case CommandName.DEPLOY | CommandName.ROLLBACK | CommandName.UNLOCK:
                intake = _start(command, body, event, catalogue)
                if isinstance(intake, StartRun) and started:
                    intake = Ignore(
                        reason=f"line {command.line}: one /deploy, /rollback or /unlock at a"
                        " time; give"
                        f" /{command.name.value} {' '.join(map(shown, command.args[:2]))} by itself"
                    )
                started = started or isinstance(intake, StartRun)
                intakes.append(intake)
            case CommandName.APPROVE | CommandName.REJECT:
                intakes.extend(_vote(command, body))
            case (
                CommandName.HOLD
                | CommandName.RESUME
                | CommandName.RETRY
                | CommandName.CANCEL
                | CommandName.OVERRIDE
            ):
                intakes.append(_tell(command, body))
            case CommandName.EXPLAIN | CommandName.HELP:
                # what is asked for is an answer, and every comment gets one
                if body.comment_id is None:
                    intakes.append(Ignore(reason=_where_to_look(command)))
            case _:
                assert_never(command.name)
    return tuple(intakes)


def _start(command: Command, body: Commanded, event: Event, catalogue: Catalogue) -> Intake:
    if command.name is CommandName.DEPLOY:
        return _deploy(command, body, event, catalogue)
    if command.name is CommandName.UNLOCK:
        return _unlock(command, body, event, catalogue)
    return _rollback(command, body, event, catalogue)


def _deploy(command: Command, body: Commanded, event: Event, catalogue: Catalogue) -> Intake:
    usage = "usage: /deploy SERVICE ENVIRONMENT [COMMIT]"
    target = _target(command, body, catalogue, usage)
    if isinstance(target, Ignore):
        return target
    service, environment = target
    if len(command.args) > 3:
        return Ignore(reason=f"/deploy was given more than it takes; {usage}")
    sha = command.args[2] if len(command.args) == 3 else None
    if sha is not None and not COMMIT.fullmatch(sha):
        return Ignore(reason=f"{shown(sha)} is not a commit; {usage}")
    place = f"{service.name}:{environment.name}"
    return StartRun(
        change_key=f"release:{place}:{sha or _occasion(body, event)}",
        title=f"Deploy {service.name} to {environment.name}" + (f" at {sha[:12]}" if sha else ""),
        goal="release",
        author=body.author,
        repo=service.repo,
        number=body.number,
        sha=sha,
        # whoever asks for a deploy means it, also when this commit was deployed before
        again=True,
    )


def _rollback(command: Command, body: Commanded, event: Event, catalogue: Catalogue) -> Intake:
    target = _target(command, body, catalogue, "usage: /rollback SERVICE ENVIRONMENT [REASON…]")
    if isinstance(target, Ignore):
        return target
    service, environment = target
    return StartRun(
        change_key=f"rollback:{service.name}:{environment.name}:{event.delivery_id}",
        title=f"Roll back {service.name} in {environment.name}",
        goal="rollback",
        author=body.author,
        repo=service.repo,
        number=body.number,
    )


def _unlock(command: Command, body: Commanded, event: Event, catalogue: Catalogue) -> Intake:
    target = _target(command, body, catalogue, "usage: /unlock SERVICE ENVIRONMENT [REASON…]")
    if isinstance(target, Ignore):
        return target
    service, environment = target
    return StartRun(
        change_key=f"unlock:{service.name}:{environment.name}:{event.delivery_id}",
        title=f"Unlock {service.name} in {environment.name}",
        goal="unlock",
        author=body.author,
        repo=service.repo,
    )


def _where_to_look(command: Command) -> str:
    """What to do instead where there is no comment that could be answered."""
    if command.name is CommandName.HELP:
        return "the commands are told at /docs/commands"
    return "GET /api/runs/RUN holds every decision with every rule that matched"


def _occasion(body: Commanded, event: Event) -> str:
    """What names a deploy without a commit: the comment that asked, or the delivery."""
    if body.comment_id is None:
        return f"@{event.delivery_id}"
    return f"{body.repo}#{body.number}:{body.comment_id}"


def _target(
    command: Command, body: Commanded, catalogue: Catalogue, usage: str
) -> tuple[Service, Environment] | Ignore:
    """The service and environment that the first two arguments name, or why there is none.

    A comment may only name services of its own repository: the rights of its author were given
    there, and nowhere else.
    """
    if len(command.args) < 2:
        return Ignore(reason=f"/{command.name.value} needs a service and an environment; {usage}")
    wanted, place = command.args[:2]
    service = catalogue.service(wanted)
    if service is None:
        names = [one.name for one in catalogue.services]
        return Ignore(reason=f"no service {shown(wanted)}; {_or_all(wanted, names)}")
    if body.repo is not None and body.repo.lower() != service.repo.lower():
        return Ignore(reason=f"{service.name} is built from {service.repo}; give the command there")
    environment = service.environment(place)
    if environment is None:
        names = [one.name for one in service.environments]
        return Ignore(
            reason=f"{service.name} has no environment {shown(place)}; {_or_all(place, names)}"
        )
    return service, environment


def _or_all(wanted: str, names: list[str]) -> str:
    """What was probably meant, or all that there is (at most ten)."""
    meant = nearest(wanted, names)
    if meant is not None:
        return f"did you mean {meant}?"
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"there are {', '.join(names[:10])}{more}" if names else "there is none yet"


def _vote(command: Command, body: Commanded) -> tuple[Intake, ...]:
    """A vote may name a run or the digest of what it approves; both look alike.

    On a pull request it therefore goes to the pull request's runs as well, whose gate compares
    the word with the digest that is asked about.
    """
    told = _tell(command, body)
    named = isinstance(told, SendSignal) and told.address.run is not None
    if not named or body.repo is None or body.number is None:
        return (told,)
    return (told, _tell(command, body, by_run=False))


def _tell(command: Command, body: Commanded, *, by_run: bool = True) -> Intake:
    name = named(command.args[0]) if command.args else None
    run = name if name is not None and _RUN_PREFIX.fullmatch(name) else None
    if run is None and (body.repo is None or body.number is None):
        said = f"/{command.name.value}"
        return Ignore(reason=f"{said} does not say which run is meant; write {said} RUN …")
    # a comment reaches runs of its own repository only, whatever run it names
    address = Address(
        run=run if by_run else None,
        repo=body.repo,
        number=None if run and by_run else body.number,
        include_final=command.name in _FINISHED_TOO,
    )
    return SendSignal(address=address, kind=command.name.value, payload=_said(command, body, run))


def _said(command: Command, body: Commanded, run: str | None) -> dict[str, Any]:
    return {
        "author": body.author.login,
        "is_bot": body.author.is_bot,
        "association": body.association,
        "roles": list(body.roles),
        "args": list(command.args),
        "reason": " ".join(command.args[1:] if run else command.args),
        "comment_id": body.comment_id,
        "said_at": body.said_at.isoformat() if body.said_at else None,
        "number": body.number,
        "repo": body.repo,
    }
