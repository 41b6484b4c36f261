"""`fermata policy`: check and explain policy. Needs no server and no database."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import AsJson, show_json
from commands.explain import explain
from commands.manifests import manifests
from domain.errors import SourceError

app = typer.Typer()
policy_app = typer.Typer(no_args_is_help=True, help="Check and explain policy.")
app.add_typer(policy_app, name="policy")
policy_app.command("explain")(explain)
policy_app.command("manifests")(manifests)


NO_SAMPLES = (
    "it has no `samples`, so nothing shows that it decides as it is meant to; "
    "see docs/policy.md for how to state cases"
)


@policy_app.command("check")
def policy_check(
    files: Annotated[list[Path], typer.Argument(help="Policy files; - for stdin.")],
    as_json: AsJson = False,
) -> None:
    """Load policy files, the calendars and constraints they name and their samples; name file,
    line, column and a hint for each problem. Exit code 1 when any of them is not good."""
    from nodes.examining import Examiner
    from policy.families.security import ended_exceptions
    from web.policy_file import parse_policy, read_policy

    told: list[dict[str, Any]] = []
    for file in files:
        entry: dict[str, Any] = {"file": str(file), "digest": None, "problems": [], "warnings": []}
        try:
            piped = str(file) == "-"
            rules = parse_policy(sys.stdin.buffer.read(), "-") if piped else read_policy(file)
            Examiner.of(rules.manifests.texts)
        except SourceError as error:
            entry["problems"] = [one.as_dict() for one in error.problems]
            lines = [str(one) for one in error.problems]
        else:
            entry["digest"] = rules.digest
            entry["warnings"] = list(ended_exceptions(rules, datetime.now(UTC)))
            if not rules.samples:
                entry["warnings"].append(NO_SAMPLES)
            lines = [f"{file}: good, digest {rules.digest[:12]}"]
            lines += [f"{file}: warning: {one}" for one in entry["warnings"]]
        told.append(entry)
        if not as_json:
            typer.echo("\n".join(lines))
    if as_json:
        show_json(told)
    raise typer.Exit(1 if any(one["problems"] for one in told) else 0)


@policy_app.command("schema")
def policy_schema() -> None:
    """Print the JSON Schema of policy.yaml, for editors."""
    from policy.schema import policy_schema as schema

    show_json(schema())
