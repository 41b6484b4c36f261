"""The deterministic planner: a change and what runs now become a plan. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from domain.action import (
    GitCommentPr,
    GitReact,
    K8sDeploy,
    K8sPrune,
    K8sRetire,
    K8sRollback,
    K8sTraffic,
    MetricsCheck,
    Notify,
    Pause,
    Watched,
)
from domain.configuration import Configuration, differs, for_the_record
from domain.event import Frozen
from domain.plan import Change, Plan, Step
from domain.service import Environment, Service, Target
from domain.strategy import CanaryStep, ReleaseGroup
from nodes.grouping import blocks

_COMMIT = re.compile(r"[0-9a-f]{40}")
WORDS = "words"
"""Scope of steps that only speak; nothing in it ever needs an approval."""


def version_of(image: str | None) -> str:
    """The version label a workload's metrics carry: the image's tag, or the digest's first 12."""
    if not image:
        return ""
    name, _, digest = image.partition("@sha256:")
    if digest:
        return digest[:12]
    last = name.rsplit("/", 1)[-1]
    return last.partition(":")[2] or "latest"


def shown(image: str | None) -> str:
    """A version for people: a full commit id is cut to its first 12 digits."""
    version = version_of(image)
    return version[:12] if _COMMIT.fullmatch(version) else version


def deployed_config(plan: Plan, key: str) -> Configuration:
    """The configuration that a plan brings to a target; () where it is not known beforehand."""
    deploy = _deploy_of(plan, key)
    return for_the_record(deploy.config) if deploy is not None else ()


def deployed_image(plan: Plan, key: str) -> str | None:
    """The image that a plan brings to a target; None when it deploys nothing there."""
    deploy = _deploy_of(plan, key)
    return deploy.image if deploy is not None else None


def _deploy_of(plan: Plan, key: str) -> K8sDeploy | None:
    for step in plan.steps:
        if step.scope == key and isinstance(step.action, K8sDeploy):
            return step.action
    return None


def image_for(service: Service, change: Change) -> str:
    """The image a change was built into, after the service's template."""
    tag = change.ref.removeprefix("refs/tags/") if change.ref else (change.sha or "")
    return service.image.format(sha=change.sha or "", tag=tag)


class ConfigPlan(Frozen):
    """A target's configuration: what runs, what its objects hold now, and what is to be kept."""

    running: Configuration = ()
    wanted: Configuration = ()
    keep: Configuration = ()

    @property
    def is_new(self) -> bool:
        """Whether releasing changes it."""
        return differs(self.running, self.wanted)


NO_CONFIG = ConfigPlan()


def release_steps(
    service: Service,
    environment: Environment,
    image: str,
    running: str | None,
    config: ConfigPlan = NO_CONFIG,
) -> tuple[Step, ...]:
    """Steps that bring one service to `image`, with its configuration, in one environment.

    With stages and a running version: pre check, then per stage capacity, weight, check and pause,
    then stable, weight back, canary away, post check. Without either: roll, post check.
    """
    target = Target.of(service, environment)
    make = _Maker(target)
    steps: list[Step] = []
    if environment.stages and running is not None:
        steps.append(
            make.step(
                "pre",
                f"Is {service.name} healthy before the change?",
                _check(environment, target, "pre", version_of(running), None, 0),
                "before",
            )
        )
        for one in environment.stages:
            steps += _stage(make, service, environment, one, image, running, config.wanted)
        steps += [
            make.step(
                "full.stable",
                f"Roll stable to {shown(image)}",
                K8sDeploy(
                    target=target, track="stable", image=image, weight=100, config=config.wanted
                ),
                "full",
            ),
            make.step(
                "full.weight",
                "Give stable all traffic again",
                K8sTraffic(target=target, weight=0),
                "full",
            ),
            make.step("full.retire", "Retire the canary", K8sRetire(target=target), "full"),
        ]
    else:
        steps.append(
            make.step(
                "full.stable",
                f"Roll {service.name} to {shown(image)}" + ("" if running else " (first install)"),
                K8sDeploy(
                    target=target, track="stable", image=image, weight=100, config=config.wanted
                ),
                "full",
            )
        )
    steps.append(
        make.step(
            "full.check",
            f"Judge {service.name} after full rollout",
            _check(environment, target, "post", version_of(image), None, 100),
            "full",
        )
    )
    if service.workload.config is not None:
        known = tuple(one for one in (*config.running, *config.wanted) if one.digest)
        keep = tuple(dict.fromkeys((*known, *config.keep)))
        steps.append(
            make.step(
                "full.prune",
                "Delete copies of configuration that nothing goes back to",
                K8sPrune(target=target, keep=keep),
                "full",
            )
        )
    return tuple(steps)


def watch_steps(
    released: Sequence[tuple[Service, Environment, str]], *, together: bool
) -> tuple[Step, ...]:
    """The watches over burn rates once all of a block is out, where environments have one.

    What stands and falls together is watched at the same time, by one step at the latest target.
    """
    watched = [one for one in released if one[1].burn is not None]
    if together and watched:
        return (_watch_step(*watched[-1], also=watched[:-1]),)
    return tuple(_watch_step(*one, also=()) for one in watched)


def _watch_step(
    service: Service,
    environment: Environment,
    image: str,
    *,
    also: Sequence[tuple[Service, Environment, str]],
) -> Step:
    burns = [one.burn for _, one, _ in (*also, (service, environment, image)) if one.burn]
    length = max(one.for_seconds for one in burns)
    target = Target.of(service, environment)
    others = [
        Watched(target=Target.of(one, place), version=version_of(of)) for one, place, of in also
    ]
    check = MetricsCheck(
        target=target,
        phase="burn",
        version=version_of(image),
        baseline=None,
        weight=100,
        bake_seconds=length,
        interval_seconds=min(one.every_seconds for one in burns),
        also=tuple(others),
    )
    names = " and ".join([*(one.name for one, _, _ in also), service.name])
    return _Maker(target).step("full.burn", f"Watch the error budget of {names}", check, "full")


def _stage(
    make: _Maker,
    service: Service,
    environment: Environment,
    one: CanaryStep,
    image: str,
    running: str,
    config: Configuration,
) -> Iterator[Step]:
    """Capacity, weight, check and pause of one step before full rollout."""
    target = Target.of(service, environment)
    stage = f"canary {one.weight}%"
    # Blue and green stand at full size from the beginning; nobody is sent to pods not there yet.
    size = 100 if environment.blue_green is not None else max(1, one.weight)
    reached = f"{one.weight}% of the traffic"
    if one.match is not None:
        reached = f"requests with {one.match.words}" + (f" and {reached}" if one.weight else "")
    elif one.weight == 0:
        reached = "a look before anybody is sent there"
    yield make.step(
        f"canary-{one.weight}.pods",
        f"Canary pods of {shown(image)} for {reached}",
        K8sDeploy(target=target, track="canary", image=image, weight=size, config=config),
        stage,
    )
    if one.weight or one.match is not None:
        yield make.step(
            f"canary-{one.weight}.weight",
            f"Give the canary {reached}",
            K8sTraffic(target=target, weight=one.weight, match=one.match),
            stage,
        )
    if one.bake_seconds > 0:
        yield make.step(
            f"canary-{one.weight}.check",
            f"Judge the canary at {one.weight}%",
            MetricsCheck(
                target=target,
                phase="canary",
                version=version_of(image),
                baseline=compared_with(version_of(image), running) if one.weight < 100 else None,
                weight=one.weight,
                bake_seconds=one.bake_seconds,
                interval_seconds=environment.interval_seconds,
                metrics=one.metrics,
            ),
            stage,
        )
    if one.pause:
        question = f"{shown(image)} is a canary for {reached} in {target.key}. Go on?"
        yield make.step(
            f"canary-{one.weight}.pause",
            "Wait for a person to say that it goes on",
            Pause(target=target, question=question),
            stage,
        )


def compared_with(version: str, running: str) -> str | None:
    """What a canary is compared with. Metrics tell tracks apart by version: where only the
    configuration is new, there is nothing to compare, and what the SLO promises counts."""
    before = version_of(running)
    return before if before != version else None


def way_back(
    service: Service,
    environment: Environment,
    image: str | None,
    *,
    had_canary: bool,
    verify: bool = False,
    config: Configuration | None = None,
) -> tuple[Step, ...]:
    """Steps that bring a target back, see `back_steps`. `verify` adds a check at the end, for a
    rollback that a person asked for."""
    target = Target.of(service, environment)
    steps = back_steps(target, image, had_canary=had_canary, config=config)
    if not (verify and image):
        return steps
    check = _Maker(target).step(
        "rollback.check",
        f"Judge {service.name} after the rollback",
        _check(environment, target, "post", version_of(image), None, 100),
        "rollback",
    )
    return (*steps, check)


def back_steps(
    target: Target, image: str | None, *, had_canary: bool, config: Configuration | None = None
) -> tuple[Step, ...]:
    """Steps that bring a target back: stable has capacity, weight 0, canary away.

    `image` None leaves stable as it is (it was never touched); `config` is what the image ran with,
    None where nobody knows.
    """
    make = _Maker(target)
    back_to = f"to {shown(image)}" if image else "as it is"
    steps = [
        make.step(
            "rollback.stable",
            f"Stable of {target.service} {back_to}, at full capacity",
            K8sRollback(target=target, image=image, config=config),
            "rollback",
        )
    ]
    if had_canary:
        steps += [
            make.step(
                "rollback.weight",
                "Take all traffic from the canary",
                K8sTraffic(target=target, weight=0),
                "rollback",
            ),
            make.step("rollback.retire", "Retire the canary", K8sRetire(target=target), "rollback"),
        ]
    return tuple(steps)


def release_plan(
    change: Change,
    services: Sequence[Service],
    running: Mapping[str, str | None],
    *,
    groups: Sequence[ReleaseGroup] = (),
    only_environment: str | None = None,
    announce: bool = False,
    configs: Mapping[str, ConfigPlan] | None = None,
) -> Plan:
    """Release each service through its environments in order, groups of them side by side.

    `running` maps `service/environment` to the image that runs there (None: nothing does),
    `configs` to its configuration, where it has any.
    With `announce`, words about what comes next precede each environment that has a canary.
    """
    steps: list[Step] = []
    notes: list[str] = []
    if change.paths is None and change.number is not None:
        notes.append(
            "The changed paths could not be read (no forge credentials), so every service of "
            f"{change.repo} is taken as touched."
        )
    together: list[tuple[str, ...]] = []
    for block in blocks(services, groups, only_environment):
        released: list[tuple[Service, Environment, str]] = []
        for service, environment in block.targets:
            image = image_for(service, change)
            key = f"{service.name}/{environment.name}"
            now_running = running.get(key)
            config = (configs or {}).get(key, NO_CONFIG)
            if now_running == image and config.is_new:
                notes.append(_only_config(key, image, config))
            elif now_running == image:
                notes.append(f"{key} already runs {shown(image)}; nothing to do there.")
                continue
            if now_running is None:
                notes.append(f"{key} runs nothing yet: first install, without a canary.")
            if announce and environment.stages:
                steps += _announce(change, service, key)
            steps += release_steps(service, environment, image, now_running, config)
            released.append((service, environment, image))
        # Until all of a block is out, none of it may be handed over to a newer change.
        steps += watch_steps(released, together=block.together)
        if block.together:
            together.append(block.keys)
            notes.append(f"{' and '.join(block.keys)} stand and fall together, in this order.")
    return Plan(
        change=change,
        goal="release",
        steps=tuple(steps),
        notes=tuple(notes),
        together=tuple(together),
    )


def _only_config(key: str, image: str, config: ConfigPlan) -> str:
    new = [one for one in config.wanted if one not in config.running or not one.digest]
    names = " and ".join(f"{one.kind} {one.name}" for one in new) or "what it takes"
    return (
        f"{key} already runs {shown(image)}; its configuration is new ({names}), so that is "
        "released. Metrics name versions by their image and cannot tell the tracks apart: the "
        "canary is held to the SLO, not to stable."
    )


def _announce(change: Change, service: Service, key: str) -> Iterator[Step]:
    """Tell the pull request and the owners before an environment that may ask for a person."""
    if change.number is not None:
        yield comment_step(change, f"{key}.announce", f"Say that {key} is next")
    channel = service.owners[0] if service.owners else "releases"
    yield notify_step(f"{key}.notify", f"{change.title}: {key} is next", "", channel, "info")


def comment_step(change: Change, id: str, title: str, body: str = "") -> Step:
    """Upsert the pull request's sticky comment; an empty body is written when its turn comes."""
    assert change.repo is not None
    assert change.number is not None
    return Step(
        id=id,
        title=title,
        agent="conductor",
        stage="words",
        scope=WORDS,
        action=GitCommentPr(repo=change.repo, number=change.number, marker="release", body=body),
    )


def notify_step(
    id: str,
    title: str,
    text: str,
    channel: str,
    severity: Literal["info", "warning", "critical"],
    links: tuple[tuple[str, str], ...] = (),
) -> Step:
    """Tell people through the notification channel; an empty text is written in its turn."""
    return words_step(
        id, Notify(channel=channel, severity=severity, title=title, text=text, links=links)
    )


def words_step(id: str, notice: Notify | GitCommentPr | GitReact) -> Step:
    """The step that says something as it is."""
    match notice:
        case Notify():
            title = f"Notify: {notice.title}"
        case GitCommentPr():
            title = f"Reply on #{notice.number}"
        case GitReact():
            title = "Show that the comment was read"
    return Step(
        id=id,
        title=title,
        agent="conductor",
        stage="words",
        scope=WORDS,
        action=notice,
    )


class _Maker:
    """Builds the steps of one target with ids and scope in one form."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def step(
        self,
        id: str,
        title: str,
        action: K8sDeploy | K8sTraffic | K8sRollback | K8sRetire | K8sPrune | MetricsCheck | Pause,
        stage: str = "full",
    ) -> Step:
        key = self._target.key
        return Step(
            id=f"{key}.{id}",
            title=title,
            agent="release",
            stage=f"{key} {stage}",
            scope=key,
            action=action,
        )


def _check(
    environment: Environment,
    target: Target,
    phase: Literal["pre", "post"],
    version: str,
    baseline: str | None,
    weight: int,
) -> MetricsCheck:
    return MetricsCheck(
        target=target,
        phase=phase,
        version=version,
        baseline=baseline,
        weight=weight,
        bake_seconds=environment.bake_seconds,
        interval_seconds=environment.interval_seconds,
    )
