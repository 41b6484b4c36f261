"""`fermata policy manifests`: hold Kubernetes manifests to rules and constraints, offline."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from commands.console import AsJson, err, fail, out, settings, show_json
from domain.errors import SourceError, SourceProblem
from nodes.examining import Examiner
from policy.manifests.check import DEFAULTS, check, read_objects
from policy.manifests.constraints import ConstraintSet
from policy.manifests.finding import Finding
from policy.manifests.sarif import sarif_log
from policy.manifests.suite import CaseResult, run_suite
from policy.rules import ManifestRules
from tools.manifest_files import NOT_OBJECTS, decoded, manifest_texts

_PLAIN: Final[dict[str, Any]] = {"markup": False, "highlight": False, "soft_wrap": True}


def manifests(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Manifests: files, folders, or - for stdin.", show_default=False),
    ] = None,
    constraints: Annotated[
        list[Path] | None,
        typer.Option(
            "--constraints",
            help="Folder (or file) of Gatekeeper ConstraintTemplates and Constraints; repeatable.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(help="Policy whose section `manifests` counts; default: FERMATA_POLICY."),
    ] = None,
    builtin: Annotated[
        bool, typer.Option(help="Look at the built-in rules; --no-builtin: at constraints alone.")
    ] = True,
    suite: Annotated[
        list[Path] | None,
        typer.Option("--suite", help="Run a test suite of templates (gator verify); repeatable."),
    ] = None,
    as_json: AsJson = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0.")] = False,
) -> None:
    """Hold Kubernetes manifests to the built-in rules and to Gatekeeper constraints in CEL.

    Takes YAML streams, JSON, what helm and kustomize print: [bold]helm template . | fermata policy
    manifests -[/bold]. All files given are looked at together, so give the NetworkPolicies too.
    Exit 1 when anything is found, 2 when anything cannot be read: what is unknown does not pass.
    """
    if as_json and as_sarif:
        raise fail("--json and --sarif exclude one another", code=2)
    if suite:
        if files or constraints or as_sarif:
            raise fail("--suite takes no files, constraints or --sarif", code=2)
        _suites(suite, as_json)
    if not files:
        raise fail("no files are given", "name files or folders, or - for stdin", 2)
    rules = _rules(policy)
    try:
        examiner = Examiner.of((*rules.texts, *manifest_texts(constraints or [])))
    except SourceError as error:
        raise _unreadable(error.problems) from error
    _notes(examiner.found)
    try:
        objects, problems = read_objects(_given(files))
    except SourceError as error:
        raise _unreadable(error.problems) from error
    report = check(
        rules,
        objects,
        examine=examiner.examine_one if examiner.found.constraints else None,
        only=None if builtin else (),
    )
    examiner.close()
    problems += report.problems
    if problems:
        raise _unreadable(problems)
    if not objects:
        raise fail("there is not one Kubernetes object in what was given", "check the paths", 2)
    _show(report.findings, report.denied, report.objects, as_json, as_sarif)
    raise typer.Exit(1 if report.denied else 0)


def _rules(policy: Path | None) -> ManifestRules:
    """The section of the policy, with its constraints; defaults where there is none."""
    from web.policy_file import read_policy

    path = policy or settings().fermata_policy
    if policy is None and not path.exists():
        return DEFAULTS
    try:
        return read_policy(path).manifests
    except SourceError as error:
        raise _unreadable(error.problems) from error


def _given(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        if name == "-":
            yield "stdin", decoded(sys.stdin.buffer.read(), "stdin")
        else:
            for other in NOT_OBJECTS:
                for one in sorted(Path(name).rglob(other)):
                    err.print(
                        f"[dim]{escape(str(one))} is passed over: build it first[/dim]",
                        soft_wrap=True,
                    )
            yield from manifest_texts([Path(name)])


def _unreadable(problems: Iterable[SourceProblem]) -> typer.Exit:
    for problem in problems:
        typer.echo(str(problem), err=True)
    return typer.Exit(2)


def _notes(found: ConstraintSet) -> None:
    for kind in found.unused:
        err.print(f"[dim]no constraint uses the template of {escape(kind)}[/dim]", soft_wrap=True)
    for title in found.passed_over:
        err.print(f"[dim]{escape(title)} is neither template nor constraint[/dim]", soft_wrap=True)


def _show(
    findings: tuple[Finding, ...],
    denied: tuple[Finding, ...],
    objects: int,
    as_json: bool,
    as_sarif: bool,
) -> None:
    if as_sarif:
        show_json(sarif_log(findings, version("fermata")))
        return
    soft = [one for one in findings if one.weight != "deny"]
    for one in soft:
        place = f"{one.object.document.file}:{one.line}"
        err.print(f"{one.weight}: {place} {one.rule}: {one.message}", **_PLAIN)
    if as_json:
        show_json([one.row() for one in denied])
        return
    for one in denied:
        place = f"{one.object.document.file}:{one.line}"
        head = f"[bold]{escape(place)}[/bold] [red]{escape(one.rule)}[/red]"
        out.print(head, highlight=False, soft_wrap=True)
        where = f"{one.object.title} (document {one.object.document.index}) {one.json_path}"
        for line in (where, one.message, f"fix: {one.fix}"):
            out.print(f"  {line}", **_PLAIN)
    many = "object" if objects == 1 else "objects"
    out.print(
        f"{len(denied)} found in {objects} {many}"
        + (f", {len(soft)} more do not count yet" if soft else ""),
        highlight=False,
    )


def _suites(paths: list[Path], as_json: bool) -> NoReturn:
    """Run suites, and exit: 0 when every case came out as it says."""
    results: list[CaseResult] = []
    for path in paths:
        for one in sorted(path.rglob("suite.yaml")) if path.is_dir() else [path]:

            def read(name: str, base: Path = one.parent) -> tuple[str, str]:
                (found,) = manifest_texts([base / name])
                return found

            try:
                results += run_suite(read(one.name)[1], str(one), read)
            except SourceError as error:
                raise _unreadable(error.problems) from error
    if not results:
        raise fail("there is not one case in what was given", "name a suite.yaml", 2)
    if as_json:
        show_json([vars(one) for one in results])
    else:
        _show_cases(results)
    raise typer.Exit(0 if all(one.status in ("pass", "skipped") for one in results) else 1)


def _show_cases(results: list[CaseResult]) -> None:
    table = Table("suite", "test", "case", "outcome", box=None)
    refused: dict[str, int] = Counter()
    for one in results:
        if one.status == "refused":
            refused[one.detail] += 1
        elif one.status != "pass":
            outcome = f"{one.status}: {one.detail}"
            table.add_row(*(escape(text) for text in (one.suite, one.test, one.case, outcome)))
    if table.row_count:
        out.print(table)
    for detail, count in refused.items():
        out.print(f"refused ({count}): {detail}", **_PLAIN)
    tally = Counter(one.status for one in results)
    out.print(", ".join(f"{count} {status}" for status, count in sorted(tally.items())))
