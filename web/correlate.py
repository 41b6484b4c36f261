"""What an event asks for: runs to start, running changes to tell, or nothing, with the reason.

Pure: an event and the catalogue in, intakes out. Policy and people decide later what may happen;
this only finds out which change an event is about.
"""

from __future__ import annotations

import re
from typing import Any, assert_never

from domain.digest import digest_of_bytes
from domain.event import (
    Actor,
    AlertGroup,
    CheckResult,
    Command,
    Commanded,
    CommandName,
    Event,
    EventBody,
    PullRequestChanged,
    Pushed,
    Tagged,
    Unhandled,
)
from domain.intake import Address, Ignore, Intake, SendSignal, StartRun
from domain.service import Catalogue, Environment, Service
from web.problems import nearest, shown

ALERTMANAGER = Actor(login="alertmanager", is_bot=True)

MAX_ALERTS_TOLD = 20
"""Alerts of a group that travel in a signal; the event keeps all."""

_RUN_PREFIX = re.compile(r"[0-9a-f]{6,8}|[0-9a-f]{8}-?[0-9a-f-]{0,27}", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_FINISHED_TOO = frozenset({CommandName.RETRY, CommandName.OVERRIDE})


def correlate(event: Event, catalogue: Catalogue) -> tuple[Intake, ...]:
    """The intakes of an event; never empty. Expects the body as `spelled` returns it."""
    match event.body:
        case PullRequestChanged() as body:
            return (_foreign(body.repo, catalogue) or _pull_request(body),)
        case Pushed() as body:
            return (_foreign(body.repo, catalogue) or _push(body, catalogue),)
        case Tagged() as body:
            return (_foreign(body.repo, catalogue) or _tag(body),)
        case CheckResult() as body:
            return (_foreign(body.repo, catalogue) or _check_result(body),)
        case Commanded() as body:
            return tuple(_command(one, body, event, catalogue) for one in body.commands) or (
                Ignore(reason="no command was given"),
            )
        case AlertGroup() as body:
            return _alert(body, catalogue)
        case Unhandled() as body:
            return (Ignore(reason=body.what),)
        case _:
            assert_never(event.body)


def spelled(body: EventBody, catalogue: Catalogue) -> EventBody:
    """The body with its repository spelt as in the catalogue (forges compare without case)."""
    if isinstance(body, AlertGroup) or body.repo is None:
        return body
    services = catalogue.of_repo(body.repo)
    if not services or services[0].repo == body.repo:
        return body
    return body.model_copy(update={"repo": services[0].repo})


def group_fingerprint(group: AlertGroup) -> str:
    """16 hex digits that name an alert group in change keys (group keys are long and odd)."""
    return digest_of_bytes(group.group_key.encode())[:16]


def _foreign(repo: str, catalogue: Catalogue) -> Ignore | None:
    """The reason to leave a repository alone, or None when a service is built from it."""
    if catalogue.of_repo(repo):
        return None
    meant = nearest(repo, {one.repo for one in catalogue.services})
    hint = f" (did you mean {meant}?)" if meant else ""
    return Ignore(
        reason=f"no service in services.yaml has repo {shown(repo)}{hint};"
        " add one to have it released"
    )


def _pull_request(body: PullRequestChanged) -> Intake:
    group = f"pr:{body.repo}#{body.number}"
    match body.action:
        case "opened" | "synchronize" | "reopened":
            return StartRun(
                change_key=f"{group}@{body.head_sha}",
                title=body.title or f"Pull request #{body.number}",
                goal="preview",
                author=body.author,
                repo=body.repo,
                number=body.number,
                sha=body.head_sha,
                supersede_group=group,
                # closing ended the run of this very head
                again=body.action == "reopened",
            )
        case "closed":
            return _merge(body) if body.merged else _closed(body)
        case _:
            assert_never(body.action)


def _closed(body: PullRequestChanged) -> SendSignal:
    # the head keeps releases of other commits that this pull request asked for out of it
    return SendSignal(
        address=Address(repo=body.repo, number=body.number, sha=body.head_sha),
        kind="closed",
        payload={"number": body.number, "repo": body.repo, "merged": False, "goal": "preview"},
    )


def _merge(body: PullRequestChanged) -> Intake:
    if body.base_ref != body.default_branch:
        return Ignore(
            reason=f"#{body.number} was merged into {shown(body.base_ref)};"
            f" only {shown(body.default_branch)} is released"
        )
    if body.merge_sha is None:
        return Ignore(
            reason=f"the merge of #{body.number} names no commit; the push will start the release"
        )
    return StartRun(
        change_key=f"release:{body.repo}@{body.merge_sha}",
        title=body.title or f"Merge of #{body.number}",
        goal="release",
        author=body.author,
        repo=body.repo,
        number=body.number,
        sha=body.merge_sha,
        supersede_group=f"release:{body.repo}:{body.base_ref}",
    )


def _push(body: Pushed, catalogue: Catalogue) -> Intake:
    branch = shown(body.branch)
    if body.deleted:
        return Ignore(reason=f"the branch {branch} was deleted")
    if body.branch != body.default_branch:
        return Ignore(reason=f"a push to {branch}; only {shown(body.default_branch)} is released")
    services = catalogue.of_repo(body.repo)
    if not any(service.touches(body.paths) for service in services):
        names = ", ".join(service.name for service in services)
        return Ignore(reason=f"the push changes no path of {names}")
    return StartRun(
        change_key=f"release:{body.repo}@{body.sha}",
        title=f"Release {body.repo} at {body.sha[:12]}",
        goal="release",
        author=body.author,
        repo=body.repo,
        sha=body.sha,
        supersede_group=f"release:{body.repo}:{body.branch}",
    )


def _tag(body: Tagged) -> Intake:
    if body.deleted:
        return Ignore(reason=f"the tag {shown(body.tag)} was deleted")
    return StartRun(
        change_key=f"release:{body.repo}@{body.sha}#tag:{body.tag}",
        title=f"Release {body.repo} {shown(body.tag)}",
        goal="release",
        author=body.author,
        repo=body.repo,
        sha=body.sha,
    )


def _check_result(body: CheckResult) -> SendSignal:
    return SendSignal(
        address=Address(repo=body.repo, sha=body.sha),
        kind="ci_result",
        payload=body.model_dump(mode="json", exclude={"kind"}),
    )


def _command(command: Command, body: Commanded, event: Event, catalogue: Catalogue) -> Intake:
    match command.name:
        case CommandName.DEPLOY:
            return _deploy(command, body, event, catalogue)
        case CommandName.ROLLBACK:
            return _rollback(command, body, event, catalogue)
        case (
            CommandName.APPROVE
            | CommandName.REJECT
            | CommandName.HOLD
            | CommandName.RESUME
            | CommandName.RETRY
            | CommandName.CANCEL
            | CommandName.OVERRIDE
        ):
            return _tell(command, body)
        case _:
            assert_never(command.name)


def _deploy(command: Command, body: Commanded, event: Event, catalogue: Catalogue) -> Intake:
    usage = "usage: /deploy SERVICE ENVIRONMENT [COMMIT]"
    target = _target(command, body, catalogue, usage)
    if isinstance(target, Ignore):
        return target
    service, environment = target
    if len(command.args) > 3:
        return Ignore(reason=f"/deploy was given more than it takes; {usage}")
    sha = command.args[2] if len(command.args) == 3 else None
    if sha is not None and not _COMMIT.fullmatch(sha):
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


def _tell(command: Command, body: Commanded) -> Intake:
    run = command.args[0] if command.args and _RUN_PREFIX.fullmatch(command.args[0]) else None
    if run is None and (body.repo is None or body.number is None):
        name = command.name.value
        return Ignore(reason=f"/{name} does not say which run is meant; write /{name} RUN …")
    # a comment reaches runs of its own repository only, whatever run it names
    address = Address(
        run=run.lower() if run else None,
        repo=body.repo,
        number=body.number if run is None else None,
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
        "number": body.number,
        "repo": body.repo,
    }


def _alert(group: AlertGroup, catalogue: Catalogue) -> tuple[Intake, ...]:
    fingerprint = group_fingerprint(group)
    services = _services_of(group, catalogue)
    signals = tuple(
        SendSignal(
            address=Address(service=service.name),
            kind="alert",
            payload=_told(group, fingerprint, service),
        )
        for service in services
    )
    if group.status == "resolved":
        return signals or (
            Ignore(reason="the alert is resolved and names no service of services.yaml"),
        )
    if not services:
        return (_incident(group, fingerprint, None),)
    return (*(_incident(group, fingerprint, service) for service in services), *signals)


def _services_of(group: AlertGroup, catalogue: Catalogue) -> tuple[Service, ...]:
    """Distinct services that the alerts which still count name in their `service` label."""
    names = {
        alert.labels.get("service", "")
        for alert in group.alerts
        if alert.status == group.status or group.status == "resolved"
    }
    return tuple(service for service in catalogue.services if service.name in names)


def _incident(group: AlertGroup, fingerprint: str, service: Service | None) -> StartRun:
    """The run of an incident. A group that fires again after its run ended gets a new run."""
    names = sorted({alert.name for alert in group.alerts if alert.status == "firing"}) or ["alert"]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    where = f" on {service.name}" if service else ""
    suffix = f":{service.name}" if service else ""
    return StartRun(
        change_key=f"incident:{fingerprint}{suffix}",
        title=f"{shown(names[0], 120)}{more}{where}",
        goal="notify",
        author=ALERTMANAGER,
        repo=service.repo if service else None,
        again=True,
    )


def _told(group: AlertGroup, fingerprint: str, service: Service) -> dict[str, Any]:
    about = [one for one in group.alerts if one.labels.get("service") == service.name]
    return {
        "status": group.status,
        "group_key": group.group_key,
        "fingerprint": fingerprint,
        "service": service.name,
        "count": len(about),
        "alerts": [
            {
                "name": alert.name,
                "status": alert.status,
                "fingerprint": alert.fingerprint,
                "severity": alert.labels.get("severity", ""),
                "summary": alert.annotations.get("summary", "")[:500],
                "starts_at": alert.starts_at.isoformat(),
            }
            for alert in about[:MAX_ALERTS_TOLD]
        ],
    }
