"""`fermata demo`: three stories on the simulated world, played through the real front door.

The deliveries are signed webhooks, the approval and the override are API calls; nothing is
scripted behind the gate. Only the world is simulated, and it says so.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import SecretStr
from rich.console import Console
from rich.markup import escape

import server
from evals.simulated import SimulatedWorld
from evals.world.clock import WorldClock
from settings import Settings
from surface import Access, open_access
from web.client import ApiRefused, Client
from web.logs import set_up_logging
from web.serving import Listening, PortTaken
from web.tokens import TokenBook

SPEED = 30.0
"""Simulated seconds a real second: a release of two minutes takes four seconds."""
STORY_SECONDS = 55.0
"""Longest a story may take, in real seconds."""
OPENING = datetime(2026, 3, 6, 14, 0, tzinfo=ZoneInfo("Europe/Berlin"))
"""A Friday afternoon: the first two stories fit in before the weekend's window."""
FRIDAY_EVENING = datetime(2026, 3, 6, 18, 1, tzinfo=ZoneInfo("Europe/Berlin"))
SECRET = "demo-webhook-secret"
FINAL = {"succeeded", "rolled_back", "denied", "failed", "superseded", "cancelled"}


class StoryFailed(Exception):
    """A story did not end as it should."""


@dataclass
class Teller:
    """Plays deliveries against the server and narrates what the runs do."""

    out: Console
    api: Client
    manager: Client
    lead: Client
    hook: Client

    async def merge(self, number: int, title: str, version: str) -> str:
        """Deliver a merged pull request; the run it started."""
        body = json.dumps(merged(number, title, version)).encode()
        answer = await asyncio.to_thread(
            self.hook.post_github, "pull_request", body, SECRET.encode()
        )
        self.out.print(f"  webhook pull_request closed+merged → 202 {answer['status']}")
        return str(answer["run_id"])

    async def follow(self, run_id: str, *, approve: bool = True) -> dict[str, Any]:
        """Narrate a run until it ends, answering what it asks."""
        deadline = time.monotonic() + STORY_SECONDS
        told: set[str] = set()
        while time.monotonic() < deadline:
            run: dict[str, Any] = await asyncio.to_thread(self.api.get, f"/api/runs/{run_id}")
            self._narrate(run, told)
            if run["state"] in FINAL:
                return run
            if run["state"] == "needs_approval" and approve:
                await self._approve(run)
            await asyncio.sleep(0.15)
        raise StoryFailed(f"run {run_id} is still {run['state']}: {run['reason']}")

    def _narrate(self, run: dict[str, Any], told: set[str]) -> None:
        for effect in run["effects"]:
            if effect["state"] != "applied" or effect["id"] in told:
                continue
            told.add(effect["id"])
            summary = (effect["result"] or {}).get("summary", "")
            self.out.print(f"  [green]✓[/green] {escape(summary)}", highlight=False)
        for verdict in run["verdicts"]:
            key = f"{verdict['step_id']}{verdict['verdict']['kind']}"
            if verdict["verdict"]["kind"] in ("pass", "fail") and key not in told:
                told.add(key)
                good = verdict["verdict"]["kind"] == "pass"
                mark = "[green]pass[/green]" if good else "[red]FAIL[/red]"
                self.out.print(
                    f"  {mark} {escape(verdict['step_id'])}: "
                    f"{escape(verdict['verdict']['reason'])}",
                    highlight=False,
                )

    async def _approve(self, run: dict[str, Any]) -> None:
        for request in run["approvals"]:
            if request["state"] != "pending":
                continue
            self.out.print(f"  [magenta]asks[/magenta] {escape(request['question'])}")
            try:
                answer = await asyncio.to_thread(
                    self.manager.post,
                    f"/api/approvals/{request['id']}",
                    {
                        "decision": "approve",
                        "digest": request["digest"],
                        "comment": "looks good to me",
                    },
                )
            except ApiRefused as error:
                if error.status == 409:  # answered in between; the next look shows it
                    return
                raise
            self.out.print(
                f"  POST /api/approvals/{request['id'][:8]}… by grace (release-manager) → "
                f"{answer['state']}"
            )


def merged(number: int, title: str, version: str) -> dict[str, Any]:
    """A `pull_request` webhook body: closed and merged, as GitHub sends it."""
    repo = {"full_name": "acme/checkout", "default_branch": "main", "fork": False}
    return {
        "action": "closed",
        "number": number,
        "pull_request": {
            "number": number,
            "title": title,
            "state": "closed",
            "merged": True,
            "merge_commit_sha": version,
            "html_url": f"https://github.com/acme/checkout/pull/{number}",
            "user": {"login": "ada", "type": "User"},
            "merged_by": {"login": "ada", "type": "User"},
            "head": {
                "ref": "change",
                "sha": sha256(version.encode()).hexdigest()[:40],
                "repo": repo,
            },
            "base": {"ref": "main", "sha": sha256(title.encode()).hexdigest()[:40], "repo": repo},
        },
        "repository": {**repo, "name": "checkout", "owner": {"login": "acme"}},
        "sender": {"login": "ada", "type": "User"},
    }


async def main(settings: Settings, port: int, keep: bool) -> int:
    """Play the stories; 0 when each ended as it should. With `keep`, serve until Ctrl-C."""
    out = Console()
    settings.fermata_data.mkdir(parents=True, exist_ok=True)
    # A folder of its own each time: an earlier demo may still be letting go of its database.
    with tempfile.TemporaryDirectory(
        prefix="demo-", dir=settings.fermata_data, ignore_cleanup_errors=True
    ) as folder:
        return await _play(settings, Path(folder), port, keep, out)


async def _play(settings: Settings, data: Path, port: int, keep: bool, out: Console) -> int:
    isolated = _isolated(settings, data)
    try:
        listening = Listening("127.0.0.1", port)
    except PortTaken:
        listening = Listening("127.0.0.1", 0)
    set_up_logging("warning")
    _, catalogue = server.load_files(isolated)
    clock = WorldClock(OPENING, SPEED)
    world = SimulatedWorld(catalogue, data, clock=clock, persist=False)
    stopping = asyncio.Event()
    server.on_stop(stopping.set)
    out.print(
        "[bold]Fermata demo[/bold]  everything outside is [yellow]simulated[/yellow]: an "
        f"emulated Kubernetes, made-up traffic, a clock at {SPEED:g}x; comments are rendered, "
        "not sent"
    )
    async with server.open_house(isolated, base_url=listening.url, world=world) as house:
        access, tokens = _access(isolated, settings.fermata_data)
        async with listening.serving(house.app(access)), server.advancing(house, 20):
            out.print(
                f"pages: {listening.url}/sign-in?token={access.admin_token}\n",
                soft_wrap=True,
                highlight=False,
            )
            teller = Teller(
                out,
                Client(listening.url, access.admin_token),
                Client(listening.url, tokens["grace"]),
                Client(listening.url, tokens["lin"]),
                Client(listening.url),
            )
            play = asyncio.create_task(_stories(teller, clock, listening.url))
            stop = asyncio.create_task(stopping.wait())
            await asyncio.wait({play, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not play.done():
                play.cancel()
                return 1
            stop.cancel()
            try:
                play.result()
            except (StoryFailed, ApiRefused) as error:
                out.print(f"[red]the demo did not go as it should:[/red] {escape(str(error))}")
                return 1
            if keep:
                out.print(f"\nStill serving at {listening.url}. Ctrl-C ends it.")
                await stopping.wait()
    return 0


async def _stories(teller: Teller, clock: WorldClock, url: str) -> None:
    out = teller.out
    ends: list[tuple[str, dict[str, Any]]] = []

    out.print("[bold]1. A good release[/bold]  checkout 2.0.0: staging, canary, full")
    run = await teller.follow(await teller.merge(101, "Faster basket totals", "2.0.0"))
    ends.append(("succeeded", run))
    _end(out, run, url)

    out.print("[bold]2. A bad canary[/bold]  checkout 2.1.0-bad fails 8% of its requests in prod")
    run = await teller.follow(await teller.merge(102, "New payment flow", "2.1.0-bad"))
    ends.append(("rolled_back", run))
    _end(out, run, url)

    clock.jump(FRIDAY_EVENING)
    out.print(f"[bold]3. Friday evening[/bold]  it is {_local(clock.now())} now")
    run = await teller.follow(await teller.merge(103, "Tax rounding", "2.2.0"))
    ends.append(("denied", run))
    _end(out, run, url)
    out.print("  lin (sre-lead) overrides: POST /api/runs/…/signals override")
    answer = await asyncio.to_thread(
        teller.lead.post,
        f"/api/runs/{run['id']}/signals",
        {"kind": "override", "reason": "Wrong tax is charged right now, incident 4711"},
    )
    run = await teller.follow(str(answer["run_id"]))
    ends.append(("succeeded", run))
    _end(out, run, url)

    out.print("[bold]Outcomes[/bold]")
    for wanted, run in ends:
        out.print(
            f"  {run['state']:<12} {escape(run['title'])}: {escape(run['reason'])}",
            highlight=False,
            soft_wrap=True,
        )
        out.print(f"               {url}/runs/{run['id']}", highlight=False, soft_wrap=True)
        if run["state"] != wanted:
            raise StoryFailed(f"{run['title']} ended {run['state']}, not {wanted}")


def _end(out: Console, run: dict[str, Any], url: str) -> None:
    colour = "green" if run["state"] == "succeeded" else "red"
    out.print(
        f"  → [{colour}]{run['state']}[/{colour}] {escape(run['reason'])}",
        highlight=False,
        soft_wrap=True,
    )
    out.print(f"    {url}/runs/{run['id']}\n", highlight=False, soft_wrap=True)


def _local(now: datetime) -> str:
    return now.astimezone(OPENING.tzinfo).strftime("%A %H:%M %Z")


def _isolated(settings: Settings, data: Path) -> Settings:
    """The user's files, but no real backend and a data folder of its own."""
    return Settings(
        _env_file=None,
        database_url=None,
        redis_url=None,
        kubeconfig=None,
        kubernetes_service_host=None,
        prometheus_url=None,
        github_webhook_secret=(SecretStr(SECRET),),
        github_token=None,
        github_app_id=None,
        slack_webhook_url=None,
        notify_webhook_url=None,
        fermata_tokens=None,
        fermata_data=data,
        fermata_policy=settings.fermata_policy,
        fermata_services=settings.fermata_services,
    )


def _access(settings: Settings, data: Path) -> tuple[Access, dict[str, str]]:
    """The admin of this machine (so that the command line finds its token), and two people."""
    access = open_access(settings.model_copy(update={"fermata_data": data}))
    tokens = {"grace": "demo-grace-token", "lin": "demo-lin-token"}
    book = access.gatekeeper.tokens
    assert isinstance(book, TokenBook), "the demo has its own data folder and no token file"
    book = book.with_token(tokens["grace"], "grace", ("release-manager",))
    book = book.with_token(tokens["lin"], "lin", ("sre-lead",))
    gatekeeper = type(access.gatekeeper)(book, access.gatekeeper.sessions)
    return replace(access, gatekeeper=gatekeeper), tokens
