"""`fermata redact` and `fermata secrets`: take secrets out of text, or find them in files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from commands.console import fail, settings, show_json

if TYPE_CHECKING:
    from domain.secret import SecretHit
    from policy.redaction.engine import Redactor

app = typer.Typer()
secrets_app = typer.Typer(no_args_is_help=True, help="Secrets in files and build artefacts.")
app.add_typer(secrets_app, name="secrets")

PIECE = 1 << 18
MOST_FILE = 64 << 20
"""Bytes of a file above which it is not looked into, and said so."""

Rules = Annotated[
    Path | None,
    typer.Option("--rules", help="Rule file, gitleaks TOML; default: FERMATA_REDACTION_RULES."),
]


@app.command("redact")
def redact(
    scan: Annotated[
        list[Path] | None,
        typer.Argument(help="Only with --scan: files and folders to look into.", metavar="FILES"),
    ] = None,
    scanning: Annotated[
        bool, typer.Option("--scan", help="Find secrets in FILES; print no text, exit 1 for any.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Filter: a report on stderr. With --scan: JSON.")
    ] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="With --scan: SARIF 2.1.0.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Filter: write the report to a file.")
    ] = None,
    rules: Rules = None,
) -> None:
    r"""Copy stdin to stdout with every secret replaced by \[redacted:RULE:FINGERPRINT].

    Works on any bytes, as they come: `kubectl logs -f pod | fermata redact`. The same secret has
    the same fingerprint. Knows some 200 kinds of credentials, also under base64, hex, URL encoding,
    escapes, colours, invisible letters and line breaks. See docs/redaction.md.
    """
    if scanning or sarif:
        _scan(scan or [], rules, as_json=as_json, sarif=sarif)
        return
    if scan:
        raise fail("the filter reads stdin", "add --scan to look into files", 2)
    from policy.redaction.stream import Stream

    stream = Stream(_redactor(rules))
    try:
        _copy(stream, sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:
        # whoever read our output has had enough; there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if as_json or report is not None:
        told = {
            "engine": stream.redactor.engine,
            "bytes_in": stream.taken,
            "bytes_out": stream.given,
            "covered": sum(stream.found.values()),
            "secrets": [
                {"rule": rule, "fingerprint": mark, "count": count}
                for (rule, mark), count in sorted(stream.found.items())
            ],
        }
        if report is not None:
            report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        if as_json:
            typer.echo(json.dumps(told), err=True)


@secrets_app.command("scan")
def secrets_scan(
    files: Annotated[list[Path], typer.Argument(help="Files and folders; - for stdin.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of hits.")] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="SARIF 2.1.0.")] = False,
    rules: Rules = None,
) -> None:
    """Find secrets in files: place, rule and how to rotate, never the secret. Exit 1 for any.

    A line with `gitleaks:allow` in it is let pass.
    """
    _scan(files, rules, as_json=as_json, sarif=sarif)


@secrets_app.command("rules")
def secrets_rules(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    rules: Rules = None,
) -> None:
    """List the rules in force: id, what it finds, and how to take such a secret out of use."""
    found = _redactor(rules).rules.rules
    if as_json:
        show_json([{"id": r.id, "description": r.description, "advice": r.advice} for r in found])
        return
    width = max(len(one.id) for one in found)
    for one in found:
        typer.echo(f"{one.id:<{width}}  {one.description}")


def _redactor(rules: Path | None) -> Redactor:
    from web.redacting import known_secrets, open_redactor

    known = settings()
    return open_redactor(
        rules or known.fermata_redaction_rules,
        known.fermata_data,
        known_secrets(known),
        keep_key=False,
    )


def _copy(stream: Any, source: BinaryIO, sink: BinaryIO) -> None:
    """Piece by piece, as soon as each is there: `read1` does not wait for a whole buffer."""
    read = getattr(source, "read1", source.read)
    while piece := read(PIECE):
        ready = stream.feed(piece)
        if ready:
            sink.write(ready)
            sink.flush()
    sink.write(stream.close())
    sink.flush()


def _scan(paths: list[Path], rules: Path | None, *, as_json: bool, sarif: bool) -> None:
    from policy.redaction.scan import scan_file

    if not paths:
        raise fail("nothing to look into", "name files or folders", 2)
    redactor = _redactor(rules)
    hits: list[SecretHit] = []
    unread: list[str] = []
    for name, content in _contents(paths, unread):
        hits.extend(scan_file(redactor, name, content))
    if sarif:
        show_json(_sarif(redactor, hits))
    elif as_json:
        show_json([one.model_dump() for one in hits])
    else:
        for one in hits:
            typer.echo(f"{one.file}:{one.line}: {one.rule} ({one.fingerprint}). {one.advice}")
    for name in unread:
        typer.echo(f"not looked into: {name}", err=True)
    if not (as_json or sarif):
        summary = f"{len(hits)} secrets found" if hits else "no secrets found"
        typer.echo(f"{summary}{f', {len(unread)} files unread' if unread else ''}", err=True)
    raise typer.Exit(1 if hits or unread else 0)


def _contents(paths: list[Path], unread: list[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file; what cannot be read is added to `unread`."""
    for path in paths:
        if str(path) == "-":
            yield "stdin", sys.stdin.buffer.read()
            continue
        if not path.exists():
            raise fail(f"{path} is not there", code=2)
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if not file.is_file() or ".git" in file.parts:
                continue
            try:
                if file.stat().st_size > MOST_FILE:
                    unread.append(f"{file} (larger than {MOST_FILE >> 20} MB)")
                    continue
                yield str(file), file.read_bytes()
            except OSError as error:
                unread.append(f"{file} ({type(error).__name__})")


def _sarif(redactor: Redactor, hits: list[SecretHit]) -> dict[str, Any]:
    """Static Analysis Results Interchange Format 2.1.0, as code scanning services take it."""
    from policy.redaction.scan import advice_for

    used = sorted({one.rule for one in hits})
    known = redactor.by_id
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "fermata-secrets",
                        "rules": [
                            {
                                "id": rule,
                                "shortDescription": {
                                    "text": known[rule].description if rule in known else rule
                                },
                                "help": {"text": advice_for(redactor, rule)},
                            }
                            for rule in used
                        ],
                    }
                },
                "results": [
                    {
                        "ruleId": one.rule,
                        "level": "error",
                        "message": {"text": f"A secret ({one.rule}). {one.advice}"},
                        "locations": [
                            {
                                "physicalLocation": {
                                    "artifactLocation": {"uri": one.file},
                                    "region": {"startLine": one.line},
                                }
                            }
                        ],
                        "partialFingerprints": {"secret/v1": one.fingerprint},
                    }
                    for one in hits
                ],
            }
        ],
    }
