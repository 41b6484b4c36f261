"""What the commands share: the two consoles, options, settings, the client, errors that teach."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from settings import Settings
from web.client import ApiRefused, Client, local_token

out = Console()
err = Console(stderr=True)

Url = Annotated[
    str | None,
    typer.Option("--url", help="Server; default: FERMATA_URL or http://127.0.0.1:8321."),
]
Token = Annotated[
    str | None,
    typer.Option("--token", help="API token; default: FERMATA_TOKEN or the local admin token."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
STATE_COLOURS = {
    "succeeded": "green",
    "running": "cyan",
    "queued": "cyan",
    "waiting": "yellow",
    "needs_approval": "magenta",
    "denied": "red",
    "failed": "red",
    "rolled_back": "red",
}


def fail(message: str, hint: str = "", code: int = 1) -> typer.Exit:
    """Say on stderr what went wrong and what to do; the caller raises what this returns."""
    err.print(f"[red]error:[/red] {escape(message)}")
    if hint:
        err.print(f"[dim]hint: {escape(hint)}[/dim]")
    return typer.Exit(code)


def settings() -> Settings:
    """The settings, or exit 2 with the names of those that are wrong."""
    try:
        return Settings()
    except ValueError as error:
        raise fail(f"the settings are not right: {error}", "see docs/settings.md", 2) from error


def client(url: str | None, token: str | None) -> Client:
    """A client with the given token, or the one the first start left in the data folder."""
    known = settings()
    given = token or (known.fermata_token.get_secret_value() if known.fermata_token else None)
    base = (url or known.fermata_url or "http://127.0.0.1:8321").rstrip("/")
    return Client(base, given or local_token(known.fermata_data))


def show_json(value: Any) -> None:
    """Print JSON without colours or wrapping, for pipes."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def coloured(state: str) -> str:
    """A run state in its colour."""
    colour = STATE_COLOURS.get(state, "white")
    return f"[{colour}]{state}[/{colour}]"


def read_file(path: Path) -> str:
    """A file's text, or stdin for `-`; exit 2 when it cannot be read."""
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"{path} cannot be read: {error}", code=2) from error


def ask(call: Any) -> Any:
    """Call the server; exit 1 with its sentence and hint when it says no."""
    try:
        return call()
    except ApiRefused as error:
        raise fail(str(error), error.hint) from error
