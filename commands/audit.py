"""`fermata audit`: give the audit record out, and prove it, with or without the database."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Annotated, Any
from uuid import UUID

import psycopg
import typer
from rich.markup import escape

from commands.console import AsJson, err, fail, out, settings, show_json
from policy.proof.proving import Proof, Prover
from store.audit import AuditLog
from store.database import Database
from store.queries import Queries
from store.roles import standing

app = typer.Typer()
audit_app = typer.Typer(
    no_args_is_help=True,
    help="The audit record: what was taken in, decided, approved, overridden and done, in one "
    "chain of hashes.",
)
app.add_typer(audit_app, name="audit")

MOST_IN_A_LINE = 16 * 1024 * 1024
SHOWN_GAPS = 20
_AGO = re.compile(r"(\d+)\s*([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_ANCHOR = re.compile(r"(\d{1,18}):([0-9a-fA-F]{8,64})")


@audit_app.command("export")
def audit_export(
    since: Annotated[
        str | None,
        typer.Option(help="Only from then on: 2026-03-01, 2026-03-01T12:00Z, or 36h, 7d ago."),
    ] = None,
    run: Annotated[
        str | None, typer.Option(help="Only this run: its id, or the beginning.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", "-o", help="File to write; default: stdout.")
    ] = None,
) -> None:
    """Write the record as JSON lines: a header, then one row a line.

    A selection brings along what its rows rest on, and of all others their digests, so that it can
    be proven as well. Keep the head that is printed at the end somewhere else: `audit verify
    --head` proves later that nothing before it was rewritten.
    """
    moment = _moment(since) if since is not None else None
    if to is None:
        _run(_export(sys.stdout.buffer, moment, run))
        return
    try:
        with to.open("wb") as file:
            _run(_export(file, moment, run))
    except OSError as error:
        raise fail(f"{to} cannot be written: {error}", code=2) from error


@audit_app.command("verify")
def audit_verify(
    file: Annotated[
        Path | None,
        typer.Argument(help="A dump, or - for stdin; default: the database itself."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="SEQ:HASH that was seen before; the chain has to go through it."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove that the record is whole and that the laws held, or name the first row that is broken.

    A dump is proven offline. Without one, the database of DATABASE_URL or FERMATA_DATA is proven,
    also while `serve` runs, and its tables are compared with the record. Exit 1: something does not
    hold.
    """
    anchors = dict(_anchor(one) for one in head or ())
    if file is not None:
        proof, more = _prove_file(file, anchors), {"source": str(file)}
    else:
        proof, more = _run(_prove_database(anchors))
    told = _told(proof, more)
    if as_json:
        show_json(told)
    else:
        _show(told)
    raise typer.Exit(0 if told["holds"] else 1)


async def _export(file: IO[bytes], since: datetime | None, run: str | None) -> None:
    async with _record() as database:
        log = AuditLog(database)
        run_id = await _run_id(database, run) if run is not None else None
        await log.link()
        count = -1
        async with log.reading() as reading:
            async for line in reading.lines(since=since, run_id=run_id):
                file.write(line)
                count += 1
        file.flush()
        newest = await log.head()
        if newest is not None:
            err.print(
                f"{count:,} lines after the header; the record's head: {newest.seq}:{newest.hash}",
                highlight=False,
                soft_wrap=True,
            )


async def _run_id(database: Database, prefix: str) -> UUID:
    found = await Queries(database).find_run(prefix)
    if len(found) != 1:
        what = "no run" if not found else "more than one run"
        raise fail(f"{what} begins with {prefix}", "fermata runs list", 2)
    return found[0].id


def _prove_file(path: Path, anchors: dict[int, str]) -> Proof:
    prover = Prover(anchors)
    try:
        if str(path) == "-":
            _feed(prover, sys.stdin.buffer)
        else:
            with path.open("rb") as file:
                _feed(prover, file)
    except OSError as error:
        raise fail(f"{path} cannot be read: {error}", code=2) from error
    return prover.finish()


def _feed(prover: Prover, file: IO[bytes]) -> None:
    for line in _lines(file):
        if not prover.feed(line):
            return


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines, none longer than may be: the rest of an endless one counts as another line."""
    while line := file.readline(MOST_IN_A_LINE):
        yield line


async def _prove_database(anchors: dict[int, str]) -> tuple[Proof, dict[str, Any]]:
    async with _record() as database:
        try:
            await AuditLog(database).link()
        except psycopg.errors.Error as error:
            # A role or a server that only reads: what is linked can be proven all the same.
            err.print(f"rows that wait were not linked: {escape(str(error).splitlines()[0])}")
        return await prove_database(database, anchors)


async def prove_database(
    database: Database, anchors: Mapping[int, str]
) -> tuple[Proof, dict[str, Any]]:
    """What a database's record proves, and how it compares with the tables."""
    prover = Prover(anchors)
    async with AuditLog(database).reading() as reading:
        async for line in reading.lines():
            if not prover.feed(line):
                break
        proof = prover.finish()
        waiting = await reading.waiting()
        mirror = prover.laws.mirror
        for row in waiting:
            mirror.note(row["kind"], row["data"])
        gaps: list[str] = []
        gone = 0
        if proof.holds:
            gaps, gone = mirror.gaps([one async for one in reading.tables()])
    guard = await standing(database)
    return proof, {
        "source": "database",
        "waiting": len(waiting),
        "gaps": gaps,
        "gone": gone,
        "guard": {"state": guard.guard, "detail": guard.detail},
    }


@asynccontextmanager
async def _record() -> AsyncIterator[Database]:
    import server

    try:
        async with server.open_record(settings()) as database:
            yield database
    except server.NoRecord as error:
        raise fail(str(error), code=2) from error


def _run(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except (psycopg.OperationalError, ValueError) as error:
        raise fail(f"the database does not answer: {error}", "check DATABASE_URL", 2) from error
    except typer.Exit:
        # a RuntimeError, too, but one that has been told already
        raise
    except RuntimeError as error:
        raise fail(str(error), code=2) from error


def _told(proof: Proof, more: dict[str, Any]) -> dict[str, Any]:
    broken = proof.broken
    return {
        "holds": proof.holds and not more.get("gaps"),
        "rows": proof.rows,
        "left_out": proof.omitted,
        "head": {"seq": proof.last, "hash": proof.head},
        "kinds": dict(proof.kinds),
        "selection": proof.header.get("selection"),
        "broken": None
        if broken is None
        else {
            "line": broken.line,
            "seq": broken.seq,
            "kind": broken.kind or None,
            "what": broken.what,
            "said": str(broken),
        },
        **more,
    }


def _show(told: dict[str, Any]) -> None:
    def say(text: str) -> None:
        out.print(text, highlight=False, soft_wrap=True)

    kinds = ", ".join(f"{count:,} {kind}" for kind, count in told["kinds"].items())
    if told["broken"] is not None:
        say(f"[red]broken[/red] {escape(told['broken']['said'])}")
        say(f"[dim]{told['rows']:,} rows before it hold[/dim]")
        return
    if told.get("gaps"):
        for gap in told["gaps"][:SHOWN_GAPS]:
            say(f"[red]broken[/red] {escape(gap)}")
        say(f"[dim]{len(told['gaps']):,} places; the chain itself holds[/dim]")
        return
    say(f"[green]holds[/green] {told['rows']:,} rows: {kinds or 'none yet'}")
    if told["left_out"]:
        say(f"  {told['left_out']:,} rows are left out; the chain goes through them")
    say(f"  head {told['head']['seq']}:{told['head']['hash']}")
    if told["source"] == "database":
        say(
            f"  every row of the tables is on record; {told['waiting']:,} wait to be linked, "
            f"{told['gone']:,} are on record only"
        )


def _moment(text: str) -> datetime:
    if found := _AGO.fullmatch(text.strip()):
        return datetime.now(UTC) - timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise fail(
            f"{text} is no time", "write 2026-03-01, 2026-03-01T12:00Z, 36h or 7d", 2
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _anchor(text: str) -> tuple[int, str]:
    found = _ANCHOR.fullmatch(text.strip())
    if found is None:
        raise fail(f"{text} is no head", "write SEQ:HASH, as export and verify print it", 2)
    return int(found[1]), found[2].lower()
