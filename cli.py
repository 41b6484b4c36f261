"""`fermata`: the command line. Exit codes: 0 done, 1 a check failed or was refused, 2 bad input."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from domain.errors import SourceError
from settings import Settings
from web.client import ApiRefused, Client, local_token

app = typer.Typer(
    name="fermata",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Event-driven, agentic DevOps on one state graph. Begin with [bold]fermata demo[/bold], "
    "or with [bold]fermata serve[/bold] and [bold]fermata event send FILE[/bold].",
)
event_app = typer.Typer(no_args_is_help=True, help="Send events to a server.")
runs_app = typer.Typer(no_args_is_help=True, help="Look at runs.")
policy_app = typer.Typer(no_args_is_help=True, help="Check and explain policy.")
comments_app = typer.Typer(no_args_is_help=True, help="Slash commands in comments.")
db_app = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(event_app, name="event")
app.add_typer(runs_app, name="runs")
app.add_typer(policy_app, name="policy")
app.add_typer(comments_app, name="comments")
app.add_typer(db_app, name="db")

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


# --- run it ---


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8321,
    workers: Annotated[int, typer.Option(help="Runs advanced at once; 0: only the web.")] = 20,
) -> None:
    """Serve webhooks, API and pages, and advance runs in the same process.

    With no backends set, everything outside is simulated, and the banner says so. On any address
    but loopback, tokens (FERMATA_TOKENS) are required.
    """
    import server

    _serving(lambda: server.serve(settings(), host, port, workers))


@app.command()
def worker(
    workers: Annotated[int, typer.Option(help="Runs advanced at once.")] = 20,
) -> None:
    """Advance runs, beside a `serve` on the same database. SIGTERM drains, SIGKILL is survived."""
    import server

    _serving(lambda: server.work(settings(), workers))


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="Port of the pages; 0: any free one.")] = 8321,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Go on serving afterwards; default: on a terminal."),
    ] = None,
) -> None:
    """Play three releases on the simulated world: good, rolled back, denied. No cloud, no key."""
    from evals import demo as play

    stay = keep if keep is not None else sys.stdin.isatty() and sys.stdout.isatty()
    _serving(lambda: play.main(settings(), port, stay))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop, where there is one."""
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _serving(make: Any) -> None:
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            code = runner.run(make())
    except SourceError as error:
        raise fail(str(error), code=2) from error
    except RuntimeError as error:
        # Port taken, no tokens, no world, no database: each says what to do.
        raise fail(str(error)) from error
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


# --- events and runs ---


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
    github = kind or _github_kind(data)
    if github is not None:
        secrets = settings().github_webhook_secret
        if not secrets:
            raise fail(
                "this is a GitHub webhook body, and there is no key to sign it with",
                "set GITHUB_WEBHOOK_SECRET to what the server has",
                2,
            )
        answer = _ask(
            lambda: sender.post_github(github, body, secrets[0].get_secret_value().encode())
        )
    else:
        content = "application/cloudevents+json" if "specversion" in data else "application/json"
        answer = _ask(lambda: sender.post_raw("/event", body, {"Content-Type": content}))
    if as_json:
        show_json(answer)
        return
    out.print(f"{answer['status']}: event {answer['event_id']}", highlight=False)
    if answer.get("run_id"):
        out.print(f"run {answer['run_id']}  {sender.base_url}/runs/{answer['run_id']}")
    if answer.get("reason"):
        out.print(escape(answer["reason"]))


def _github_kind(data: dict[str, Any]) -> str | None:
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


def _ask(call: Any) -> Any:
    """Call the server; exit 1 with its sentence and hint when it says no."""
    try:
        return call()
    except ApiRefused as error:
        raise fail(str(error), error.hint) from error


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
    told = _ask(lambda: asked.get("/api/runs", state=state, service=service, limit=limit))
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
    """Show one run: plan, decisions, approvals, effects and verdicts."""
    from web.terminal import render_run

    told = _ask(lambda: client(url, token).get(f"/api/runs/{run}"))
    if as_json:
        show_json(told)
    else:
        render_run(told, out)


@runs_app.command("trace")
def runs_trace(
    run: Annotated[str, typer.Argument(help="Run id, or its beginning.")],
    url: Url = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List what happened in a run, in order of time: nodes, decisions, effects, verdicts."""
    from web.terminal import trace_lines

    told = _ask(lambda: client(url, token).get(f"/api/runs/{run}"))
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
    told = _ask(lambda: asked.get(f"/api/runs/{run}"))
    pending = [one for one in told["approvals"] if one["state"] == "pending"]
    if not pending:
        raise fail(
            f"run {run} asks nothing at the moment; it is {told['state']}",
            "fermata runs list --state needs_approval",
        )
    request = pending[-1]
    out.print(escape(request["question"]))
    answer = _ask(
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
    answer = _ask(
        lambda: client(url, token).post(
            f"/api/runs/{run}/signals", {"kind": kind, "reason": reason}
        )
    )
    out.print(f"{kind} sent" + (f"; run {answer['run_id']}" if answer.get("run_id") else ""))


# --- files and filters ---


@policy_app.command("check")
def policy_check(
    files: Annotated[list[Path], typer.Argument(help="Policy files.")],
) -> None:
    """Load policy files and their samples; name file, line, column and a hint for each problem."""
    from policy.rules import load_policy

    broken = False
    for file in files:
        try:
            rules = load_policy(read_file(file), str(file))
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


@comments_app.command("parse")
def comments_parse() -> None:
    """Read a comment on stdin; print the commands found in it as JSON."""
    from web.comments import as_json, parse_comment

    show_json(as_json(parse_comment(sys.stdin.read())))


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


@db_app.command("migrate")
def db_migrate() -> None:
    """Bring the database to the current schema (`serve` and `worker` do it on start as well)."""
    import server

    applied = asyncio.run(server.migrate_only(settings()))
    out.print("\n".join(applied) if applied else "the schema is current")


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
