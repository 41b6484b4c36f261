"""A scene: a world, a forge, a receiver of notifications and a database, which outlive workers.

They run in the test's own process; workers are processes of their own that attach to them.
"""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import yaml
from aiohttp import web

from domain.event import Actor, Event, PullRequestChanged
from domain.intake import StartRun
from evals.simulated import SimulatedWorld
from evals.world.clock import WorldClock
from evals.world.faults import FaultRule
from evals.world.kube.kinds import CONFIGMAP, DEPLOYMENT, HTTPROUTE, SECRET, SERVICE
from evals.world.kube.store import Change
from evals.world.world import World
from store import migrate
from store.books import Books
from store.database import Database
from tests.chaos.runs import Runs, new_database, opened
from tests.configured import config_of, configure
from tests.servers.github import GitHubServer, Pull, Repo
from tests.servers.local import LocalServer
from tools.catalogue import load_catalogue

HERE = Path(__file__).parent
SPEED = 40.0
"""Simulated seconds a real second: a bake of 20 s takes half a second."""
FIRST = "1.0.0"
WRITES = "POST|PUT|PATCH|DELETE"
WATCHED = (DEPLOYMENT, HTTPROUTE, SERVICE)
CONFIGURING = (CONFIGMAP, SECRET)


def services_yaml(names: Iterable[str], summed: str, *, configured: bool = False) -> str:
    """A catalogue of services alike: production only, one canary step, bakes of 20 s.

    `summed` stands for `sum` in the queries of the repository's own catalogue. `configured`: each
    has a ConfigMap and a Secret that belong to its versions.
    """
    defaults = yaml.safe_load((HERE.parents[1] / "services.yaml").read_text())["defaults"]
    for sli in defaults["slis"]:
        sli |= {one: sli[one].replace("sum(", f"{summed} (") for one in ("bad", "total")}
    services = [
        {
            "name": name,
            "repo": f"acme/{name}",
            "image": f"ghcr.io/acme/{name}:{{sha}}",
            "owners": [f"team-{name}"],
            "workload": {"deployment": name, "container": name, "route": name}
            | ({"config": config_of(name)} if configured else {}),
            "environments": [
                {
                    "name": "prod",
                    "namespace": "prod",
                    "bake": "20s",
                    "request_rate": 8000,
                    "canary": [{"weight": 10, "bake": "20s"}],
                }
            ],
        }
        for name in names
    ]
    return yaml.safe_dump({"version": 1, "defaults": defaults, "services": services})


class Sink(LocalServer):
    """Takes notifications, as Slack and as a generic webhook."""

    async def handle(self, request: web.Request, body: object) -> web.Response:
        """Answer as Slack does."""
        if not isinstance(body, dict):
            self.wrong(f"{request.method} {request.path}: not a JSON object")
        return web.Response(text="ok")


@dataclass
class Journal:
    """What was changed in the cluster on purpose: each new spec of each watched object, once."""

    entries: list[tuple[str, str, str]] = field(default_factory=list)
    """(run, object's kind and name, step that changed it)."""

    def note(self, change: Change) -> None:
        """Called by the cluster's store inside every write."""
        if change.kind in CONFIGURING:
            self._note_copy(change)
        if change.kind not in WATCHED:
            return
        before = change.previous["spec"] if change.previous else None
        if change.object["spec"] == before:
            return
        meta = change.object["metadata"]
        notes = meta.get("annotations") or {}
        run, step = notes.get("fermata.dev/run", ""), notes.get("fermata.dev/step", "")
        self.entries.append((run, f"{change.kind.kind}/{meta['name']}", step))

    def _note_copy(self, change: Change) -> None:
        """A copy of configuration that is made; its name has a digest, which services do not
        share, and the key that all share is made by the first of them."""
        notes = change.object["metadata"].get("annotations") or {}
        if change.previous is None and (name := notes.get("fermata.dev/config-of")):
            run, step = notes["fermata.dev/run"], notes["fermata.dev/step"]
            self.entries.append((run, f"{change.kind.kind}/{name}", step))

    def of(self, run_id: UUID, service: str) -> list[tuple[str, str]]:
        """(object, step) of every change that a run made, in order, the service unnamed."""
        return [
            (what.replace(service, "*"), step.replace(service, "*"))
            for run, what, step in self.entries
            if run == str(run_id)
        ]


@dataclass(kw_only=True)
class Scene(Runs):
    """Everything a run needs but workers."""

    simulated: SimulatedWorld
    github: GitHubServer
    sink: Sink
    journal: Journal
    writes: FaultRule
    """Counts every request that would change something in the cluster."""
    tells_slack: bool
    configured: bool = False

    @property
    def world(self) -> World:
        """The world itself."""
        assert isinstance(self.simulated.world, World)
        return self.simulated.world

    async def release(self, service: str, version: str) -> UUID:
        """A merged pull request of its own asks for a release; its run.

        Where services are configured, each version comes with a configuration that names it.
        """
        if self.configured:
            configure(self.world, service, version)
        now, repo = self.simulated.clock.now(), f"acme/{service}"
        pulls = self.github.repos[repo].pulls
        number = len(pulls) + 1
        pulls[number] = Pull(files=[("src/app.py", None)])
        body = PullRequestChanged(
            action="closed", merged=True, repo=repo, number=number, title=f"Change {service}",
            author=Actor(login="ada"), head_sha=f"{version}-head", head_ref="change",
            base_sha="base", base_ref="main", default_branch="main", merge_sha=version,
        )  # fmt: skip
        event = Event(
            id=uuid4(), source="github", delivery_id=str(uuid4()), body_digest=uuid4().hex,
            received_at=now, body=body,
        )  # fmt: skip
        start = StartRun(
            change_key=f"release:{repo}@{version}", title=body.title, goal="release",
            author=body.author, repo=repo, number=number, sha=version,
        )  # fmt: skip
        receipt = await self.books.events.accept(event, [start], b"{}")
        assert receipt.run_id is not None
        return receipt.run_id

    async def page(self, run_id: UUID) -> str:
        """What a run's page says, without its markup."""
        async with opened(self.env) as api:
            answer = await api.http.get(
                f"{api.url}/runs/{run_id}", headers={"Authorization": f"Bearer {api.token}"}
            )
        assert answer.status_code == 200, answer.text
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())

    async def digests(self) -> dict[str, str]:
        """A digest of all rows of each table that a run is kept in."""
        tables = (
            "runs", "decisions", "effects", "verdicts", "metric_windows", "run_path", "releases",
            "approvals", "votes", "signals", "locks", "lock_queue", "checkpoints",
            "checkpoint_blobs", "checkpoint_writes",
        )  # fmt: skip
        each = " UNION ALL ".join(
            f"SELECT '{one}', md5(coalesce(string_agg(t::text, '' ORDER BY t::text), ''))"
            f" FROM {one} t"
            for one in tables
        )
        return {name: str(digest) for name, digest in await self.books.database.rows(each)}

    def image(self, name: str) -> str:
        """What a Deployment in production runs."""
        found = self.world.store.get(DEPLOYMENT, "prod", name)
        assert found is not None
        return str(found["spec"]["template"]["spec"]["containers"][0]["image"])


@contextlib.asynccontextmanager
async def open_scene(
    server_url: str,
    data: Path,
    services: Iterable[str],
    *,
    redis_url: str = "",
    tells_slack: bool = False,
    summed: str = "sum",
    durable: bool = False,
    configured: bool = False,
) -> AsyncIterator[Scene]:
    """A scene of its own: a new database on the server, a new world, new local servers.

    Notifications go to the generic webhook, or to Slack. Where the database's server is to be
    killed as well, it has to be `durable`: waits for the disk at every commit.
    """
    names = list(services)
    data.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    url = await new_database(server_url, durable=durable)
    catalogue_file = data / "services.yaml"
    catalogue_file.write_text(services_yaml(names, summed, configured=configured), encoding="utf-8")
    catalogue = load_catalogue(catalogue_file.read_text(encoding="utf-8"), "services.yaml")
    async with contextlib.AsyncExitStack() as stack:
        github = await stack.enter_async_context(GitHubServer())
        github.repos.update({f"acme/{name}": Repo() for name in names})
        sink = await stack.enter_async_context(Sink())
        clock = WorldClock(datetime(2026, 3, 4, 10, 0, tzinfo=UTC), SPEED)
        simulated = SimulatedWorld(catalogue, data, clock=clock, persist=False)
        await simulated.start()
        stack.push_async_callback(simulated.stop)
        database = await Database.open(url, min_size=1, max_size=4)
        stack.push_async_callback(database.close)
        await migrate.apply(database)
        journal = Journal()
        world = simulated.world
        assert isinstance(world, World)
        world.store.subscribe(journal.note)
        writes = world.faults.add(FaultRule(path="^/k8s/", method=WRITES, count=None))
        yield Scene(
            data=data,
            url=url,
            clock=clock,
            simulated=simulated,
            github=github,
            sink=sink,
            books=Books.of(database),
            journal=journal,
            writes=writes,
            env={
                "DATABASE_URL": url,
                "REDIS_URL": redis_url,
                "FERMATA_DATA": str(data),
                "FERMATA_SERVICES": str(catalogue_file),
                "FERMATA_POLICY": str(HERE / "policy.yaml"),
                "GITHUB_TOKEN": github.token,
                "GITHUB_API_URL": github.url,
                "SLACK_WEBHOOK_URL" if tells_slack else "NOTIFY_WEBHOOK_URL": f"{sink.url}/hook",
            },
            tells_slack=tells_slack,
            configured=configured,
        )
