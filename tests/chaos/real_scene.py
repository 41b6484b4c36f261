"""A scene on a real control plane: only the requests to its services are made up.

Its time is the real one, and its events come in as signed webhooks. What was written in the cluster
is told by a watch of the API server itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import yaml

from domain.clock import SystemClock
from domain.run import RunState
from store.books import Books
from store.database import Database
from store.records import RunDetail
from tests.chaos.runs import Runs, new_database, opened
from tests.chaos.tally import Findings, effects_of, law_two, left_over
from tests.e2e.api import Api
from tests.e2e.chronicle import managers
from tests.e2e.github import merged
from tests.e2e.plain_site import Obj, Plain, PlainSite, Stand, plain_site

FIRST, REPLICAS = "1.0.0", 2
SECRET = "a-secret-of-the-chaos-suite"
OURS = "fermata.dev/"
STEP, RUN = f"{OURS}step", f"{OURS}run"
CATCH_UP_SECONDS = 30.0
_NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Traces:
    """What a run has left behind, free of names."""

    state: RunState
    effects: tuple[tuple[str, str], ...]
    """(step, how it ended), as the ledger has them."""
    writes: tuple[tuple[str, str], ...]
    """(object, step that it names), for each version of an object that the run made."""


@dataclass(kw_only=True)
class RealScene(Runs):
    """A site, its journal, and the door that events come in by."""

    site: PlainSite
    api: Api
    running: dict[str, str] = field(default_factory=dict)
    """What each service runs, as far as it is not the first version."""

    async def release(self, service: str, version: str) -> UUID:
        """A signed webhook tells of a merge that is to be released; its run."""
        payload = merged(f"acme/{service}", next(_NUMBERS), version)
        return UUID(await self.api.started("pull_request", payload))

    def traces(self, detail: RunDetail, service: str) -> Traces:
        """Gather the traces of a finished run."""
        run = str(detail.run.id)
        return Traces(
            state=detail.run.state,
            effects=effects_of(detail, service),
            writes=tuple(
                (f"{kind}/{name}".replace(service, "*"), one[STEP].replace(service, "*"))
                for kind, name in objects_of(service)
                for one in writes(self.site.journal.of(kind, name))
                if one.get(RUN) == run
            ),
        )

    async def caught_up(self, service: str) -> None:
        """Wait until the journal has each object as the API server has it."""
        async with asyncio.timeout(CATCH_UP_SECONDS):
            for kind, name in objects_of(service):
                while (now := await self.site.find(kind, name)) is not None:
                    known = self.site.journal.of(kind, name)
                    if known and version_of(known[-1]) >= version_of(now):
                        break
                    await asyncio.sleep(0.05)

    async def examine(self, detail: RunDetail, service: str, expected: Traces) -> Findings:
        """Hold a finished run against an undisturbed one, and the cluster against its end state."""
        await self.caught_up(service)
        found, seen = Findings(), self.traces(detail, service)
        found.compare("effects", seen.effects, expected.effects)
        found.compare("writes", seen.writes, expected.writes)
        found.ended(detail, expected.state)
        if expected.state is RunState.SUCCEEDED:
            self.running[service] = detail.run.sha or ""
        image = f"ghcr.io/acme/{service}:{self.running.get(service, FIRST)}"
        wanted = Stand(image, REPLICAS, REPLICAS, 0, (100, 0))
        if (stands := await self.site.stands(service)) != wanted:
            found.wrong.append(f"{stands} instead of {wanted}")
        found.wrong += law_two(detail) + self.unstamped(service) + self.owners(service)
        found.lost += await left_over(self, detail)
        return found

    def unstamped(self, service: str) -> list[str]:
        """Specs of a service's objects that changed without another stamp to say who did it."""
        found = []
        for kind, name in objects_of(service):
            versions = self.site.journal.of(kind, name)
            for before, after in itertools.pairwise(versions):
                if before["spec"] != after["spec"] and marks(before) == marks(after):
                    found.append(f"{kind}/{name} at {after['metadata']['resourceVersion']}")
            if versions and kind != "Service":  # a Service has no generation
                changes = len(list(self.site.journal.specs(kind, name))) - 1
                first, last = (one["metadata"]["generation"] for one in (versions[0], versions[-1]))
                if last - first != changes:
                    found.append(f"{kind}/{name}: generation {first} to {last} by {changes} specs")
        return found

    def owners(self, service: str) -> list[str]:
        """Objects that our name stands on more than once among those who have written them."""
        return [
            f"{kind}/{name}"
            for kind, name in objects_of(service)
            for versions in [self.site.journal.of(kind, name)]
            if versions and managers(versions[-1]).count("fermata") > 1
        ]


def objects_of(service: str) -> list[tuple[str, str]]:
    """What belongs to a service."""
    return [
        ("Deployment", service),
        ("Deployment", f"{service}-canary"),
        ("HTTPRoute", service),
        ("Service", service),
        ("Service", f"{service}-canary"),
    ]


def version_of(obj: Obj) -> int:
    """Where an object stands in the order of writes; etcd's revision."""
    return int(obj["metadata"]["resourceVersion"])


def marks(obj: Obj) -> dict[str, str]:
    """Everything that we have noted on an object: run, step, digest and more."""
    notes = obj["metadata"].get("annotations") or {}
    return {key: value for key, value in notes.items() if key.startswith(OURS)}


def writes(versions: Sequence[Obj]) -> list[dict[str, str]]:
    """What is noted on each version that brought another spec, or other notes of ours."""
    found, before = [], None
    for one in versions:
        now = (one["spec"], marks(one))
        if now != before:
            found.append(marks(one))
        before = now
    return found


@contextlib.asynccontextmanager
async def open_real_scene(
    server_url: str,
    data: Path,
    services: Sequence[Plain],
    policy: Path,
    program: Callable[[str], str],
    free_port: Callable[[], int],
) -> AsyncIterator[RealScene]:
    """A cluster, a Prometheus and a database of its own."""
    data.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240
    url = await new_database(server_url)
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(plain_site(data, services, program, free_port))
        env = {
            **site.settings,
            "DATABASE_URL": url,
            "FERMATA_DATA": str(data),
            "FERMATA_POLICY": str(_lenient(policy, data)),
            "GITHUB_WEBHOOK_SECRET": SECRET,
        }
        api = await stack.enter_async_context(opened(env))
        database = await Database.open(url, min_size=1, max_size=4)
        stack.push_async_callback(database.close)
        yield RealScene(
            data=data,
            url=url,
            books=Books.of(database),
            clock=SystemClock(),
            env=env,
            site=site,
            api=api,
        )


def _lenient(policy: Path, folder: Path) -> Path:
    """The policy, but a service may be taken back over and over again."""
    rules = yaml.safe_load(policy.read_text(encoding="utf-8"))
    rules["autonomy"]["flapping"]["rollbacks"] = 50
    path = folder / "policy.yaml"
    path.write_text(yaml.safe_dump(rules, sort_keys=False), encoding="utf-8")
    return path
