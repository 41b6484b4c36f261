"""A past release, read back from a user's own Prometheus window by window."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr

from domain.metric import Metric
from domain.service import Catalogue, Environment, Service, Target
from domain.verdict import MetricWindow
from evals.judging_input import Case, read_options
from nodes.watch import judgeable, read_gauge, read_window
from tools.prometheus_past import PastPrometheus

MOST_WINDOWS = 2_000


@dataclass(frozen=True)
class PastRelease:
    """What ran, where, when, and against what."""

    catalogue: Catalogue
    service: str
    environment: str | None
    version: str
    baseline: str | None
    since: datetime
    until: datetime
    interval: float | None


def read_past(
    url: str, release: PastRelease, base: dict[str, Any], token: SecretStr | None = None
) -> Case:
    """Read the windows between two times. Raises ValueError with a sentence when that makes no
    sense; what Prometheus cannot answer becomes gaps in the windows, as it does live."""
    service, environment = _where(release)
    seconds = release.interval or environment.interval_seconds
    span = (release.until - release.since).total_seconds()
    count = math.floor(span / seconds + 1e-9)
    if count < 1:
        raise ValueError(f"--from to --to is {span:g} s, not even one window of {seconds:g} s")
    if count > MOST_WINDOWS:
        raise ValueError(f"{count:,} windows; at most {MOST_WINDOWS:,}: give a longer --interval")
    windows = asyncio.run(_read(url, token, release, service, environment, seconds, count))
    options = read_options(base, "--config")
    objectives = {**{sli.name: sli.objective for sli in service.slis}, **options.objectives}
    name = f"{service.name} {release.version} in {environment.name}"
    return Case(
        name,
        windows,
        type(options)(options.judge, objectives, options.weight),
        _own(release, service),
        release.baseline is not None,
    )


def _own(release: PastRelease, service: Service) -> tuple[Metric, ...]:
    """The service's own numbers that say something here."""
    return judgeable(service.metrics, compared=release.baseline is not None)


def _where(release: PastRelease) -> tuple[Service, Environment]:
    service = release.catalogue.service(release.service)
    if service is None:
        known = ", ".join(one.name for one in release.catalogue.services)
        raise ValueError(f"there is no service {release.service} in services.yaml; known: {known}")
    if not service.slis and not _own(release, service):
        raise ValueError(f"{service.name} has nothing in services.yaml to be judged by here")
    if release.environment is None:
        return service, service.environments[-1]
    environment = service.environment(release.environment)
    if environment is None:
        known = ", ".join(one.name for one in service.environments)
        raise ValueError(f"{service.name} has no environment {release.environment}; known: {known}")
    return service, environment


async def _read(
    url: str,
    token: SecretStr | None,
    release: PastRelease,
    service: Service,
    environment: Environment,
    seconds: float,
    count: int,
) -> tuple[MetricWindow, ...]:
    first = release.since + timedelta(seconds=seconds)
    last = release.since + timedelta(seconds=count * seconds)
    metrics = PastPrometheus(url, first, last, seconds, token)
    target = Target.of(service, environment)
    windows: list[MetricWindow] = []
    for index in range(count):
        start = release.since + timedelta(seconds=index * seconds)
        windows += await asyncio.gather(
            *(
                read_window(metrics, sli, target, release.version, release.baseline, start, seconds)
                for sli in service.slis
            ),
            *(
                read_gauge(metrics, own, target, release.version, release.baseline, start, seconds)
                for own in _own(release, service)
            ),
        )
    return tuple(windows)
