"""What a disturbed run is held against: the end state, and the traces of an undisturbed run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from domain.decision import Outcome
from domain.effect import EffectState
from domain.run import RunState
from evals.world.kube.kinds import CONFIGMAP, DEPLOYMENT, HTTPROUTE, SECRET, Obj
from store.records import RunDetail
from tests.chaos.runs import Runs
from tests.chaos.scene import FIRST, Scene
from tests.configured import encoded, tokens
from tests.crashes import Crashes


@dataclass(frozen=True)
class Traces:
    """What a run has left behind outside of the database, free of names."""

    state: RunState
    effects: tuple[tuple[str, str], ...]
    cluster: tuple[tuple[str, str], ...]
    comments: int
    posted: int
    patched: int
    told: int
    """Different notifications that arrived."""


def traces(scene: Scene, detail: RunDetail, service: str) -> Traces:
    """Gather the traces of a finished run."""
    number = detail.run.number
    assert number is not None
    repo = f"/repos/acme/{service}/issues"
    comments = scene.github.repos[f"acme/{service}"].pulls[number].comments
    return Traces(
        state=detail.run.state,
        effects=effects_of(detail, service),
        cluster=tuple(scene.journal.of(detail.run.id, service)),
        comments=len(comments),
        posted=len(scene.github.requests("POST", f"^{repo}/{number}/comments$")),
        patched=sum(
            len(scene.github.requests("PATCH", f"^{repo}/comments/{one.id}$")) for one in comments
        ),
        told=len(set(notices(scene, detail))),
    )


def effects_of(detail: RunDetail, service: str) -> tuple[tuple[str, str], ...]:
    """(step, how it ended) of each effect, as the ledger has them, the service unnamed."""
    return tuple((one.step_id.replace(service, "*"), one.state.value) for one in detail.effects)


def notices(scene: Scene, detail: RunDetail) -> list[str]:
    """Keys of the notifications about a run, one a delivery."""
    return [
        one.headers["Idempotency-Key"]
        for one in scene.sink.requests("POST")
        if str(detail.run.id) in str(one.body)
    ]


@dataclass
class Findings:
    """What is wrong after a run, sorted by kind."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.doubled or self.wrong)

    def compare(
        self, what: str, seen: Iterable[tuple[str, str]], expected: Iterable[tuple[str, str]]
    ) -> None:
        """Hold traces of a run against those of an undisturbed one, whatever their order."""
        was, ought = Counter(seen), Counter(expected)
        self.doubled += [f"{what}: {one}" for one in (was - ought).elements()]
        self.lost += [f"{what}: {one}" for one in (ought - was).elements()]

    def ended(self, detail: RunDetail, expected: RunState) -> None:
        """Hold a run's end against how it ought to end."""
        if detail.run.state is not expected:
            self.wrong.append(
                f"ended {detail.run.state} instead of {expected}: {detail.run.reason}"
            )


async def examine(
    scene: Scene, detail: RunDetail, service: str, image: str, expected: Traces
) -> Findings:
    """Hold a finished run against an undisturbed one, and the cluster against its end state.

    `image`: the version that stable is to run now.
    """
    found = Findings()
    seen = traces(scene, detail, service)
    found.compare("effects", seen.effects, expected.effects)
    found.compare("cluster", seen.cluster, expected.cluster)
    found.ended(detail, expected.state)
    for name in ("comments", "posted", "patched"):
        was, ought = getattr(seen, name), getattr(expected, name)
        if was > ought:
            found.doubled.append(f"{name}: {was} instead of {ought}")
        elif was < ought:
            found.lost.append(f"{name}: {was} instead of {ought}")
    found.wrong += _end_state(scene, service, image)
    found.wrong += law_two(detail)
    found.lost += await left_over(scene, detail)
    _told(scene, detail, expected, found)
    return found


def _told(scene: Scene, detail: RunDetail, expected: Traces, found: Findings) -> None:
    """Each notification arrived.

    The generic webhook may get one again after a crash, under the same key: its receiver can tell.
    Slack cannot, so it never gets one twice; one that may not have come through says so in the
    ledger, and with that on the run's page.
    """
    arrived = notices(scene, detail)
    missing = expected.told - len(set(arrived))
    if missing < 0:
        found.doubled.append(f"notifications: {-missing} too many")
    if scene.tells_slack:
        if len(arrived) > len(set(arrived)):
            found.doubled.append("Slack was told the same twice")
        missing -= sum(
            bool(one.result and one.result.data.get("unconfirmed")) for one in detail.effects
        )
    if missing > 0:
        found.lost.append(f"notifications: {missing}, and the ledger does not say so")


def _end_state(scene: Scene, service: str, version: str) -> list[str]:
    image = f"ghcr.io/acme/{service}:{version}"
    stable, canary = (
        scene.world.store.get(DEPLOYMENT, "prod", name) for name in (service, f"{service}-canary")
    )
    route = scene.world.store.get(HTTPROUTE, "prod", service)
    assert stable is not None
    assert route is not None
    wrong = []
    runs = stable["spec"]["template"]["spec"]["containers"][0]["image"]
    if runs != image:
        wrong.append(f"stable runs {runs} instead of {image}")
    if stable["status"].get("availableReplicas") != stable["spec"]["replicas"]:
        wrong.append(f"stable is not at full strength: {stable['status']}")
    if canary is None or canary["spec"]["replicas"] != 0:
        wrong.append("the canary still has pods")
    weights = {
        ref["name"]: ref.get("weight", 1)
        for rule in route["spec"]["rules"]
        for ref in rule["backendRefs"]
    }
    if weights.get(f"{service}-canary") != 0 or not weights.get(service):
        wrong.append(f"the route's weights are {weights}")
    if scene.configured:
        wrong += _configuration(scene, service, stable, version)
    return wrong


def _configuration(scene: Scene, service: str, stable: Obj, version: str) -> list[str]:
    """Stable takes the configuration that came with its version, from copies of its own.

    One that nothing was ever released to takes it from the objects themselves.
    """
    (container,) = stable["spec"]["template"]["spec"]["containers"]
    names = [next(iter(one.values()))["name"] for one in container["envFrom"]]
    if names == [service, tokens(service)]:
        return []
    config, secret = (
        scene.world.store.get(kind, "prod", name)
        for kind, name in zip((CONFIGMAP, SECRET), names, strict=True)
    )
    held = [one and one["data"]["mode"] for one in (config, secret)]
    ought = [version, encoded(version)]
    return [] if held == ought else [f"stable of {version} takes {names}: {held}"]


def law_two(detail: RunDetail) -> list[str]:
    """Each applied effect stands on a decision that allowed exactly it; votes counted once."""
    decisions = {one.id: one for one in detail.decisions}
    wrong = []
    for effect in detail.effects:
        decision = decisions.get(effect.decision_id)
        if (
            decision is None
            or decision.decision.outcome is not Outcome.ALLOW
            or decision.action_digest != effect.digest
        ):
            wrong.append(f"no decision covers {effect.step_id}")
        if effect.state is not EffectState.APPLIED or effect.result is None:
            wrong.append(f"{effect.step_id} is {effect.state}: {effect.error}")
    if [one.seq for one in detail.decisions] != list(range(1, len(detail.decisions) + 1)):
        wrong.append("decisions are not numbered through")
    spent = [one for one in detail.approvals if one.state == "spent"]
    if len(spent) != 1 or len(detail.approvals) != 1 or len(spent[0].votes) != 1:
        wrong.append(f"approvals: {[(one.state.value, one.question) for one in detail.approvals]}")
    return wrong


async def left_over(runs: Runs, detail: RunDetail) -> list[str]:
    """The event has its run, and nothing is left over of a run that has ended."""
    database, run = runs.books.database, {"run": detail.run.id}
    lost = []
    if not await database.value(
        "SELECT true FROM events WHERE %(run)s = ANY (run_ids) AND status = 'accepted'", run
    ):
        lost.append("no event leads to the run")
    for table in ("locks", "lock_queue"):
        if await database.value(f"SELECT count(*) FROM {table} WHERE run_id = %(run)s", run):
            lost.append(f"a row in {table} is left over")
    return lost


@dataclass
class Tally(Crashes):
    """Counts, and what a disturbed run is held against."""

    async def hold(
        self,
        scene: Scene,
        detail: RunDetail,
        service: str,
        expected: Traces,
        *,
        what: str,
        points: Iterable[str],
        before: str = FIRST,
    ) -> None:
        """Examine a run to which `what` was done at `points`; count, and fail if anything is wrong.

        `before`: the version that ran before it.
        """
        gone_on = expected.state is RunState.SUCCEEDED
        image = (detail.run.sha or "") if gone_on else before
        found = await examine(scene, detail, service, image, expected)
        self.count(found, detail, scene, what=what, points=points)

    def count(
        self, found: Findings, detail: RunDetail, runs: Runs, *, what: str, points: Iterable[str]
    ) -> None:
        """Count a run to which `what` was done at `points`; fail if anything is wrong."""
        for point in points:
            self.note(what, point, detail.run.state.value)
        self.lost += len(found.lost)
        self.doubled += len(found.doubled)
        assert not found, f"{detail.run.repo} {detail.run.sha}: {found}\n{runs.log()}"
