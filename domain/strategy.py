"""How a release reaches people: weights, testers by header or cookie, blue and green."""

from __future__ import annotations

from pydantic import Field

from domain.event import Frozen


class TrafficMatch(Frozen):
    """Requests that reach the canary whatever its weight: all of these headers, and the cookie."""

    headers: tuple[tuple[str, str], ...] = ()
    cookie: tuple[str, str] | None = None

    @property
    def words(self) -> str:
        """`header x-canary: yes and cookie canary=1`."""
        said = [f"header {name}: {value}" for name, value in self.headers]
        if self.cookie is not None:
            said.append("cookie " + "=".join(self.cookie))
        return " and ".join(said)


class CanaryStep(Frozen):
    """Traffic weight in percent, and how long it has to prove itself, in seconds.

    Weight 0 is for testers alone (`match`), or for a look at it before anybody is sent there.
    """

    weight: int = Field(ge=0, le=100)
    bake_seconds: float = Field(ge=0)
    """0: nothing is judged at this step."""
    metrics: tuple[str, ...] | None = None
    """Names of the indicators and metrics judged at this step; None: all."""
    match: TrafficMatch | None = None
    pause: bool = False
    """Whether a person has to say that it goes on, once the step is judged."""


class BlueGreen(Frozen):
    """The new version at full size beside the old one, then all traffic at once."""

    match: TrafficMatch | None = None
    """Who reaches the new version before the switch; None: nobody."""
    preview_seconds: float = Field(default=0, ge=0)
    """How long it is judged by what testers do there; 0: not at all."""
    pause: bool = False
    """Whether a person has to say that it is switched."""
    keep_seconds: float = Field(gt=0)
    """How long the new version is judged with all the traffic while the old one is kept."""
    metrics: tuple[str, ...] | None = None

    @property
    def steps(self) -> tuple[CanaryStep, ...]:
        """The same as steps of a canary."""
        preview = CanaryStep(
            weight=0,
            bake_seconds=self.preview_seconds,
            metrics=self.metrics,
            match=self.match,
            pause=self.pause,
        )
        switch = CanaryStep(weight=100, bake_seconds=self.keep_seconds, metrics=self.metrics)
        return preview, switch


class BurnWatch(Frozen):
    """How long, and how often, the error budget's burn rate is looked at after full rollout."""

    for_seconds: float = Field(gt=0)
    every_seconds: float = Field(gt=0)


class ReleaseGroup(Frozen):
    """Services of one repository that are released together, in this order."""

    name: str
    services: tuple[str, ...]
    whole: bool = False
    """Whether all are released when a change touches one of them."""
    together: bool = True
    """Whether a breach of one takes those before it back as well."""
