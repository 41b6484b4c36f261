"""`fermata policy`: check and explain policy. Needs no server and no database."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.console import read_file, show_json
from commands.manifests import manifests
from domain.errors import SourceError

app = typer.Typer()
policy_app = typer.Typer(no_args_is_help=True, help="Check and explain policy.")
app.add_typer(policy_app, name="policy")
policy_app.command("manifests")(manifests)


@policy_app.command("check")
def policy_check(
    files: Annotated[list[Path], typer.Argument(help="Policy files.")],
) -> None:
    """Load policy files and their samples; name file, line, column and a hint for each problem."""
    from policy.manifests.check import read_constraints
    from policy.rules import load_policy
    from tools.manifest_files import manifest_texts

    broken = False
    for file in files:
        try:
            rules = load_policy(read_file(file), str(file))
            folders = [file.parent / one for one in rules.manifests.constraints]
            read_constraints(manifest_texts(folders))
        except SourceError as error:
            broken = True
            for problem in error.problems:
                typer.echo(str(problem))
        else:
            typer.echo(f"{file}: good, digest {rules.digest[:12]}")
    raise typer.Exit(1 if broken else 0)


@policy_app.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of policy.yaml, for editors."""
    from policy.schema import policy_schema as schema

    show_json(schema())
