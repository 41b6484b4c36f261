"""What an event asks for: runs to start, running changes to tell, or nothing, with the reason.

Pure: an event and the catalogue in, intakes out. Policy and people decide later what may happen;
this only finds out which change an event is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, assert_never

from domain.digest import digest_of_bytes
from domain.event import (
    Actor,
    Alert,
    AlertGroup,
    CheckResult,
    Commanded,
    Event,
    EventBody,
    PullRequestChanged,
    Pushed,
    Tagged,
    Unhandled,
)
from domain.intake import Address, Ignore, Intake, SendSignal, StartRun
from domain.service import Catalogue, Service
from web.commanded import commands
from web.problems import nearest, shown

ALERTMANAGER = Actor(login="alertmanager", is_bot=True)

MAX_ALERTS_TOLD = 20
"""Alerts of a kind (status, severity, place) that travel in a signal; the event keeps all."""


def correlate(event: Event, catalogue: Catalogue) -> tuple[Intake, ...]:
    """The intakes of an event; never empty. Expects the body as `spelled` returns it."""
    match event.body:
        case PullRequestChanged() as body:
            foreign = _foreign(body.repo, catalogue)
            if foreign is not None or body.action != "synchronize":
                return (foreign or _pull_request(body),)
            # a /deploy of the head before this one has to look again
            return (_pull_request(body), _pushed_to(body))
        case Pushed() as body:
            return (_foreign(body.repo, catalogue) or _push(body, event, catalogue),)
        case Tagged() as body:
            return (_foreign(body.repo, catalogue) or _tag(body),)
        case CheckResult() as body:
            return (_foreign(body.repo, catalogue) or _check_result(body),)
        case Commanded() as body:
            asked = commands(body, event, catalogue)
            # a comment that asks to be told something is answered, and asks for nothing else
            told = bool(body.commands) and body.comment_id is not None
            return asked if asked or told else (Ignore(reason="no command was given"),)
        case AlertGroup() as body:
            return _alert(body, catalogue)
        case Unhandled() as body:
            return (Ignore(reason=body.what),)
        case _:
            assert_never(event.body)


def answer_to(event: Event, catalogue: Catalogue) -> tuple[StartRun, ...]:
    """The small run that shows what was understood of a comment, and says what there is to say.

    Only where we have a say: in repositories that a service is built from. It names no number:
    commands on the pull request are not meant for it.
    """
    body = event.body
    if not isinstance(body, Commanded) or None in (body.repo, body.number, body.comment_id):
        return ()
    if not catalogue.of_repo(body.repo or ""):
        return ()
    said = ", ".join(dict.fromkeys(f"/{one.name.value}" for one in body.commands))
    return (
        StartRun(
            change_key=f"answer:{body.repo}#{body.number}:{body.comment_id}",
            title=f"Answer {said or 'a comment'} of {body.author.login}",
            goal="answer",
            author=body.author,
            repo=body.repo,
        ),
    )


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
                # closing, or a head that has been taken back, ended the run of this very head
                again=body.action != "opened",
            )
        case "closed":
            return _merge(body) if body.merged else _closed(body)
        case _:
            assert_never(body.action)


def _pushed_to(body: PullRequestChanged) -> SendSignal:
    return SendSignal(
        address=Address(repo=body.repo, number=body.number),
        kind="pushed",
        payload={"number": body.number, "repo": body.repo, "head": body.head_sha},
    )


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


def _push(body: Pushed, event: Event, catalogue: Catalogue) -> Intake:
    branch = shown(body.branch)
    if body.deleted:
        return Ignore(reason=f"the branch {branch} was deleted")
    if body.branch != body.default_branch:
        return Ignore(reason=f"a push to {branch}; only {shown(body.default_branch)} is released")
    services = catalogue.of_repo(body.repo)
    if not any(service.touches(body.paths) for service in services):
        names = ", ".join(service.name for service in services)
        return Ignore(reason=f"the push changes no path of {names}")
    # Moved back to a commit that was released before, that release is not what is asked for: it has
    # ended, or gives way to the one that this takes back.
    occasion = f"#forced:{event.delivery_id}" if body.forced else ""
    return StartRun(
        change_key=f"release:{body.repo}@{body.sha}{occasion}",
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
                "environment": alert.labels.get("environment") or alert.labels.get("env", ""),
                "namespace": alert.labels.get("namespace", ""),
                "starts_at": alert.starts_at.isoformat(),
            }
            for alert in _telling(about, service)
        ],
    }


def _telling(alerts: Iterable[Alert], service: Service) -> list[Alert]:
    """Of each kind those that began last. One alert is enough to stop a release, so none may be
    lost behind many about another place, that count for less, or that are older than the release.
    """
    places = {place for one in service.environments for place in (one.name, one.namespace)}
    told: dict[tuple[str, ...], list[Alert]] = {}
    for alert in sorted(alerts, key=lambda one: one.starts_at, reverse=True):
        named = (alert.labels.get(name, "") for name in ("environment", "env", "namespace"))
        place = (one if one in places or not one else "elsewhere" for one in named)
        kind = told.setdefault((alert.status, alert.labels.get("severity", ""), *place), [])
        if len(kind) < MAX_ALERTS_TOLD:
            kind.append(alert)
    return [alert for kind in told.values() for alert in kind]
