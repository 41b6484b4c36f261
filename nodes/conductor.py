"""Conductor: turns an event into a plan, and speaks for the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from domain.action import GitCommentPr, LockRelease, Notify
from domain.clock import Clock
from domain.configuration import Configuration
from domain.errors import Permanent
from domain.event import (
    Actor,
    AlertGroup,
    Command,
    Commanded,
    CommandName,
    Event,
    PullRequestChanged,
    Pushed,
    Tagged,
)
from domain.plan import Change, Plan, Step
from domain.run import RunState
from domain.service import Catalogue, Service, Target
from domain.state import Baseline, Outcome, Proposal, State, Update, current_step
from nodes.answering import Answering
from nodes.baselines import baseline_now, under_way
from nodes.foresight import Foreseen, foresee
from nodes.grouping import with_companions
from nodes.inquiry import Found, Inquiry
from nodes.leaks import Leaks
from nodes.passage import PassageRuntime
from nodes.planning import (
    NO_CONFIG,
    ConfigPlan,
    comment_step,
    image_for,
    notify_step,
    release_plan,
    release_steps,
    shown,
    way_back,
)
from nodes.wording import Wording
from policy.rules import Rules
from store.locks import Locks
from store.records import Lease
from store.releases import Releases
from store.runs import Runs
from tools.toolbox import Readers

LOOKED_THROUGH = ("release", "preview")
"""Goals of runs whose change is looked through for secrets; others change no code."""


@dataclass(frozen=True)
class Conductor:
    """Plans on first entry; afterwards proposes the steps that speak, with their words in."""

    catalogue: Callable[[], Catalogue]
    rules: Callable[[], Rules]
    readers: Readers
    runs: Runs
    releases: Releases
    wording: Wording
    clock: Clock
    locks: Locks
    answering: Answering
    leaks: Leaks

    async def __call__(self, state: State, runtime: PassageRuntime) -> Update:
        if state["plan"] is None:
            return await self._plan(state, runtime)
        return self._speak(state)

    async def _plan(self, state: State, runtime: PassageRuntime) -> Update:
        lease = runtime.context.lease
        if state["goal"] == "answer":
            return await self._answer(state, lease)
        change = await self._change(state["event"], state["goal"])
        if state["goal"] in LOOKED_THROUGH:
            scan = await self.leaks.of(change)
            change = change.model_copy(update={"secret_scan": scan})
        try:
            plan, baselines = await self._plan_for(state, change)
        except Permanent as error:
            return await self._no_plan(lease, state, change, error)
        await self.runs.save_plan(lease, plan)
        update = Update(plan=plan, steps=plan.steps, cursor=0, mode="forward", baselines=baselines)
        if not plan.steps:
            reason = " ".join(plan.notes) or "nothing to do"
            # A person who asked for something that cannot be done has not been served.
            refused = plan.goal == "nothing" and isinstance(state["event"].body, Commanded)
            ending = RunState.FAILED if refused else RunState.SUCCEEDED
            update["outcome"] = Outcome(state=ending, reason=reason)
        elif plan.steps[0].agent == "conductor":
            update["proposal"] = self._proposal(plan.steps[0], {**state, **update})
        return update

    async def _answer(self, state: State, lease: Lease) -> Update:
        """A comment's answer touches nothing that a change could be planned from."""
        event, run = state["event"], await self.runs.get(lease.run_id)
        change = Change(
            key=run.change_key if run is not None else f"answer:{event.id}",
            title=run.title if run is not None else "Answer",
            repo=run.repo if run is not None else None,
            author=Actor(login=run.author if run is not None else "unknown"),
        )
        plan = await self.answering.plan(change, event, run)
        await self.runs.save_plan(lease, plan)
        update = Update(plan=plan, steps=plan.steps, cursor=0, mode="forward", baselines=())
        if plan.steps:
            update["proposal"] = Proposal(step=plan.steps[0])
        else:
            update["outcome"] = Outcome(state=RunState.FAILED, reason=" ".join(plan.notes))
        return update

    async def _no_plan(
        self, lease: Lease, state: State, change: Change, error: Permanent
    ) -> Update:
        """What has to be known for a plan cannot be read, and trying again would not help."""
        reason = f"No plan could be made: {error}."
        if error.remedy:
            reason += f" What would help: {error.remedy}"
        goal = state["goal"]
        plan = Plan.model_validate(
            {"change": change, "goal": goal, "steps": (), "notes": (reason,)}
        )
        await self.runs.save_plan(lease, plan)
        return Update(
            plan=plan,
            steps=(),
            cursor=0,
            mode="forward",
            baselines=(),
            outcome=Outcome(state=RunState.FAILED, reason=reason),
        )

    def _speak(self, state: State) -> Update:
        step = current_step(state)
        assert step is not None
        return Update(proposal=self._proposal(step, state), ruling=None, finding=None)

    def _proposal(self, step: Step, state: State) -> Proposal:
        """The step with its words; a retry waits until its time."""
        action = step.action
        if isinstance(action, GitCommentPr) and not action.body:
            body = self.wording.progress(state)
            step = step.model_copy(update={"action": action.model_copy(update={"body": body})})
        elif isinstance(action, Notify) and not action.text:
            words = {"text": self.wording.next_up(state), "links": self.wording.links(state)}
            step = step.model_copy(update={"action": action.model_copy(update=words)})
        finding = state["finding"]
        if finding is not None and finding.kind == "again" and finding.not_before is not None:
            return Proposal(
                step=step, not_before=finding.not_before, not_before_reason=finding.reason
            )
        return Proposal(step=step)

    async def _change(self, event: Event, goal: str) -> Change:
        """The subject of the run, with the facts that policy asks about."""
        body = event.body
        match body:
            case PullRequestChanged():
                paths = await self.readers.forge.changed_paths(body.repo, body.number)
                merged = goal == "release"
                sha = (body.merge_sha if merged else None) or body.head_sha
                return Change(
                    key=f"release:{body.repo}@{sha}"
                    if merged
                    else f"pr:{body.repo}#{body.number}@{sha}",
                    title=body.title,
                    repo=body.repo,
                    number=body.number,
                    sha=sha,
                    base_sha=body.base_sha,
                    author=body.author,
                    merged_by=body.merged_by,
                    paths=paths,
                    lines=body.lines,
                    url=f"https://github.com/{body.repo}/pull/{body.number}",
                )
            case Pushed():
                return Change(
                    key=f"release:{body.repo}@{body.sha}",
                    title=f"Push of {body.sha[:7]} to {body.branch}",
                    repo=body.repo,
                    sha=body.sha,
                    base_sha=body.before,
                    author=body.author,
                    paths=body.paths,
                    url=f"https://github.com/{body.repo}/commit/{body.sha}",
                )
            case Tagged():
                return Change(
                    key=f"release:{body.repo}@{body.sha}#tag:{body.tag}",
                    title=f"Tag {body.tag}",
                    repo=body.repo,
                    sha=body.sha,
                    ref=f"refs/tags/{body.tag}",
                    author=body.author,
                    url=f"https://github.com/{body.repo}/releases/tag/{body.tag}",
                )
            case Commanded():
                return await self._commanded_change(body, event)
            case AlertGroup():
                firing = ", ".join(sorted({alert.name for alert in body.alerts}))
                return Change(
                    key=f"incident:{body.group_key}",
                    title=f"Alert {firing}",
                    author=Actor(login="alertmanager", is_bot=True),
                    url=body.external_url,
                )
            case _:
                return Change(
                    key=f"event:{event.id}", title=body.kind, author=Actor(login="unknown")
                )

    async def _commanded_change(self, body: Commanded, event: Event) -> Change:
        command = _deploying(body)
        sha: str | None = None
        service = self._service(command)
        repo = body.repo or (service.repo if service else None)
        if command is not None and command.name is CommandName.DEPLOY:
            if len(command.args) > 2:
                sha = command.args[2]
            elif body.repo is not None and body.number is not None:
                sha = await self.readers.forge.head_sha(body.repo, body.number)
        paths, opener = None, None
        if body.repo is not None and body.number is not None:
            paths = await self.readers.forge.changed_paths(body.repo, body.number)
            opener = await self.readers.forge.opener(body.repo, body.number)
        name = f"/{command.name.value} {' '.join(command.args)}" if command else "command"
        return Change(
            key=f"command:{event.id}",
            title=name,
            repo=repo,
            number=body.number,
            sha=sha,
            author=body.author,
            opened_by=Actor(login=opener) if opener else None,
            paths=paths,
            url=f"https://github.com/{repo}/pull/{body.number}" if body.number else "",
        )

    async def _plan_for(self, state: State, change: Change) -> tuple[Plan, tuple[Baseline, ...]]:
        body, goal = state["event"].body, state["goal"]
        match goal:
            case "rollback":
                assert isinstance(body, Commanded)
                return await self._rollback_plan(change, body)
            case "unlock":
                assert isinstance(body, Commanded)
                return await self._unlock_plan(change, body)
            case "notify":
                return self._alert_plan(change, state["event"]), ()
            case "preview":
                services = self._services(change)
                release, baselines = await self._release_plan(change, services)
                foreseen = await self._foreseen(release, baselines)
                text = self.wording.preview(change, release, foreseen)
                step = comment_step(change, "preview", "Say what a merge would do", text)
                return (
                    Plan(change=change, goal="preview", steps=(step,), notes=release.notes),
                    (),
                )
            case _:
                if isinstance(body, Commanded):
                    return await self._deploy_plan(change, body)
                return await self._release_plan(change, self._services(change), announce=True)

    async def _foreseen(self, plan: Plan, baselines: tuple[Baseline, ...]) -> tuple[Foreseen, ...]:
        """What the gate would say if the plan were carried out now."""
        rules = self.rules()
        inquiry = Inquiry(self.catalogue, self.readers.forge, self.readers.metrics, self.clock)

        async def asked(step: Step) -> Found:
            return await inquiry.about(plan, step, baselines, rules)

        return await foresee(plan, asked, self.clock.now())

    def _services(self, change: Change) -> tuple[Service, ...]:
        of_repo = self.catalogue().of_repo(change.repo or "")
        touched = tuple(service for service in of_repo if service.touches(change.paths))
        return with_companions(touched, of_repo, self.catalogue().groups)

    def _service(self, command: Command | None) -> Service | None:
        if command is None or not command.args:
            return None
        return self.catalogue().service(command.args[0])

    async def _running(
        self, services: tuple[Service, ...], only: str | None = None
    ) -> tuple[Baseline, ...]:
        running: list[Baseline] = []
        for service in services:
            for environment in service.environments:
                if only is not None and environment.name != only:
                    continue
                target = Target.of(service, environment)
                seen = await self.readers.cluster.workload(target)
                running.append(baseline_now(target, seen))
        return tuple(running)

    async def _configs(
        self, services: tuple[Service, ...], running: tuple[Baseline, ...]
    ) -> dict[str, ConfigPlan]:
        """What the configuration of each target is, and is to be. Raises Temporary, and Permanent
        for an object that is not there."""
        configs = {}
        before = {one.key: one.config for one in running}
        for service in services:
            versioned = service.workload.config
            if versioned is None:
                continue
            for environment in service.environments:
                target = Target.of(service, environment)
                if target.key not in before:
                    continue
                configs[target.key] = ConfigPlan(
                    running=before[target.key],
                    wanted=await self.readers.config.configuration(target),
                    keep=await self._kept(target, versioned.keep),
                )
        return configs

    async def _kept(self, target: Target, count: int) -> Configuration:
        """What the last good versions ran with."""
        return await self.releases.kept(target.service, target.environment, count)

    async def _release_plan(
        self,
        change: Change,
        services: tuple[Service, ...],
        *,
        only: str | None = None,
        announce: bool = False,
    ) -> tuple[Plan, tuple[Baseline, ...]]:
        if not services:
            note = f"No service of {change.repo} in services.yaml is touched by this change."
            return Plan(change=change, goal="nothing", steps=(), notes=(note,)), ()
        running = await self._running(services, only)
        plan = release_plan(
            change,
            services,
            {one.key: one.image for one in running},
            groups=self.catalogue().groups,
            only_environment=only,
            announce=announce,
            configs=await self._configs(services, running),
        )
        return plan, running

    async def _deploy_plan(
        self, change: Change, body: Commanded
    ) -> tuple[Plan, tuple[Baseline, ...]]:
        command = _deploying(body)
        service = self._service(command)
        if command is None or service is None:
            return _nothing(change, "There is no such service in services.yaml.")
        if change.sha is None:
            return _nothing(
                change,
                "The commit to deploy is not known: the pull request's head could not be read. "
                f"Name it: /deploy {service.name} {command.args[1]} <sha>.",
            )
        return await self._release_plan(change, (service,), only=command.args[1])

    async def _rollback_plan(
        self, change: Change, body: Commanded
    ) -> tuple[Plan, tuple[Baseline, ...]]:
        command = _deploying(body)
        service = self._service(command)
        environment = service.environment(command.args[1]) if service and command else None
        if service is None or environment is None:
            return _nothing(change, "There is no such service or environment in services.yaml.")
        target = Target.of(service, environment)
        held = await self.locks.holder(target.key)
        if held is not None and held.alive and await self._goes_back(held.run_id):
            return _nothing(
                change,
                f"Run {str(held.run_id)[:8]} is taking {target.key} back already; look there. "
                "When it is over, another `/rollback` takes back what runs then.",
            )
        seen = await self.readers.cluster.workload(target)
        baseline = baseline_now(target, seen)
        current = baseline.image
        canary = under_way(seen, held=held is not None)
        if current is not None and canary is not None:
            steps = way_back(
                service,
                environment,
                current,
                had_canary=True,
                verify=True,
                config=baseline.config or None,
            )
            note = (
                f"{shown(canary.image)} is under way as a canary: it is what goes back, and "
                f"{shown(current)} stays. Another `/rollback` then takes that one back."
            )
            return Plan(change=change, goal="rollback", steps=steps, notes=(note,)), (baseline,)
        good = await self.releases.last_good(
            service.name, environment.name, but=current, but_config=baseline.config
        )
        if good is None:
            return _nothing(
                change,
                f"No earlier version of {target.key} is known to be good, so there is nothing to "
                f"roll back to. Deploy one: /deploy {service.name} {environment.name} <sha>.",
            )
        baselines = (baseline,)
        since = self.clock.now() - good.at
        if since > self.rules().autonomy.fast_rollback and environment.stages:
            # What was good long ago may not fit today's data: it has to prove itself again.
            config = NO_CONFIG
            if service.workload.config is not None:
                kept = await self._kept(target, service.workload.config.keep)
                config = ConfigPlan(running=baseline.config, wanted=good.config, keep=kept)
            steps = release_steps(service, environment, good.image, current, config)
            note = (
                f"{shown(good.image)} was proven good {since.days} days ago, longer than "
                "autonomy.fast_rollback: it goes through the canary."
            )
            plan = Plan(change=change, goal="rollback", steps=steps, notes=(note,))
            return plan, baselines
        steps = way_back(
            service,
            environment,
            good.image,
            had_canary=seen.canary is not None,
            verify=True,
            config=good.config or None,
        )
        return Plan(change=change, goal="rollback", steps=steps), baselines

    async def _goes_back(self, run_id: UUID) -> bool:
        """Whether a run is a rollback: one that is asked for twice happens once."""
        run = await self.runs.get(run_id)
        return run is not None and run.goal == "rollback"

    async def _unlock_plan(
        self, change: Change, body: Commanded
    ) -> tuple[Plan, tuple[Baseline, ...]]:
        command = _deploying(body)
        service = self._service(command)
        environment = service.environment(command.args[1]) if service and command else None
        if command is None or service is None or environment is None:
            return _nothing(change, "There is no such service or environment in services.yaml.")
        # numbered runs are told the pull request's commands, and this one is none of its runs
        change = change.model_copy(update={"number": None})
        key = Target.of(service, environment).key
        held = await self.locks.holder(key)
        if held is None:
            return _nothing(change, f"Nobody holds the lock of {key}.")
        action = LockRelease(
            key=key,
            holder=held.run_id,
            principal=body.author.login,
            reason=" ".join(command.args[2:])[:500],
        )
        step = Step(
            id=f"{key}.unlock",
            title=f"Free {key} from {held.title} (run {str(held.run_id)[:8]})",
            agent="conductor",
            stage=key,
            scope=key,
            action=action,
        )
        return Plan(change=change, goal="unlock", steps=(step,)), ()

    def _alert_plan(self, change: Change, event: Event) -> Plan:
        body = event.body
        assert isinstance(body, AlertGroup)
        names = {alert.labels.get("service", "") for alert in body.alerts}
        owners = [
            service.owners[0]
            for name in sorted(names)
            if (service := self.catalogue().service(name)) and service.owners
        ]
        step = notify_step(
            "alert",
            change.title,
            self.wording.alert(body),
            owners[0] if owners else "on-call",
            "critical"
            if any(a.labels.get("severity") == "critical" for a in body.alerts)
            else "warning",
            (("Alertmanager", body.external_url),) if body.external_url else (),
        )
        return Plan(change=change, goal="notify", steps=(step,))


def _deploying(body: Commanded) -> Command | None:
    wanted = (CommandName.DEPLOY, CommandName.ROLLBACK, CommandName.UNLOCK)
    return next((c for c in body.commands if c.name in wanted), None)


def _nothing(change: Change, note: str) -> tuple[Plan, tuple[Baseline, ...]]:
    return Plan(change=change, goal="nothing", steps=(), notes=(note,)), ()


__all__ = ["Conductor", "image_for"]
