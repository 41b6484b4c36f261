"""`fermata comments`: the grammar of slash commands, as a filter."""

from __future__ import annotations

import sys

import typer

from commands.console import show_json

app = typer.Typer()
comments_app = typer.Typer(no_args_is_help=True, help="Slash commands in comments.")
app.add_typer(comments_app, name="comments")


@comments_app.command("parse")
def comments_parse() -> None:
    """Read a comment on stdin; print the commands found in it as JSON."""
    from web.comments import as_json, parse_comment

    show_json(as_json(parse_comment(sys.stdin.read())))
