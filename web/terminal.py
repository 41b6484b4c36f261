"""A run for the terminal, from the API's JSON: what `fermata runs show` and `runs trace` print."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

MARKS = {
    "applied": "[green]✓[/green]",
    "refused": "[red]✗[/red]",
    "unknown": "[yellow]?[/yellow]",
    "started": "[cyan]…[/cyan]",
}


def render_run(run: dict[str, Any], out: Console) -> None:
    """Print one run: header, plan, what was decided and done, verdicts, open questions."""
    out.print(f"[bold]{escape(run['title'])}[/bold]  {run['id']}")
    out.print(f"[bold]{run['state']}[/bold]  {escape(run['reason'])}")
    _plan(run, out)
    _verdicts("verdicts", run.get("verdicts", ()), out)
    _verdicts("share of the traffic", run.get("shares", ()), out)
    _effects(run, out)
    for request in run.get("approvals", ()):
        votes = ", ".join(f"{v['principal']} {v['decision']}" for v in request["votes"])
        out.print(
            f"approval [bold]{request['state']}[/bold]: {escape(request['question'])}"
            + (f" ({escape(votes)})" if votes else f" digest {request['digest'][:12]}")
        )


def _plan(run: dict[str, Any], out: Console) -> None:
    plan = run.get("plan")
    if not plan:
        return
    effects = {effect["step_id"]: effect["state"] for effect in run.get("effects", ())}
    verdicts = {one["step_id"]: one["verdict"]["kind"] for one in run.get("verdicts", ())}
    stage = None
    for step in plan["steps"]:
        if step["stage"] != stage:
            stage = step["stage"]
            out.print(f"[dim]{escape(stage)}[/dim]")
        done = effects.get(step["id"])
        mark = MARKS.get(done, " ") if done else " "
        verdict = verdicts.get(step["id"])
        out.print(
            f" {mark} {escape(step['title'])}" + (f"  [dim]{verdict}[/dim]" if verdict else "")
        )
    for note in plan.get("notes", ()):
        out.print(f"[dim]note: {escape(note)}[/dim]")


def _verdicts(title: str, rows: Iterable[dict[str, Any]], out: Console) -> None:
    last: dict[str, dict[str, Any]] = {one["step_id"]: one for one in rows}
    if not last:
        return
    table = Table(box=None, title=title, title_justify="left")
    for column in ("step", "verdict", "why"):
        table.add_column(column, overflow="fold")
    for step_id, one in last.items():
        table.add_row(step_id, one["verdict"]["kind"], escape(one["verdict"]["reason"]))
    out.print(table)


def _effects(run: dict[str, Any], out: Console) -> None:
    if not run.get("effects"):
        return
    table = Table(box=None, title="effects", title_justify="left")
    for column in ("step", "action", "state", "decision", "what"):
        table.add_column(column, overflow="fold")
    for effect in run["effects"]:
        result = effect.get("result") or {}
        what = result.get("summary") or effect.get("error") or ""
        if result.get("simulated"):
            what += " (simulated)"
        table.add_row(
            effect["step_id"],
            effect["action_kind"],
            effect["state"],
            str(effect["decision_id"])[:8],
            escape(what),
        )
    out.print(table)


def trace_lines(run: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(time, kind, sentence) of everything that happened, in order of time."""
    lines: list[tuple[str, str, str]] = []
    for one in run.get("path", ()):
        name, at = (one["node"], one["at"]) if isinstance(one, dict) else (one[0], one[1])
        lines.append((at, "node", name))
    for one in run.get("decisions", ()):
        decision = one["decision"]
        for rule in decision["rules"]:
            lines.append(
                (
                    one["at"],
                    "decision",
                    f"{one['step_id']}: {rule['outcome']} {rule['rule']}: {rule['reason']}",
                )
            )
    for one in run.get("effects", ()):
        result = one.get("result") or {}
        said = result.get("summary") or one.get("error") or ""
        lines.append(
            (
                one.get("finished_at") or one["started_at"],
                "effect",
                f"{one['step_id']}: {one['state']} {said}",
            )
        )
    for one in run.get("verdicts", ()):
        lines.append(
            (
                one["at"],
                "verdict",
                f"{one['step_id']}: {one['verdict']['kind']} {one['verdict']['reason']}",
            )
        )
    for one in run.get("signals", ()):
        lines.append((one["at"], "signal", f"{one['kind']} {one['payload'].get('author', '')}"))
    return sorted(lines, key=lambda line: line[0])
