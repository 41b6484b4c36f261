"""What services.yaml says about executors: what fits together, and what an executor cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from domain.errors import SourceProblem
from domain.service import CloudDeploy, GitOps, Workload
from domain.yaml_source import Located, Path
from tools.catalogue_config import config_of_shape, config_problems
from tools.catalogue_executors import CloudDeployShape, GitOpsShape
from tools.catalogue_file import EnvironmentShape, ServiceShape

BLOCKS = (("cloud-deploy", "cloud_deploy"), ("gitops", "gitops"))
"""Executors that need more than the names of objects, and the key under which it stands."""


def delivery_problems(
    service: ServiceShape, path: Path, seen: dict[tuple[str, ...], str], located: Located
) -> Iterator[SourceProblem]:
    """Findings about one service's workload. `seen` holds the places that others write to."""
    workload, here = service.workload, (*path, "workload")
    for executor, key in BLOCKS:
        given = getattr(workload, key)
        if workload.executor == executor and given is None:
            yield located.problem(
                (*here, "executor"),
                f"{service.name} is released by {executor}, but there is no `{key}:`",
                f"add `{key}:` to the workload (docs/executors.md shows one)",
            )
        if workload.executor != executor and given is not None:
            yield located.problem(
                (*here, key),
                f"`{key}:` says nothing while the executor is {workload.executor}",
                f"write `executor: {executor}`, or take it out",
            )
    yield from config_problems(workload.config, workload.executor, (*here, "config"), located)
    if workload.executor == "cloud-deploy" and workload.cloud_deploy is not None:
        yield from _cloud_deploy(service, workload.cloud_deploy, path, seen, located)
    if workload.executor == "gitops" and workload.gitops is not None:
        yield from _gitops(service, workload.gitops, path, seen, located)


def _cloud_deploy(
    service: ServiceShape,
    delivery: CloudDeployShape,
    path: Path,
    seen: dict[tuple[str, ...], str],
    located: Located,
) -> Iterator[SourceProblem]:
    here = (*path, "workload", "cloud_deploy")
    yield from _no_route(service, path, "Cloud Deploy shifts traffic by itself", located)
    names = [one.name for one in service.environments]
    for name in delivery.targets:
        if name not in names:
            yield located.problem(
                (*here, "targets", name),
                f"{service.name} has no environment {name!r}",
                f"it has {', '.join(names)}",
            )
    for index, environment in enumerate(service.environments):
        yield from _phases(environment, (*path, "environments", index), located)
        target = delivery.targets.get(environment.name, environment.name)
        place = ("cloud-deploy", delivery.project, delivery.location, delivery.pipeline, target)
        what = f"target {target} of pipeline {delivery.pipeline}"
        where = (*path, "environments", index, "name")
        yield from _alone(f"{service.name}/{environment.name}", place, what, where, seen, located)


def _phases(environment: EnvironmentShape, path: Path, located: Located) -> Iterator[SourceProblem]:
    """A canary of Cloud Deploy is its pipeline's: percentages above 0 and below 100."""
    yield from _no_switch(environment, "Cloud Deploy", path, located)
    for n, step in enumerate(environment.canary):
        here = (*path, "canary", n)
        if step.weight == 100:
            yield located.problem(
                (*here, "weight"),
                "Cloud Deploy has no canary of 100%: its last phase is the release itself",
                "end the canary below 100, with the percentages that the pipeline has",
            )
        if step.weight == 0 or step.match is not None:
            yield located.problem(
                here,
                "a phase of Cloud Deploy has a percentage, and no testers beside it",
                "take `match:` and steps of weight 0 out, or choose another executor",
            )


def _no_switch(
    environment: EnvironmentShape, whose: str, path: Path, located: Located
) -> Iterator[SourceProblem]:
    if environment.blue_green is not None:
        yield located.problem(
            (*path, "blue_green"),
            f"{whose} cannot switch between two versions",
            "take `blue_green:` out, or choose another executor",
        )


def _gitops(
    service: ServiceShape,
    delivery: GitOpsShape,
    path: Path,
    seen: dict[tuple[str, ...], str],
    located: Located,
) -> Iterator[SourceProblem]:
    here = (*path, "workload", "gitops")
    yield from _no_route(service, path, "a release through Git shifts no traffic", located)
    if (delivery.application is None) == (delivery.kustomization is None):
        yield located.problem(
            here,
            "it is not clear which controller brings changes to the cluster",
            "name an Argo CD `application:` or a Flux `kustomization:`, as namespace/name",
        )
    if delivery.kustomize is not None and delivery.field is not None:
        yield located.problem(
            (*here, "field"), "the image stands in one place", "name `kustomize:` or `field:`"
        )
    if delivery.writes == "tag" and delivery.field is None:
        yield located.problem(
            (*here, "writes"),
            "a tag alone is written to a field",
            "name the field that holds it, such as `field: image.tag`",
        )
    if delivery.merge and delivery.through == "commit":
        yield located.problem(
            (*here, "merge"),
            "a commit needs no merge",
            "write `through: pull-request`, or take `merge:` out",
        )
    for index, environment in enumerate(service.environments):
        whose = "a release through Git"
        yield from _no_switch(environment, whose, (*path, "environments", index), located)
        if environment.canary:
            yield located.problem(
                (*path, "environments", index, "canary"),
                f"{service.name} is released by gitops, which has no weights, so it cannot have a "
                "canary",
                "take `canary:` out (the release is judged after full roll-out), or choose "
                "another executor",
            )
        filled = [
            one.replace("{environment}", environment.name).replace("{service}", service.name)
            for one in (delivery.file, delivery.kustomize or delivery.field or service.name)
        ]
        place = ("gitops", (delivery.repo or service.repo).lower(), delivery.branch, *filled)
        where = (*path, "environments", index, "name")
        yield from _alone(
            f"{service.name}/{environment.name}", place, f"{filled[0]}", where, seen, located
        )


def _no_route(
    service: ServiceShape, path: Path, why: str, located: Located
) -> Iterator[SourceProblem]:
    if service.workload.route is not None:
        yield located.problem(
            (*path, "workload", "route"), f"{why}, so there is no route to name", "take it out"
        )


def _alone(
    target: str,
    place: tuple[str, ...],
    what: str,
    where: Path,
    seen: dict[tuple[str, ...], str],
    located: Located,
) -> Iterator[SourceProblem]:
    """No two targets may write to the same place, or one would undo the other's release."""
    holder = seen.setdefault(place, target)
    if holder != target:
        yield located.problem(
            where,
            f"{target} and {holder} would both write to {what}",
            "give each its own, for example with {environment} in the name",
        )


def workload_of(shape: ServiceShape) -> Workload:
    """The workload with what its executor needs."""
    deployment = shape.workload.deployment or shape.name
    return Workload(
        executor=shape.workload.executor,
        deployment=deployment,
        container=shape.workload.container or deployment,
        port=shape.workload.port,
        route=shape.workload.route,
        progress_deadline_seconds=shape.workload.progress_deadline,
        share_wait_seconds=shape.workload.share_wait,
        config=config_of_shape(shape.workload.config),
        cloud_deploy=_pipeline_of(shape.workload.cloud_deploy),
        gitops=_git_of(shape.workload.gitops, shape.repo),
    )


def _pipeline_of(shape: CloudDeployShape | None) -> CloudDeploy | None:
    if shape is None:
        return None
    return CloudDeploy(
        project=shape.project,
        location=shape.location,
        pipeline=shape.pipeline,
        source=shape.source,
        artifact=shape.artifact or "",
        targets=tuple(sorted(shape.targets.items())),
        approve=shape.approve,
    )


def _git_of(shape: GitOpsShape | None, repo: str) -> GitOps | None:
    if shape is None:
        return None
    return GitOps(
        repo=shape.repo or repo,
        branch=shape.branch,
        file=shape.file,
        kustomize=shape.kustomize or "",
        field=shape.field or "",
        writes=shape.writes,
        through=shape.through,
        merge=shape.merge,
        application=shape.application or "",
        kustomization=shape.kustomization or "",
    )
