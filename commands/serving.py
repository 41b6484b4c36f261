"""`fermata serve`, `worker`, `demo` and `db`: what starts something."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import fail, out, settings
from domain.errors import Permanent, SourceError

app = typer.Typer()
db_app = typer.Typer(no_args_is_help=True, help="The database.")
app.add_typer(db_app, name="db")


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8321,
    workers: Annotated[int, typer.Option(help="Runs advanced at once; 0: only the web.")] = 20,
    processes: Annotated[
        int,
        typer.Option(
            min=1, help="Processes that serve; from 2 on they do nothing else, beside this one."
        ),
    ] = 1,
) -> None:
    """Serve webhooks, API and pages, and advance runs in the same process.

    With no backends set, everything outside is simulated, and the banner says so. On any address
    but loopback, tokens (FERMATA_TOKENS) are required.
    """
    from web.crew import counted_together

    with counted_together() if processes > 1 else contextlib.nullcontext():
        import server

        _serving(lambda: server.serve(settings(), host, port, workers, processes))


@app.command()
def worker(
    workers: Annotated[int, typer.Option(help="Runs advanced at once.")] = 20,
) -> None:
    """Advance runs, beside a `serve` on the same database. SIGTERM drains, SIGKILL is survived."""
    import server

    _serving(lambda: server.work(settings(), workers))


@app.command()
def demo(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the pages; 0: any free one.")
    ] = 8321,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--no-keep", help="Go on serving afterwards; default: on a terminal."),
    ] = None,
) -> None:
    """Play three releases on the simulated world: good, rolled back, denied. No cloud, no key."""
    from evals import demo as play

    stay = keep if keep is not None else sys.stdin.isatty() and sys.stdout.isatty()
    _serving(lambda: play.main(settings(), port, stay))


def _serving(make: Any) -> None:
    from web.serving import loop_factory

    _data_folder(settings().fermata_data)
    try:
        with _wrong_database_told(), asyncio.Runner(loop_factory=loop_factory()) as runner:
            code = runner.run(make())
    except typer.Exit:
        # a RuntimeError, too, but one that has been told already
        raise
    except Permanent as error:
        raise fail(str(error), error.remedy, 2) from error
    except SourceError as error:
        raise fail(str(error), code=2) from error
    except RuntimeError as error:
        # Port taken, no tokens, no world, no embedded database: each says what to do.
        raise fail(str(error)) from error
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


def _data_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        why = "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written to"
    except OSError as error:
        why = error.strerror or type(error).__name__
    if why:
        hint = "set FERMATA_DATA to a folder that can be written to"
        raise fail(f"the data folder {folder} cannot be used: {why}", hint, 2)


@contextlib.contextmanager
def _wrong_database_told() -> Iterator[None]:
    """A database that does not answer is a sentence; the log above it holds PostgreSQL's own."""
    import psycopg

    from store.database import WrongUrl

    try:
        yield
    except WrongUrl as error:
        raise fail(str(error), code=2) from error
    except psycopg.OperationalError as error:
        raise fail(f"the database does not answer: {error}", "check DATABASE_URL", 2) from error


@db_app.command("migrate")
def db_migrate() -> None:
    """Bring the database to the current schema (`serve` and `worker` do it on start as well)."""
    import server

    _data_folder(settings().fermata_data)
    with _wrong_database_told():
        applied = asyncio.run(server.migrate_only(settings()))
    out.print("\n".join(applied) if applied else "the schema is current")
