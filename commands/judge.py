"""`fermata judge`: the canary judge, on recorded windows or on a past release in Prometheus."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.console import AsJson, fail, out, read_file, settings
from domain.errors import SourceError
from domain.yaml_source import load

app = typer.Typer()

EPILOG = (
    "FILE is a JSON object, one a line (.jsonl), or CSV with the columns start, seconds, metric, "
    "kind, stable_bad, stable_total, canary_bad, canary_total and, for several cases, id. "
    "Examples: [bold]fermata judge windows.json[/bold]; [bold]fermata judge cases.jsonl "
    "--json[/bold]; [bold]fermata judge --prometheus http://localhost:9090 --service checkout "
    "--version 1.4.0 --baseline 1.3.2 --from 2026-03-04T10:00Z --to 2026-03-04T10:30Z[/bold]. "
    "Exit codes: 0 nothing failed (always with --json), 1 a version failed, 2 input that cannot "
    "be read. docs/judge.md says how it judges."
)


@app.command(epilog=EPILOG)
def judge(
    file: Annotated[
        Path | None, typer.Argument(help="Windows of counts; - for stdin.", show_default=False)
    ] = None,
    as_json: AsJson = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="YAML or JSON: objectives (metric: share of good events), weight (percent), "
            "alpha, tolerance, warmup, …; a case's own config goes before it.",
        ),
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(help="Judge a past release on this Prometheus instead.")
    ] = None,
    service: Annotated[str | None, typer.Option(help="Service in services.yaml.")] = None,
    environment: Annotated[
        str | None, typer.Option(help="Its environment; default: the last one.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Version to judge.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Version to compare with; without: only the SLO counts.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="Beginning of the check.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Its end.")] = None,
    interval: Annotated[
        float | None, typer.Option(help="Seconds of a window; default: the environment's.")
    ] = None,
) -> None:
    """Judge counts of two versions as the canary check would, window by window, and say why."""
    from evals.judging import as_json as plain
    from evals.judging import judge_case
    from evals.judging_input import read_cases

    base = _config(config)
    if prometheus is not None:
        if file is not None:
            raise fail("both a file and --prometheus", "leave one of them out", 2)
        cases = iter([_past(prometheus, service, environment, version, baseline, since, until,
                            interval, base)])  # fmt: skip
    elif file is None:
        raise fail("nothing to judge", "fermata judge FILE, or --prometheus URL", 2)
    else:
        cases = read_cases(read_file(file), str(file), base)
    failed = False
    for case in cases:
        judged = judge_case(case, tracked=not as_json)
        failed = failed or judged.verdict.kind.value == "fail"
        if as_json:
            typer.echo(json.dumps(plain(judged), ensure_ascii=False, allow_nan=False))
        else:
            from web.terminal_judge import render_judged

            render_judged(
                case.id, case.windows, judged.verdict, judged.decided_at, judged.tracks, out
            )
    raise typer.Exit(1 if failed and not as_json else 0)


def _config(path: Path | None) -> dict[str, Any]:
    """Settings for all cases; JSON is YAML, too."""
    if path is None:
        return {}
    from evals.judging_input import read_options

    found = load(read_file(path), str(path)).data
    if not isinstance(found, dict):
        raise fail(f"{path}: settings are names with values", "such as `weight: 10`", 2)
    read_options(found, str(path))
    return found


def _past(
    url: str,
    service: str | None,
    environment: str | None,
    version: str | None,
    baseline: str | None,
    since: str | None,
    until: str | None,
    interval: float | None,
    base: dict[str, Any],
) -> Any:
    from evals.judging_past import PastRelease, read_past
    from tools.catalogue import load_catalogue

    lacking = [
        name
        for name, value in (
            ("--service", service), ("--version", version), ("--from", since), ("--to", until)
        )
        if value is None
    ]  # fmt: skip
    if lacking or service is None or version is None or since is None or until is None:
        raise fail(f"--prometheus needs {', '.join(lacking)} as well", "fermata judge --help", 2)
    path = settings().fermata_services
    release = PastRelease(
        catalogue=load_catalogue(read_file(path), str(path)),
        service=service,
        environment=environment,
        version=version,
        baseline=baseline,
        since=_moment(since, "--from"),
        until=_moment(until, "--to"),
        interval=interval,
    )
    try:
        return read_past(url, release, base, settings().prometheus_token)
    except SourceError:
        raise
    except ValueError as error:
        raise fail(str(error), "fermata judge --help", 2) from error


def _moment(text: str, option: str) -> datetime:
    """A time as a person writes it: ISO 8601, seconds since 1970, or a minus and seconds ago."""
    try:
        if text.startswith("-"):
            return datetime.now(UTC) + timedelta(seconds=float(text))
        if text.replace(".", "", 1).isdigit() and len(text) > 8:
            return datetime.fromtimestamp(float(text), UTC)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        hint = "such as 2026-03-04T10:00Z, or seconds since 1970"
        raise fail(f"{option} {text} is no time", hint, 2) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
