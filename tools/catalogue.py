"""Loads services.yaml: the shape of `tools/catalogue_file.py` becomes the domain's catalogue."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from string import Template

from domain.errors import SourceError, SourceProblem
from domain.service import SLI, Catalogue, Environment, Service
from domain.yaml_source import Located, Path, load, validate
from tools.catalogue_delivery import delivery_problems, workload_of
from tools.catalogue_file import (
    CatalogueShape,
    DefaultsShape,
    EnvironmentShape,
    ServiceShape,
    SliShape,
)
from tools.catalogue_groups import group_problems
from tools.catalogue_metrics import (
    MetricShape,
    chosen_problems,
    length_problems,
    metric_of,
    metric_problems,
)
from tools.catalogue_rollouts import rollout_problems
from tools.catalogue_strategy import (
    blue_green_of,
    blue_green_problems,
    burn_of,
    group_of,
    step_of,
    step_problems,
)

VARIABLES = ("namespace", "service", "version", "window")
NEEDED = {
    "version": "without it canary and stable cannot be told apart",
    "window": "without it a window's events cannot be told from earlier ones",
}


def load_catalogue(text: str, file: str) -> Catalogue:
    """The catalogue that a services.yaml states. `file` is only named in messages.

    Raises `SourceError` with every finding at its line and column, each with a hint.
    """
    located = load(text, file)
    shape = validate(CatalogueShape, located)
    problems = sorted(_problems(shape, located), key=lambda one: (one.line, one.column))
    if problems:
        raise SourceError(tuple(problems))
    return Catalogue(
        services=tuple(_service(one, shape.defaults) for one in shape.services),
        groups=tuple(group_of(one) for one in shape.groups),
    )


# --- what values mean together -------------------------------------------------------------------


def _problems(shape: CatalogueShape, located: Located) -> Iterator[SourceProblem]:
    yield from _slis(shape.defaults.slis, ("defaults", "slis"), located)
    names: dict[str, Path] = {}
    workloads: dict[tuple[str, str], str] = {}
    places: dict[tuple[str, ...], str] = {}
    for index, service in enumerate(shape.services):
        path: Path = ("services", index)
        yield from _unique(service.name, (*path, "name"), names, "service", located)
        if service.slis is None and not shape.defaults.slis:
            yield located.problem(
                path,
                f"{service.name} has no SLI, so no release of it could be judged",
                "add `slis:` to the service, or once for all under `defaults:`",
            )
        yield from _slis(service.slis or [], (*path, "slis"), located)
        slis, metrics = service.slis or shape.defaults.slis, own_metrics(service, shape.defaults)
        where = ("defaults", "metrics") if service.metrics is None else (*path, "metrics")
        yield from metric_problems(metrics, [one.name for one in slis], where, located)
        for index, metric in enumerate(metrics):
            yield from _query(metric.query, (*where, index, "query"), located, ("version",))
        yield from _environments(service, shape.defaults, path, located)
        yield from _workloads(service, path, workloads, located)
        yield from delivery_problems(service, path, places, located)
        yield from rollout_problems(service, path, located)
    yield from group_problems(shape, located)


def _unique(
    name: str, path: Path, seen: dict[str, Path], what: str, located: Located
) -> Iterator[SourceProblem]:
    if name in seen:
        line = located.place(seen[name])[0]
        yield located.problem(
            path, f"a second {what} called {name!r}", f"the first one is in line {line}; rename one"
        )
    seen.setdefault(name, path)


def _slis(slis: list[SliShape], path: Path, located: Located) -> Iterator[SourceProblem]:
    names: dict[str, Path] = {}
    for index, sli in enumerate(slis):
        here: Path = (*path, index)
        yield from _unique(sli.name, (*here, "name"), names, "SLI", located)
        for key, query in (("bad", sli.bad), ("total", sli.total)):
            yield from _query(query, (*here, key), located)


def _query(
    query: str, path: Path, located: Located, needed: tuple[str, ...] = ("version", "window")
) -> Iterator[SourceProblem]:
    """A PromQL template may use the four variables, and has to use those that tell windows and
    versions apart."""
    template = Template(query)
    if not template.is_valid():
        yield located.problem(
            path, "a $ stands alone", "write $$ for a dollar sign, as at the end of a pattern"
        )
        return
    used = template.get_identifiers()
    for name in used:
        if name not in VARIABLES:
            close = difflib.get_close_matches(name, VARIABLES, n=1)
            offered = ", ".join(f"${one}" for one in VARIABLES)
            hint = f"did you mean ${close[0]}? " if close else ""
            yield located.problem(path, f"unknown variable ${name}", f"{hint}there are {offered}")
    for name in needed:
        if name not in used:
            yield located.problem(path, f"the query does not use ${name}", NEEDED[name])


def _environments(
    service: ServiceShape, defaults: DefaultsShape, path: Path, located: Located
) -> Iterator[SourceProblem]:
    names: dict[str, Path] = {}
    for index, environment in enumerate(service.environments):
        here: Path = (*path, "environments", index)
        yield from _unique(environment.name, (*here, "name"), names, "environment", located)
        interval = environment.interval or defaults.interval
        bakes: list[tuple[Path, float]] = [((*here, "bake"), environment.bake)]
        bakes += [
            ((*here, "canary", n, "bake"), step.bake)
            for n, step in enumerate(environment.canary)
            if step.bake is not None and (step.weight or step.bake)
        ]
        for where, bake in bakes:
            if bake < interval:
                yield located.problem(
                    where,
                    f"a bake of {bake:g}s is shorter than one window of {interval:g}s",
                    "make it longer, or `interval:` shorter; ten windows tell something",
                )
        yield from _weights(environment, here, located)
        yield from _strategy(service, environment, interval, here, located)
        yield from _judged(service, environment, defaults, here, located)


def _strategy(
    service: ServiceShape,
    environment: EnvironmentShape,
    interval: float,
    path: Path,
    located: Located,
) -> Iterator[SourceProblem]:
    """Steps, blue-green and watch of one environment."""
    has_route = service.workload.route is not None
    yield from step_problems(
        environment.canary, (*path, "canary"), has_route=has_route, located=located
    )
    if environment.blue_green is not None:
        here: Path = (*path, "blue_green")
        if environment.canary:
            yield located.problem(
                here,
                "an environment has a canary or blue-green, not both",
                "take one of them out; `match` and `pause` exist in both",
            )
        yield from blue_green_problems(
            environment.blue_green, here, interval=interval, has_route=has_route, located=located
        )
    watch = environment.watch
    if watch is not None and watch.every > watch.for_:
        yield located.problem(
            (*path, "watch", "every"),
            f"looking every {watch.every:g}s in {watch.for_:g}s is never",
            "let `every` be shorter than `for`: {for: 1h, every: 1m}",
        )


def _judged(
    service: ServiceShape,
    environment: EnvironmentShape,
    defaults: DefaultsShape,
    path: Path,
    located: Located,
) -> Iterator[SourceProblem]:
    """What each step is judged by is there, and can be judged in its time."""
    metrics = own_metrics(service, defaults)
    known = [one.name for one in service.slis or defaults.slis]
    known += [one.name for one in metrics]
    interval = environment.interval or defaults.interval
    for n, step in enumerate(environment.canary):
        here: Path = (*path, "canary", n)
        yield from chosen_problems(step.metrics, known, (*here, "metrics"), located)
        judged = [one for one in metrics if step.weight < 100 or one.limit is not None]
        if step.bake:
            yield from length_problems(
                judged, step.metrics, step.bake, interval, (*here, "bake"), located
            )
    absolute = [one for one in metrics if one.limit is not None]
    yield from length_problems(absolute, None, environment.bake, interval, (*path, "bake"), located)


def own_metrics(service: ServiceShape, defaults: DefaultsShape) -> list[MetricShape]:
    """The service's metrics: its own list where it has one, else what holds for all."""
    return defaults.metrics if service.metrics is None else service.metrics


def _weights(
    environment: EnvironmentShape, path: Path, located: Located
) -> Iterator[SourceProblem]:
    before = -1
    for index, step in enumerate(environment.canary):
        where: Path = (*path, "canary", index, "weight")
        if index == 0 and step.weight > 50:
            yield located.problem(
                where,
                f"a canary that begins with {step.weight}% is none",
                "begin small, with 10 or less; policy has the last word on the first weight",
            )
        if step.weight <= before:
            yield located.problem(
                where,
                f"the weight goes from {max(before, 0)}% to {step.weight}%",
                "let weights grow from step to step",
            )
        before = step.weight


def _workloads(
    service: ServiceShape, path: Path, seen: dict[tuple[str, str], str], located: Located
) -> Iterator[SourceProblem]:
    """No two targets may drive the same Deployment, or one would undo the other's release."""
    name = service.workload.deployment or service.name
    for index, environment in enumerate(service.environments):
        target = f"{service.name}/{environment.name}"
        holder = seen.setdefault((environment.namespace, name), target)
        if holder != target:
            yield located.problem(
                (*path, "environments", index, "namespace"),
                f"Deployment {name} in namespace {environment.namespace} is {holder}'s already",
                "give it another namespace, or another `workload: {deployment: ...}`",
            )


# --- into the domain -----------------------------------------------------------------------------


def _service(shape: ServiceShape, defaults: DefaultsShape) -> Service:
    return Service(
        name=shape.name,
        repo=shape.repo,
        paths=tuple(shape.paths),
        image=shape.image,
        owners=tuple(shape.owners),
        description=shape.description,
        docs=shape.docs,
        tags=tuple(shape.tags),
        workload=workload_of(shape),
        environments=tuple(_environment(one, defaults) for one in shape.environments),
        slis=tuple(_sli(one) for one in (shape.slis or defaults.slis)),
        metrics=tuple(metric_of(one) for one in own_metrics(shape, defaults)),
    )


def _environment(shape: EnvironmentShape, defaults: DefaultsShape) -> Environment:
    return Environment(
        name=shape.name,
        namespace=shape.namespace,
        canary=tuple(step_of(step) for step in shape.canary),
        blue_green=blue_green_of(shape.blue_green),
        burn=burn_of(shape.watch),
        bake_seconds=shape.bake,
        interval_seconds=shape.interval or defaults.interval,
        replicas=shape.replicas or defaults.replicas,
        request_rate=shape.request_rate,
    )


def _sli(shape: SliShape) -> SLI:
    return SLI(
        name=shape.name,
        kind=shape.kind,
        bad=shape.bad.strip(),
        total=shape.total.strip(),
        objective=shape.objective,
    )
