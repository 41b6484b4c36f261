"""What policy says to an event at a time: planned by the deterministic planner against an assumed
state of the world, and ruled on step by step by the one evaluator. No server, no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from domain.action import K8sDeploy, K8sTraffic, target_of
from domain.approval import ApprovalRequest
from domain.configuration import Configuration
from domain.decision import Decision, Outcome
from domain.errors import BadEvent
from domain.event import Commanded, Event, EventBody, PullRequestChanged
from domain.evidence import ErrorBudget
from domain.intake import Ignore, SendSignal, StartRun
from domain.metric import Metric
from domain.plan import Plan, Step
from domain.service import SLI, Catalogue, Target
from domain.state import Baseline, initial
from domain.verdict import Counts, Gap, VerdictKind
from domain.workload import TrackState, WorkloadState
from nodes.conductor import Conductor
from nodes.foresight import facts_of
from nodes.inquiry import reach
from nodes.leaks import Leaks
from nodes.passage import PassageRuntime
from nodes.wording import Wording
from policy.codeowners import owned_paths
from policy.evaluate import evaluate
from policy.facts import Commander, Facts, OverrideFact, RepositoryPolicy
from policy.families.windows import opening
from policy.rules import Rules
from store.locks import Locks
from store.records import ReleaseRow
from store.releases import Releases
from store.runs import Runs
from tools.forge_twin import ForgeTwin
from tools.toolbox import Readers
from web.correlate import correlate, spelled

ASSUMED = "assumed"
"""Tag of the version that is taken to run, where none is given."""
_NOBODY = UUID(int=0)


@dataclass(frozen=True)
class World:
    """What is assumed, or given, about the world that the event comes into."""

    running: Mapping[str, str | None] = field(default_factory=dict)
    """Image by `service/environment`; None: nothing runs there."""
    paths: tuple[str, ...] | None = None
    """Changed paths; None: as the event says."""
    codeowners: str | None = None
    roles: tuple[str, ...] = ("developer",)
    """Of whoever gave a command."""
    overrides: tuple[OverrideFact, ...] = ()
    approval: ApprovalRequest | None = None


@dataclass(frozen=True)
class Ruled:
    """A step and the decision on it."""

    step: Step
    facts: Facts
    decision: Decision


@dataclass(frozen=True)
class Explained:
    """A plan with a decision on each of its steps. `why_nothing` says why there is none."""

    at: datetime
    rules: Rules
    plan: Plan | None
    ruled: tuple[Ruled, ...]
    assumed: tuple[str, ...]
    why_nothing: str = ""

    def scopes(self) -> dict[str, list[Ruled]]:
        """Steps by scope, in order, without those that only speak."""
        found: dict[str, list[Ruled]] = {}
        for one in self.ruled:
            if not one.step.only_speaks:
                found.setdefault(one.step.scope, []).append(one)
        return found

    def next_opening(self, scope: str) -> str | None:
        """When a scope's windows open next, in words; None when they are open."""
        facts = self.scopes()[scope][0].facts
        return opening(self.rules, facts.environment or "", facts.service or "", self.at)


async def explained(
    body: EventBody, rules: Rules, catalogue: Catalogue, at: datetime, world: World
) -> Explained:
    """Plan an event and rule on each step of it as if it came up at `at`.

    A pull request that is still open is explained as if it were merged then. Raises BadEvent when
    nothing can be made of it.
    """
    body = spelled(body, catalogue)
    event = Event(
        id=_NOBODY, source="api", delivery_id="explain", body_digest="", received_at=at, body=body
    )
    intake = correlate(event, catalogue)[0]
    assumed = [f"the time is {at.isoformat()}"]
    match intake:
        case Ignore(reason=reason):
            return Explained(at, rules, None, (), (), reason)
        case SendSignal(kind=kind):
            return Explained(at, rules, None, (), (), f"it tells a running change: {kind}")
        case StartRun(goal=goal):
            pass
    if goal == "preview" and isinstance(body, PullRequestChanged):
        goal = "release"
        assumed.append("the pull request is merged as it is")
    conductor = _conductor(rules, catalogue, body, at, world)
    runtime = SimpleNamespace(context=SimpleNamespace(lease=None))
    state = initial(_NOBODY, event, goal)
    update = await conductor(state, cast(PassageRuntime, runtime))
    plan = update["plan"]
    if plan is None:
        raise BadEvent("no plan could be made of it")
    if world.paths is not None:
        change = plan.change.model_copy(update={"paths": world.paths})
        plan = plan.model_copy(update={"change": change})
    assumed += _told(plan, rules, world)
    ruled = tuple(_ruled(plan, update.get("baselines", ()), rules, at, world, body))
    why = ""
    if all(one.step.only_speaks for one in ruled):
        words = ", ".join(one.step.title for one in ruled)
        why = " ".join(plan.notes) or f"people are told ({words})"
    return Explained(at, rules, plan, ruled, tuple(assumed), why)


def _ruled(
    plan: Plan, baselines: Any, rules: Rules, at: datetime, world: World, body: EventBody
) -> list[Ruled]:
    begun: set[str] = set()
    found = []
    for step in plan.steps:
        target = target_of(step.action)
        more: dict[str, Any] = {
            "in_flight": step.scope in begun,
            "repository": RepositoryPolicy(state="absent", where="policy in the repository"),
            "overrides": world.overrides,
        }
        if target is not None:
            more |= reach(plan, target, tuple(cast("list[Baseline]", baselines)))
            more["error_budgets"] = _full(rules)
            if world.codeowners is not None and plan.change.paths is not None:
                more["owned"] = owned_paths(world.codeowners, plan.change.paths)
            else:
                more["owned_unknown"] = "no CODEOWNERS was given (--codeowners)"
        if isinstance(body, Commanded):
            roles = body.roles or world.roles
            more["commander"] = Commander(login=body.author.login, roles=roles)
        facts = facts_of(plan, step, more)
        found.append(Ruled(step, facts, evaluate(rules, facts, at)))
        if isinstance(step.action, K8sDeploy | K8sTraffic):
            begun.add(step.scope)
    return found


def _full(rules: Rules) -> tuple[ErrorBudget, ...]:
    seconds = rules.error_budget.seconds if rules.error_budget is not None else 0.0
    return (ErrorBudget(sli="every objective", remaining=1.0, window_seconds=seconds),)


def _told(plan: Plan, rules: Rules, world: World) -> list[str]:
    """What was taken for granted, in words."""
    told = []
    keys = {target.key for step in plan.steps if (target := target_of(step.action)) is not None}
    taken = sorted(key for key in keys if key not in world.running)
    if plan.goal == "rollback":
        told.append("the version before was proven good an hour earlier")
    if taken:
        told.append(f"an earlier version runs in {', '.join(taken)}")
    if plan.change.paths is None:
        told.append("the changed paths are unknown (name them with --path)")
    if rules.error_budget is not None:
        told.append("no error budget is used up")
    told.append("CI, scans, signature, cost and the repository have nothing to say")
    return told


def worst(ruled: list[Ruled]) -> Outcome:
    """The outcome that keeps a scope back most."""
    order = (Outcome.DENY, Outcome.WAIT, Outcome.NEEDS_APPROVAL, Outcome.ALLOW)
    return min((one.decision.outcome for one in ruled), key=order.index)


# --- the world that is assumed -------------------------------------------------------------------


def _conductor(
    rules: Rules, catalogue: Catalogue, body: EventBody, at: datetime, world: World
) -> Conductor:
    """The real Conductor, on readers that answer as assumed and stores that keep nothing."""
    forge = ForgeTwin()
    if isinstance(body, PullRequestChanged) and world.paths is not None:
        forge.paths[body.repo, body.number] = world.paths
    cluster = _Assumed(catalogue, world.running)
    readers = Readers(cluster, _Silent(), forge, cast(Any, None), cluster)
    return Conductor(
        lambda: catalogue,
        lambda: rules,
        readers,
        cast(Runs, _KeepsNothing(at)),
        cast(Releases, _KeepsNothing(at)),
        Wording(""),
        _Stopped(at),
        cast(Locks, _KeepsNothing(at)),
        cast(Any, None),
        Leaks(forge, cast(Any, None)),
    )


@dataclass(frozen=True)
class _Assumed:
    """A cluster in which an earlier version of everything runs, unless told otherwise."""

    catalogue: Catalogue
    running: Mapping[str, str | None]

    async def configuration(self, target: Target) -> Configuration:
        """What runs is taken to be what there is."""
        return ()

    async def workload(self, target: Target) -> WorkloadState:
        """The target's stable version."""
        service = self.catalogue.service(target.service)
        image = service.image.format(sha=ASSUMED, tag=ASSUMED) if service else ASSUMED
        image_there = self.running.get(target.key, image)
        if image_there is None:
            return WorkloadState(stable=None, canary=None, route=None)
        count = target.replicas
        stable = TrackState(
            name=target.workload.deployment,
            image=image_there,
            desired=count,
            updated=count,
            available=count,
            total=count,
            observed=True,
        )
        return WorkloadState(stable=stable, canary=None, route=None)


class _Silent:
    """Metrics that nobody looks at."""

    async def counts(
        self, sli: SLI, target: Target, version: str, at: datetime, window_seconds: float
    ) -> Counts | Gap:
        """No data."""
        return Gap(kind=VerdictKind.NODATA, reason="no metrics are looked at here")

    async def value(
        self, metric: Metric, target: Target, version: str, at: datetime, window_seconds: float
    ) -> float | Gap:
        """No data."""
        return Gap(kind=VerdictKind.NODATA, reason="no metrics are looked at here")


@dataclass(frozen=True)
class _KeepsNothing:
    """Stands in for the stores: a plan that is only explained leaves no trace."""

    at: datetime

    async def save_plan(self, *_: object) -> None:
        return None

    async def last_good(self, service: str, environment: str, **_: object) -> ReleaseRow:
        """An hour ago, an earlier version was proven."""
        return ReleaseRow(
            service=service,
            environment=environment,
            image=f"{service}:known-good",
            sha=None,
            run_id=_NOBODY,
            status="good",
            reason=ASSUMED,
            at=self.at - timedelta(hours=1),
        )

    async def holder(self, _key: str) -> None:
        """Nobody has a lock."""
        return


@dataclass(frozen=True)
class _Stopped:
    """A clock that stands at the time in question."""

    at: datetime
    speed: float = 1.0

    def now(self) -> datetime:
        return self.at
