"""`fermata runs`, `approve`, `reject` and `signal`: look at runs and answer them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from commands.console import AsJson, Token, Url, ask, client, coloured, fail, out, show_json
from web.client import Client, run_path

app = typer.Typer()
runs_app = typer.Typer(no_args_is_help=True, help="Look at runs.")
app.add_typer(runs_app, name="runs")


@runs_app.command("list")
def runs_list(
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    service: Annotated[str | None, typer.Option(help="Only runs of this service.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 30,
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    asked = client(url, token)
    told = ask(lambda: asked.get("/api/runs", state=state, service=service, limit=limit))
    if as_json:
        show_json(told)
        return
    if not told["runs"]:
        out.print("No runs yet: fermata event send examples/merged-pull-request.json")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("run", "state", "what", "targets", "why"):
        table.add_column(column, overflow="fold" if column == "why" else "ellipsis")
    for run in told["runs"]:
        table.add_row(
            run["id"][:8],
            coloured(run["state"]),
            escape(run["title"]),
            ", ".join(run["targets"]),
            escape(run["reason"][:120]),
        )
    out.print(table)


@runs_app.command("show")
def runs_show(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Show one run: plan, decisions, approvals, effects, verdicts, and both versions' rates."""
    from web.terminal import render_run
    from web.terminal_plots import render_windows

    asked = client(url, token)
    told = ask(lambda: asked.get(run_path(run)))
    if as_json:
        show_json(told)
        return
    render_run(told, out)
    render_windows(told, ask(lambda: asked.get(f"/api/runs/{told['id']}/windows"))["steps"], out)


@runs_app.command("trace")
def runs_trace(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List what happened in a run, in order of time: nodes, decisions, effects, verdicts."""
    from web.terminal import trace_lines

    told = ask(lambda: client(url, token).get(run_path(run)))
    lines = trace_lines(told)
    if as_json:
        show_json([{"at": at, "kind": kind, "what": what} for at, kind, what in lines])
        return
    for at, kind, what in lines:
        out.print(f"[dim]{at}[/dim] {kind:<9} {escape(what)}", highlight=False)


@app.command()
def approve(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why.")] = "",
    url: Url = None,
    token: Token = None,
) -> None:
    """Say yes to what a run asks. The vote is bound to the digest of exactly that."""
    _vote(run, "approve", comment, client(url, token))


@app.command()
def reject(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    comment: Annotated[str, typer.Option("--comment", "-m", help="Why.")] = "",
    url: Url = None,
    token: Token = None,
) -> None:
    """Say no to what a run asks; what has begun goes back."""
    _vote(run, "reject", comment, client(url, token))


def _vote(run: str, decision: str, comment: str, asked: Client) -> None:
    told = ask(lambda: asked.get(run_path(run)))
    pending = [one for one in told["approvals"] if one["state"] == "pending"]
    if not pending:
        raise fail(
            f"run {run} asks nothing at the moment; it is {told['state']}",
            "fermata runs list --state needs_approval",
        )
    request = pending[-1]
    out.print(escape(request["question"]))
    answer = ask(
        lambda: asked.post(
            f"/api/approvals/{request['id']}",
            {"decision": decision, "digest": request["digest"], "comment": comment},
        )
    )
    out.print(f"{decision} recorded; the request is now [bold]{answer['state']}[/bold]")


@app.command()
def signal(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    kind: Annotated[str, typer.Argument(help="hold, resume, cancel, retry or override.")],
    reason: Annotated[str, typer.Option("--reason", "-m", help="Why.")] = "",
    url: Url = None,
    token: Token = None,
) -> None:
    """Hold, resume, cancel, retry or override a run."""
    answer = ask(
        lambda: client(url, token).post(
            f"{run_path(run)}/signals", {"kind": kind, "reason": reason}
        )
    )
    out.print(f"{kind} sent" + (f"; run {answer['run_id']}" if answer.get("run_id") else ""))
