"""What people who come from other tools rely on, through the whole house on a real control plane.

Each test names one such behaviour of a plain Kubernetes release. The stories take real time, so
they are told side by side, each on a service of its own; the one that takes Prometheus away comes
when the others have ended. The same list for Argo's Rollouts is in
`tests/contract/test_argo_contract.py` and `test_argo_analysis.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from evals.world.controllers.cluster import route_parents
from store import embedded
from tests.e2e.api import (
    Api,
    Json,
    assert_every_effect_was_decided,
    changes_in,
    described,
    weights,
)
from tests.e2e.backing import asked
from tests.e2e.chronicle import managers
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.plain_site import Obj, Plain, PlainSite, plain_site
from tests.e2e.served import serving

LONG = 150.0
"""Seconds that a part of a story may take; most take ten, and the machine may be busy."""
GOOD, LATER = sha_of("good"), sha_of("later")
NOWHERE = {"spec": {"template": {"spec": {"nodeSelector": {"kind": "nowhere"}}}}}
SOMEWHERE = {"spec": {"template": {"spec": {"nodeSelector": None}}}}
DEADLINE = 6
"""Seconds of progress deadline where one has to run out."""
HALF = {"weight": 50, "bake": "8s"}
WHOLE = {"weight": 100, "bake": "4s"}
TENTH = {"weight": 10, "bake": "8s"}
SERVICES = (
    Plain("abort"),
    Plain("clumsy", deadline=DEADLINE),
    Plain("broken", deadline=DEADLINE, recreate=True),
    Plain("patient", canary=({**HALF, "weight": 10, "pause": True}, WHOLE), deadline=DEADLINE),
    # 15 requests at 10%: too few to tell, and none of the six seconds goes without any.
    Plain("doubtful", canary=({"weight": 10, "bake": "6s"},), rate=25.0),
    Plain("blind", canary=({**TENTH, "pause": True}, {"weight": 50, "bake": "12s"})),
    Plain("primary", canary=(TENTH, WHOLE), recreate=True),
    Plain("lost", canary=(TENTH, WHOLE), recreate=True, deadline=DEADLINE),
    Plain("stale", watched=False),
    Plain("recent"),
)
_NUMBERS = itertools.count(1)


@dataclass
class Stories:
    """Where they are told, and what becomes of each, by service."""

    place: PlainSite
    api: Api
    database: str
    told: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    """Questions that were answered: a run may not have taken the answer up yet."""

    def begin(self, service: str, story: Coroutine[Any, Any, Any]) -> None:
        """Tell one beside the others."""
        self.told[service] = asyncio.create_task(story, name=service)

    async def asked(self, service: str, version: str) -> str:
        """A release that waits for its approval."""
        payload = merged(f"acme/{service}", next(_NUMBERS), version)
        run = await self.api.started("pull_request", payload)
        await self.question(run)
        return run

    async def begun(self, service: str, version: str) -> str:
        """A release that somebody has approved."""
        run = await self.asked(service, version)
        await self.yes(run)
        return run

    async def question(self, run: str) -> Json:
        """What a run asks and nobody has answered yet."""

        def is_new(seen: Json) -> bool:
            return bool(self._open(seen))

        return self._open(await self.api.until(run, "a question", is_new, LONG))[-1]

    def _open(self, run: Json) -> list[Json]:
        pending = [one for one in run["approvals"] if one["state"] == "pending"]
        return [one for one in pending if one["id"] not in self.answered]

    async def answer(self, question: Json, decision: str = "approve") -> None:
        """Vote on it; one vote is enough here."""
        voted = await self.api.vote(question, decision)
        assert voted.status_code == 200, voted.text
        self.answered.add(question["id"])

    async def yes(self, run: str) -> Json:
        """Approve what a run asks; the question."""
        question = await self.question(run)
        await self.answer(question)
        return question

    async def over(self, run: str) -> Json:
        """The run when it is over."""
        return await self.api.until_over(run, LONG)

    async def at(self, run: str, step: str) -> Json:
        """The run as soon as it is at a step."""
        return await self.api.until_step(run, step, LONG)

    async def said(self, service: str, text: str) -> Json:
        """What the webhook answers to a comment of an owner."""
        told = comment(f"acme/{service}", next(_NUMBERS), text, by="olga", association="OWNER")
        answer = await self.api.github("issue_comment", told)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    async def counted(self, query: str) -> float:
        """What Prometheus says now; 0 where it has no series."""
        found = await asked(self.place.prometheus.url, query)
        return float(found[0]["value"][1]) if found else 0.0


@pytest.fixture(scope="module")
async def place(
    tmp_path_factory: pytest.TempPathFactory,
    program: Callable[[str], str],
    cluster_here: None,
    unused_tcp_port_factory: Callable[[], int],
) -> AsyncIterator[PlainSite]:
    folder = tmp_path_factory.mktemp("plain")
    async with plain_site(folder, SERVICES, program, unused_tcp_port_factory) as made:
        yield made


@pytest.fixture(scope="module")
async def stories(
    place: PlainSite, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stories]:
    """All of them, begun at once; each test waits for its own."""
    data = tmp_path_factory.mktemp("served")
    # Not in pytest's folder: that one is closed to the user that a server runs as.
    with tempfile.TemporaryDirectory(prefix="fermata-expected-") as folder:
        postgres = embedded.start(Path(folder))
        settings = {**place.settings, "DATABASE_URL": postgres.url}
        async with serving(data, settings=settings) as served:
            made = Stories(place, served.api, postgres.url)
            for service, story in STORIES.items():
                made.begin(service, story(made))
            made.begin("blind", without_prometheus(made))
            yield made
            for task in made.told.values():
                task.cancel()
            await asyncio.gather(*made.told.values(), return_exceptions=True)
        postgres.stop()


async def nothing_in_progress(to: Stories) -> Json:
    """Whatever means "stop" is said while nothing is under way in the cluster."""
    stray = (await to.said("abort", "/cancel"))["run_id"]
    back = (await to.said("abort", "/rollback abort prod"))["run_id"]
    waiting = await to.asked("abort", GOOD)
    assert (await to.api.tell(waiting, "cancel")).status_code == 200
    cancelled = await to.over(waiting)
    return {
        "stray": await to.over(stray),
        "rollback": await to.over(back),
        "cancelled": cancelled,
        "late": (await to.api.tell(waiting, "cancel")).status_code,
    }


async def two_bad_images(to: Stories) -> list[Json]:
    return [await to.over(await to.begun("clumsy", bad)) for bad in ("broken-one", "broken-two")]


async def a_fix(to: Stories) -> Json:
    """A version that failed as a canary is put in by hand; then comes the one that mends it."""
    failed = await to.over(await to.begun("broken", "broken-one"))
    container = {"name": "broken", "image": "ghcr.io/acme/broken:broken-one"}
    by_hand = {"spec": {"template": {"spec": {"containers": [container]}}}}
    await to.place.deployment("broken", by_hand)
    before = await gone(to.place, "broken")
    run = await to.begun("broken", GOOD)
    return {"failed": failed, "before": before, "fix": await to.over(run)}


async def a_long_pause(to: Stories) -> Json:
    """Longer than the progress deadline; meanwhile somebody asks for twice as many pods."""
    run = await to.begun("patient", GOOD)
    await to.at(run, "patient/prod.canary-10.pause")
    began = asyncio.get_running_loop().time()
    small = await to.place.stands("patient")
    await to.place.deployment("patient", {"spec": {"replicas": 8}})
    await asyncio.sleep(began + 1.5 * DEADLINE - asyncio.get_running_loop().time())
    paused = await to.api.run(run)
    large = await to.place.stands("patient")
    await to.yes(run)
    await to.at(run, "patient/prod.canary-100.check")
    whole = await to.place.stands("patient")
    return {
        "stands": (small, large, whole),
        "paused": paused,
        "over": await to.over(run),
    }


async def doubt(to: Stories) -> Json:
    """A check that cannot tell; nobody answers for a while, then somebody says no."""
    run = await to.begun("doubtful", GOOD)
    # That was about the check before the change, which has hardly more requests to go by.
    await to.yes(run)
    await to.at(run, "doubtful/prod.canary-10.check")
    question = await to.question(run)
    await asyncio.sleep(4)
    unanswered, stands = await to.api.run(run), await to.place.stands("doubtful")
    await to.answer(question, "reject")
    return {
        "question": question,
        "unanswered": unanswered,
        "stands": stands,
        "over": await to.over(run),
    }


async def a_dying_primary(to: Stories) -> Json:
    """Stable loses all its pods while it is to take over, and gets them back after a while."""
    run = await to.begun("primary", GOOD)
    await to.at(run, "primary/prod.canary-100.check")
    await to.place.deployment("primary", NOWHERE)
    await gone(to.place, "primary")
    await to.at(run, "primary/prod.full.stable")
    await asyncio.sleep(4)
    waiting, stands = await to.api.run(run), await to.place.stands("primary")
    await to.place.deployment("primary", SOMEWHERE)
    return {"waiting": waiting, "stands": stands, "over": await to.over(run)}


async def a_dead_primary(to: Stories) -> Json:
    """The same, and nobody gives it its pods back."""
    run = await to.begun("lost", GOOD)
    await to.at(run, "lost/prod.canary-100.check")
    await to.place.deployment("lost", NOWHERE)
    return {"over": await to.over(run), "stands": await to.place.stands("lost")}


async def a_stale_route(to: Stories) -> Json:
    """The gateway has the route as it was, and for a while nothing newer."""
    old = await to.place.route("stale")
    await to.place.report("stale", route_parents(old, lambda _: True, datetime.now(UTC)))
    run = await to.begun("stale", GOOD)
    await to.at(run, "stale/prod.canary-10.weight")
    await asyncio.sleep(4)
    waiting, route = await to.api.run(run), await to.place.route("stale")

    async def gateway() -> None:
        while True:
            seen = await to.place.route("stale")
            parents = route_parents(seen, lambda _: True, datetime.now(UTC))
            if parents != seen["status"]["parents"]:
                await to.place.report("stale", parents)
            await asyncio.sleep(0.2)

    reporting = asyncio.create_task(gateway())
    try:
        return {"waiting": waiting, "route": route, "over": await to.over(run)}
    finally:
        reporting.cancel()


async def back_and_back(to: Stories) -> Json:
    """Back to a version that was good a moment ago; then to one that was good last week."""
    for version in (GOOD, LATER):
        assert (await to.over(await to.begun("recent", version)))["state"] == "succeeded"
    run = (await to.said("recent", "/rollback recent prod"))["run_id"]
    recent = await to.over(run)
    image = (await to.place.stands("recent")).image
    async with await psycopg.AsyncConnection.connect(to.database, autocommit=True) as conn:
        await conn.execute(
            "UPDATE releases SET at = at - interval '8 days' WHERE service = 'recent'"
        )
    run = (await to.said("recent", "/rollback recent prod"))["run_id"]
    await to.yes(run)
    return {"recent": recent, "image": image, "older": await to.over(run)}


async def without_prometheus(to: Stories) -> Json:
    """A canary waits for a person until all the others have ended; then Prometheus dies, and is
    back when the check is over."""
    run = await to.begun("blind", GOOD)
    await to.at(run, "blind/prod.canary-10.pause")
    await asyncio.gather(
        *(task for name, task in to.told.items() if name != "blind"), return_exceptions=True
    )
    await to.yes(run)
    await to.at(run, "blind/prod.canary-50.check")
    await to.place.prometheus.kill()
    during = await to.api.until(
        run, "an error", lambda one: kind_of(one, "blind/prod.canary-50.check") == "error", LONG
    )
    question = await to.question(run)
    stands = await to.place.stands("blind")
    await to.place.prometheus.start()
    await to.answer(question)
    return {
        "during": during,
        "question": question,
        "stands": stands,
        "over": await to.over(run),
    }


STORIES: dict[str, Callable[[Stories], Coroutine[Any, Any, Any]]] = {
    "abort": nothing_in_progress,
    "clumsy": two_bad_images,
    "broken": a_fix,
    "patient": a_long_pause,
    "doubtful": doubt,
    "primary": a_dying_primary,
    "lost": a_dead_primary,
    "stale": a_stale_route,
    "recent": back_and_back,
}


async def gone(place: PlainSite, service: str) -> Obj:
    """Stable once none of its pods is available."""
    async with asyncio.timeout(LONG):
        while (seen := await place.deployment(service))["status"].get("availableReplicas"):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return seen


def verdict_of(run: Json, step: str) -> Json:
    """The last verdict of a step; empty where there is none."""
    verdicts = [one["verdict"] for one in run["verdicts"] if one["step_id"] == step]
    return dict(verdicts[-1]) if verdicts else {}


def kind_of(run: Json, step: str) -> str | None:
    """How that came out."""
    return verdict_of(run, step).get("kind")


def phases(run: Json) -> set[str]:
    """Which kinds of checks a run made."""
    return {one["phase"] for one in run["verdicts"]}


async def test_an_abort_with_nothing_in_progress_is_a_no_op(stories: Stories) -> None:
    told = await stories.told["abort"]
    assert told["stray"]["goal"] == "answer"
    assert told["rollback"]["state"] == "failed"
    assert "nothing to roll back to" in told["rollback"]["reason"]
    assert told["cancelled"]["state"] == "cancelled"
    assert told["late"] == 409
    for one in ("stray", "rollback", "cancelled"):
        assert not changes_in(told[one], "prod")
    journal = stories.place.journal
    assert not journal.of("Deployment", "abort-canary")
    for kind in ("Deployment", "HTTPRoute", "Service"):
        assert len(list(journal.specs(kind, "abort"))) == 1
        assert "fermata" not in managers(journal.last(kind, "abort"))


async def test_two_bad_images_in_a_row_leave_stable_at_full_size(stories: Stories) -> None:
    for run in await stories.told["clumsy"]:
        assert run["state"] == "rolled_back", described(run)
        assert "ImagePullBackOff" in run["reason"]
        assert weights(run) in ([], [0])
    stands = await stories.place.stands("clumsy")
    assert (stands.image, stands.replicas, stands.available) == (image("clumsy", "1.0.0"), 4, 4)
    assert (stands.canary_replicas, stands.weights) == (0, (100, 0))
    assert min(stories.place.journal.available("clumsy")) == 4
    assert stories.place.journal.weights("clumsy") == [0]


def image(service: str, version: str) -> str:
    """What a version of a service is called."""
    return f"ghcr.io/acme/{service}:{version}"


async def test_a_broken_stable_never_blocks_a_good_fix(stories: Stories) -> None:
    told = await stories.told["broken"]
    assert told["failed"]["state"] == "rolled_back", described(told["failed"])
    assert not told["before"]["status"].get("availableReplicas")
    run = told["fix"]
    assert run["state"] == "succeeded", described(run)
    # Beside the release itself nobody was asked for anything.
    assert len(run["approvals"]) == 1
    assert kind_of(run, "broken/prod.pre") != "pass"
    assert kind_of(run, "broken/prod.canary-10.check") == "pass"
    stands = await stories.place.stands("broken")
    assert (stands.image, stands.available) == (image("broken", GOOD), 4)
    assert (stands.canary_replicas, stands.weights) == (0, (100, 0))
    assert_every_effect_was_decided(run)


async def test_a_pause_longer_than_the_progress_deadline_is_not_a_stall(stories: Stories) -> None:
    told = await stories.told["patient"]
    assert told["paused"]["state"] == "needs_approval", described(told["paused"])
    assert told["over"]["state"] == "succeeded", described(told["over"])
    assert weights(told["over"]) == [10, 100, 0]
    assert_every_effect_was_decided(told["over"])


async def test_a_paused_change_follows_a_replica_change(stories: Stories) -> None:
    told = await stories.told["patient"]
    small, large, whole = told["stands"]
    assert (small.replicas, small.canary_replicas) == (4, 1)
    assert (large.replicas, large.available) == (8, 8)
    assert large.weights == (90, 10)
    # What takes all the traffic has as many pods as stable has by now, not as it had before.
    assert (whole.canary_replicas, whole.replicas, whole.weights) == (8, 8, (0, 100))
    stands = await stories.place.stands("patient")
    assert (stands.image, stands.replicas, stands.available) == (image("patient", GOOD), 8, 8)


async def test_an_inconclusive_check_pauses_and_never_goes_back_by_itself(
    stories: Stories,
) -> None:
    told = await stories.told["doubtful"]
    assert told["question"]["step_id"] == "doubtful/prod.canary-10.check"
    assert kind_of(told["unanswered"], "doubtful/prod.canary-10.check") == "inconclusive"
    assert told["unanswered"]["state"] == "needs_approval"
    assert told["stands"].weights == (90, 10)
    assert told["stands"].canary_replicas == 1
    # A person said no; only then it went back.
    assert told["over"]["state"] == "rolled_back", described(told["over"])
    stands = await stories.place.stands("doubtful")
    assert (stands.image, stands.weights) == (image("doubtful", "1.0.0"), (100, 0))


async def test_stable_dying_while_it_takes_over_keeps_the_canary_serving(
    stories: Stories,
) -> None:
    told = await stories.told["primary"]
    assert told["waiting"]["step_id"] == "primary/prod.full.stable", described(told["waiting"])
    assert told["stands"].available == 0
    assert (told["stands"].canary_replicas, told["stands"].weights) == (4, (0, 100))
    assert told["over"]["state"] == "succeeded", described(told["over"])
    journal = stories.place.journal
    assert journal.weights("primary") == [0, 10, 100, 0]
    stands = await stories.place.stands("primary")
    assert (stands.image, stands.available) == (image("primary", GOOD), 4)
    unanswered = 'sum(http_requests_total{service="primary",code="503"})'
    assert await stories.counted(unanswered) == 0


async def test_a_stable_that_stays_dead_leaves_the_canary_serving(stories: Stories) -> None:
    told = await stories.told["lost"]
    assert told["over"]["state"] == "failed", described(told["over"])
    # The cluster's deadline or, where the run was held up between two looks, ours.
    assert re.search(r"ProgressDeadlineExceeded|not ready within", told["over"]["reason"])
    assert told["stands"].available == 0
    assert (told["stands"].canary_replicas, told["stands"].weights) == (4, (0, 100))
    assert stories.place.journal.available("lost-canary")[-1] == 4


async def test_a_stale_route_generation_does_not_advance_the_step(stories: Stories) -> None:
    told = await stories.told["stale"]
    (parent,) = told["route"]["status"]["parents"]
    accepted = next(one for one in parent["conditions"] if one["type"] == "Accepted")
    assert accepted["status"] == "True"
    assert accepted["observedGeneration"] < told["route"]["metadata"]["generation"]
    assert told["waiting"]["step_id"] == "stale/prod.canary-10.weight"
    assert "has not taken the route over" in told["waiting"]["reason"]
    assert told["over"]["state"] == "succeeded", described(told["over"])
    assert kind_of(told["over"], "stale/prod.canary-10.check") == "pass"


async def test_a_rollback_to_a_recent_good_version_skips_analysis(stories: Stories) -> None:
    told = await stories.told["recent"]
    run = told["recent"]
    assert run["state"] == "succeeded", described(run)
    assert told["image"] == image("recent", GOOD)
    assert phases(run) == {"post"}
    assert not run["approvals"]
    assert not any(weights(run))


async def test_a_rollback_to_an_older_version_does_not(stories: Stories) -> None:
    run = (await stories.told["recent"])["older"]
    assert run["state"] == "succeeded", described(run)
    assert "goes through the canary" in " ".join(run["plan"]["notes"])
    assert phases(run) == {"pre", "canary", "post"}
    assert weights(run) == [10, 0]
    # Not the one that was taken back a moment ago, good as its checks had found it.
    assert (await stories.place.stands("recent")).image == image("recent", "1.0.0")


async def test_prometheus_down_is_an_error_and_not_a_failed_canary(stories: Stories) -> None:
    told = await stories.told["blind"]
    step = "blind/prod.canary-50.check"
    assert "no answer for 3 windows" in verdict_of(told["during"], step)["reason"]
    assert told["question"]["step_id"] == step
    assert told["stands"].weights == (50, 50)
    assert told["over"]["state"] == "succeeded", described(told["over"])
    assert weights(told["over"]) == [10, 50, 0]
    assert (await stories.place.stands("blind")).image == image("blind", GOOD)
