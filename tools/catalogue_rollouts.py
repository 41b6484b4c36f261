"""What services.yaml asks of an Argo Rollout that it does not do, or does by itself."""

from __future__ import annotations

from collections.abc import Iterator

from domain.errors import SourceProblem
from domain.yaml_source import Located, Path
from tools.catalogue_file import ServiceShape


def rollout_problems(
    service: ServiceShape, path: Path, located: Located
) -> Iterator[SourceProblem]:
    """Findings about one service, if a Rollout carries it.

    A Rollout has its own router and its own steps, which Fermata follows and never writes.
    """
    if service.workload.executor != "argo-rollouts":
        return
    if service.workload.route is not None:
        yield located.problem(
            (*path, "workload", "route"),
            "a Rollout sets the weights of its traffic router itself",
            "take `route` out; the Rollout names its router in `strategy.canary.trafficRouting`",
        )
    for index, environment in enumerate(service.environments):
        here: Path = (*path, "environments", index)
        if environment.blue_green is not None:
            yield located.problem(
                (*here, "blue_green"),
                "a Rollout is driven from stop to stop of its canary steps, not blue and green",
                "give the Rollout canary steps and list their weights under `canary`, or use "
                "`executor: kubernetes`",
            )
        for n, step in enumerate(environment.canary):
            if step.match is not None:
                yield located.problem(
                    (*here, "canary", n, "match"),
                    "who reaches a Rollout's canary by header is told by the Rollout's own steps",
                    "take `match` out and add a `setHeaderRoute` step to the Rollout",
                )
            elif step.weight == 0:
                yield located.problem(
                    (*here, "canary", n, "weight"),
                    "a Rollout's stop has a weight, and there is none at 0",
                    "take the step out, or give it the weight of the Rollout's first stop",
                )
