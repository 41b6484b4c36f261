"""`fermata event`: send events to a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from commands.console import (
    AsJson,
    Token,
    Url,
    ask,
    client,
    fail,
    out,
    read_file,
    settings,
    show_json,
)

app = typer.Typer()
event_app = typer.Typer(no_args_is_help=True, help="Send events to a server.")
app.add_typer(event_app, name="event")


@event_app.command("send")
def event_send(
    file: Annotated[Path, typer.Argument(help="JSON file, or - for stdin.")],
    kind: Annotated[
        str | None,
        typer.Option("--github", help="Send as this GitHub event (pull_request, push, ...)."),
    ] = None,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Send an event: a GitHub webhook body (signed with GITHUB_WEBHOOK_SECRET), a CloudEvent, or
    Fermata's plain form. Which one it is shows in the body itself."""
    body = read_file(file).encode()
    try:
        data = json.loads(body)
    except ValueError as error:
        raise fail(f"{file} is not JSON: {error}", code=2) from error
    if not isinstance(data, dict):
        raise fail(f"{file} holds {type(data).__name__}, not an object", code=2)
    sender = client(url, token)
    github = kind or github_kind(data)
    if github is not None:
        secrets = settings().github_webhook_secret
        if not secrets:
            raise fail(
                "this is a GitHub webhook body, and there is no key to sign it with",
                "set GITHUB_WEBHOOK_SECRET to what the server has",
                2,
            )
        answer = ask(
            lambda: sender.post_github(github, body, secrets[0].get_secret_value().encode())
        )
    else:
        content = "application/cloudevents+json" if "specversion" in data else "application/json"
        answer = ask(lambda: sender.post_raw("/event", body, {"Content-Type": content}))
    if as_json:
        show_json(answer)
        return
    out.print(f"{answer['status']}: event {answer['event_id']}", highlight=False)
    if answer.get("run_id"):
        out.print(f"run {answer['run_id']}  {sender.base_url}/runs/{answer['run_id']}")
    if answer.get("reason"):
        out.print(escape(answer["reason"]))


def github_kind(data: dict[str, Any]) -> str | None:
    """Which GitHub event a body is, told by its keys; None when it is none."""
    if "repository" not in data:
        return None
    for key, kind in (
        ("comment", "issue_comment"),
        ("pull_request", "pull_request"),
        ("check_run", "check_run"),
        ("check_suite", "check_suite"),
        ("workflow_run", "workflow_run"),
        ("commits", "push"),
    ):
        if key in data:
            return kind
    return None
