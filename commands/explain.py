"""`fermata policy explain`: what policy says to an event at a time, as a tree."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from commands.console import AsJson, fail, out, read_file, settings, show_json
from commands.events import github_kind
from domain.decision import Decision, MatchedRule, Outcome
from domain.errors import BadEvent, SourceError
from domain.event import EventBody, Unhandled

COLOURS = {
    Outcome.ALLOW: "green",
    Outcome.DENY: "red",
    Outcome.NEEDS_APPROVAL: "magenta",
    Outcome.WAIT: "yellow",
}
MARKS = {
    Outcome.ALLOW: "✓",
    Outcome.DENY: "✗",
    Outcome.NEEDS_APPROVAL: "?",
    Outcome.WAIT: "…",
}


def explain(
    file: Annotated[
        Path,
        typer.Argument(
            help="An event: a GitHub webhook body, a CloudEvent, an Alertmanager payload, or "
            "Fermata's plain form; - for stdin."
        ),
    ],
    at: Annotated[
        str | None,
        typer.Option(help='When, with its offset: "2026-03-27T18:01+01:00". Default: now.'),
    ] = None,
    policy: Annotated[Path, typer.Option(envvar="FERMATA_POLICY", help="The policy file.")] = Path(
        "policy.yaml"
    ),
    services: Annotated[
        Path | None,
        typer.Option(help="The service catalogue. Default: FERMATA_SERVICES, or services.yaml."),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--github", help="Read it as this GitHub event (pull_request, push, ...)."),
    ] = None,
    paths: Annotated[
        list[str] | None,
        typer.Option("--path", help="A changed path; may be given again. Default: as it says."),
    ] = None,
    running: Annotated[
        list[str] | None,
        typer.Option(
            "--running",
            help="What runs, as SERVICE/ENVIRONMENT=IMAGE (no IMAGE: nothing, a first install). "
            "Default: an earlier version everywhere.",
        ),
    ] = None,
    codeowners: Annotated[Path | None, typer.Option(help="CODEOWNERS of the repository.")] = None,
    roles: Annotated[
        list[str] | None,
        typer.Option("--role", help="A role of whoever gives a command. Default: developer."),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            help="An override in force at that time, as NAME:ROLE:REASON; may be given again."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Plan an event and print what policy says to each step, with every rule that has something to
    say, what would make it pass, and when the windows open next.

    Nothing is asked outside: what runs, who approved and what CI says is assumed, and the
    assumptions are printed. Exit code 0 whatever the decision is; 2 for a bad file.

    Example: fermata policy explain examples/merged-pull-request.json --at 2026-03-27T18:01+01:00
    """
    from evals.explain import World, explained
    from tools.catalogue import load_catalogue
    from web.policy_file import read_policy

    moment = _moment(at)
    body = _body(file, kind)
    try:
        rules = read_policy(policy or settings().fermata_policy)
        file_of_services = services or settings().fermata_services
        catalogue = load_catalogue(read_file(file_of_services), str(file_of_services))
    except SourceError as error:
        raise fail(str(error), code=2) from error
    world = World(
        running=_running(running or []),
        paths=tuple(paths) if paths else None,
        codeowners=read_file(codeowners) if codeowners is not None else None,
        roles=tuple(roles or ("developer",)),
        overrides=_overrides(override or [], moment, rules.overrides.max_duration),
    )
    try:
        result = asyncio.run(explained(body, rules, catalogue, moment, world))
    except BadEvent as error:
        raise fail(str(error), code=2) from error
    if as_json:
        show_json(_as_json(result, body.kind))
    else:
        out.print(_as_tree(result, str(file)))
        for line in result.assumed:
            out.print(f"[dim]assumed: {escape(line)}[/dim]", highlight=False)


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text.replace(" ", "T", 1))
    except ValueError as error:
        raise fail(f"{text!r} is not a time", "write 2026-03-27T18:01+01:00", 2) from error
    if moment.utcoffset() is None:
        raise fail(
            f"{text!r} does not say where", "add the offset from UTC: 2026-03-27T18:01+01:00", 2
        )
    return moment


def _body(file: Path, kind: str | None) -> EventBody:
    from web.alertmanager import group_of
    from web.cloudevents import body_of as body_of_cloud_event
    from web.cloudevents import structured
    from web.event_forms import body_of
    from web.github_payloads import understand
    from web.problems import Problem
    from web.tokens import Principal

    try:
        data = json.loads(read_file(file))
    except ValueError as error:
        raise fail(f"{file} is not JSON: {error}", code=2) from error
    if not isinstance(data, dict):
        raise fail(f"{file} holds {type(data).__name__}, not an object", code=2)
    you = Principal("you", ())
    github = kind or github_kind(data)
    try:
        if github is not None:
            understood = understand(github, data)
            if understood.problem:
                raise fail(f"{file}: {understood.problem}", code=2)
            body: EventBody = understood.body
        elif "specversion" in data:
            body = body_of_cloud_event(structured(data), you)
        elif "alerts" in data and "type" not in data:
            body = group_of(data)
        else:
            body = body_of(data, you)
    except Problem as error:
        raise fail(f"{file}: {error.error}", error.hint, 2) from error
    if isinstance(body, Unhandled):
        raise fail(f"{file}: {body.what}", "see docs/events.md for what is understood", 2)
    return body


def _running(given: list[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for one in given:
        key, sign, image = one.partition("=")
        if not sign or key.count("/") != 1:
            raise fail(f"--running {one}", "write SERVICE/ENVIRONMENT=IMAGE", 2)
        found[key] = image or None
    return found


def _overrides(given: list[str], at: datetime, lasts: timedelta) -> tuple[Any, ...]:
    from policy.facts import OverrideFact

    found = []
    for one in given:
        name, _, rest = one.partition(":")
        role, sign, reason = rest.partition(":")
        if not sign or not name or not role:
            raise fail(f"--override {one}", "write NAME:ROLE:REASON", 2)
        found.append(
            OverrideFact(principal=name, roles=(role,), reason=reason, at=at, expires_at=at + lasts)
        )
    return tuple(found)


def _as_json(result: Any, kind: str) -> dict[str, Any]:
    from evals.explain import worst

    plan = result.plan
    return {
        "event": kind,
        "at": result.at.isoformat(),
        "policy": result.rules.digest,
        "goal": plan.goal if plan is not None else None,
        "title": plan.change.title if plan is not None else None,
        "nothing": result.why_nothing or None,
        "assumed": list(result.assumed),
        "scopes": [
            {
                "scope": scope,
                "outcome": worst(ruled).value,
                "next_opening": result.next_opening(scope),
                "steps": [
                    {
                        "id": one.step.id,
                        "title": one.step.title,
                        "action": one.step.action.kind,
                        "decision": one.decision.model_dump(mode="json"),
                    }
                    for one in ruled
                ],
            }
            for scope, ruled in result.scopes().items()
        ],
    }


def _as_tree(result: Any, name: str) -> Tree:
    from evals.explain import worst

    title = result.plan.change.title if result.plan is not None else name
    tree = Tree(
        f"[bold]{_text(title)}[/bold] at {result.at:%Y-%m-%d %H:%M %z}, "
        f"policy {result.rules.digest[:12]}",
        highlight=False,
    )
    if result.why_nothing:
        tree.add(f"nothing is changed: {_text(result.why_nothing)}")
    for scope, ruled in result.scopes().items():
        outcome = worst(ruled)
        branch = tree.add(f"[bold]{_text(scope)}[/bold]: {_coloured(outcome)}")
        opens = result.next_opening(scope)
        if opens is not None:
            branch.add(f"[yellow]next opening[/yellow] {_text(opens)}")
        before: tuple[MatchedRule, ...] | None = None
        for one in ruled:
            twig = branch.add(
                f"{_coloured(one.decision.outcome)} {_text(one.step.title)} "
                f"[dim]{one.step.action.kind}, risk {one.decision.risk.value}[/dim]"
            )
            if one.decision.rules == before:
                twig.add("[dim]the same rules as the step before[/dim]")
            else:
                _add_rules(twig, one.decision)
            before = one.decision.rules
    return tree


def _add_rules(twig: Tree, decision: Decision) -> None:
    for rule in decision.rules:
        leaf = twig.add(
            f"[{COLOURS[rule.outcome]}]{MARKS[rule.outcome]}[/] {escape('[' + rule.rule + ']')} "
            f"{_text(rule.reason)}"
        )
        if rule.remedy:
            leaf.add(f"[dim]to pass:[/dim] {_text(rule.remedy)}")
    need = decision.requirement
    if need is not None:
        who = " or ".join((*need.roles, *(f"team {one}" for one in need.teams)))
        twig.add(f"[magenta]needs[/magenta] {need.count} by {_text(who)}")


def _coloured(outcome: Outcome) -> str:
    return f"[{COLOURS[outcome]}]{outcome.value}[/]"


def _text(text: str) -> str:
    """One printable line without markup: titles come from outside."""
    flat = " ".join(text.split())
    return escape("".join(one if one.isprintable() else " " for one in flat))
