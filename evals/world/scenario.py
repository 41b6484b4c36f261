"""What is wrong with the world: the rules by which versions fail, crash, slow down or go unseen."""

from __future__ import annotations

from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Frozen):
    """How requests to some versions fare. Patterns are shell globs; `version` is the image tag.

    Of all rules that match, the last one that sets a value wins; None leaves it alone.
    """

    service: str = "*"
    namespace: str = "*"
    version: str = "*"
    track: str = "*"
    error_rate: float | None = Field(None, ge=0, le=1)
    slow: float | None = Field(None, ge=0, le=1)


class Outage(_Frozen):
    """A shared incident: all versions of the matching services suffer it, on top of their own."""

    service: str = "*"
    namespace: str = "*"
    error_rate: float = Field(0.0, ge=0, le=1)
    slow: float = Field(0.0, ge=0, le=1)


class Metering(_Frozen):
    """What is wrong with the metrics themselves. All but `scrape_gap` act when they are read."""

    down: bool = False
    """The Prometheus API and /metrics answer 503."""
    no_data: bool = False
    """Every query finds nothing."""
    nan: bool = False
    """Every sample reads NaN."""
    duplicates: bool = False
    """Every series exists twice, the second time with `replica="b"`."""
    scrape_gap: bool = False
    """Counters go on, but no samples are taken; the gap stays in the history."""


class Scenario(_Frozen):
    """The whole of it. Change it at run time through `World.set_scenario` or the control API."""

    error_rate: float = Field(0.001, ge=0, le=1)
    """Share of requests answered 500 where no rule says otherwise."""
    slow: float = Field(0.01, ge=0, le=1)
    """Share of requests slower than 0.3 s where no rule says otherwise."""
    traffic: float = Field(1.0, ge=0)
    """Factor on every service's request rate."""
    rules: tuple[Rule, ...] = ()
    outages: tuple[Outage, ...] = ()
    crash: tuple[str, ...] = ("broken*", "*crash*")
    """Globs of image tags whose pods never become ready."""
    startup_seconds: float = Field(5.0, ge=0)
    """Simulated seconds from a pod's creation to its readiness."""
    ignored_routes: tuple[str, ...] = ()
    """Globs of routes whose new weights are accepted but do not reach the data plane."""
    gateway_down: bool = False
    """The gateway's controller reports nothing: routes keep a stale observedGeneration."""
    metrics: Metering = Metering()

    def crashes(self, version: str) -> bool:
        """Whether pods of this image tag never become ready."""
        return any(fnmatchcase(version, pattern) for pattern in self.crash)

    def behaviour(
        self, service: str, namespace: str, version: str, track: str
    ) -> tuple[float, float]:
        """(error share, slow share) of one version, outages included."""
        error, slow = self.error_rate, self.slow
        for rule in self.rules:
            if (
                fnmatchcase(service, rule.service)
                and fnmatchcase(namespace, rule.namespace)
                and fnmatchcase(version, rule.version)
                and fnmatchcase(track, rule.track)
            ):
                error = error if rule.error_rate is None else rule.error_rate
                slow = slow if rule.slow is None else rule.slow
        for outage in self.outages:
            if fnmatchcase(service, outage.service) and fnmatchcase(namespace, outage.namespace):
                error = 1 - (1 - error) * (1 - outage.error_rate)
                slow = 1 - (1 - slow) * (1 - outage.slow)
        return error, slow
