"""`fermata judge`: the canary judge, as a filter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from commands.console import AsJson, out, read_file

app = typer.Typer()


@app.command()
def judge(
    file: Annotated[
        Path, typer.Argument(help="JSON object, or .jsonl with one a line; - for stdin.")
    ],
    as_json: AsJson = False,
) -> None:
    """Judge windows of counts as the canary check would, window by window, and say why."""
    from evals.judging import judge_lines

    worst = 0
    for found in judge_lines(read_file(file), str(file)):
        if as_json:
            typer.echo(json.dumps(found, ensure_ascii=False))
        else:
            out.print(f"{found['id']}: [bold]{found['verdict']}[/bold] {escape(found['reason'])}")
        worst = max(worst, int(found["verdict"] == "fail"))
    raise typer.Exit(0 if as_json else worst)
