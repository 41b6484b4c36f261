"""`fermata`: the command line. Exit codes: 0 done, 1 a check failed or was refused, 2 bad input."""

from __future__ import annotations

import sys

import typer

from commands import audit, comments, events, judge, policy, redact, runs, serving
from domain.errors import SourceError

app = typer.Typer(
    name="fermata",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Event-driven, agentic DevOps on one state graph. Begin with [bold]fermata demo[/bold], "
    "or with [bold]fermata serve[/bold] and [bold]fermata event send FILE[/bold].",
)
for group in (serving, events, runs, policy, comments, audit, judge, redact):
    app.add_typer(group.app)


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except SourceError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
