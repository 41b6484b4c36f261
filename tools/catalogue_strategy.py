"""How a service is released, in services.yaml: shapes of steps, blue-green, watches and groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from domain.errors import SourceProblem
from domain.source_hints import wrong
from domain.strategy import BlueGreen, BurnWatch, CanaryStep, ReleaseGroup, TrafficMatch
from domain.yaml_source import Located, Path
from tools.catalogue_values import Interval, Label, Seconds, Shape

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_|~-]{1,256}")
_COOKIE = re.compile(r"[^\s;,\"\\=]+=[^\s;,\"\\]+")


def header_names(value: Any) -> Any:
    """Header names with their values, as text."""
    if not isinstance(value, dict) or not value:
        raise wrong("expected headers", "for example `headers: {x-canary: always}`")
    for name, given in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            raise wrong(f"{str(name)[:70]!r} is not the name of a header", "such as x-canary")
        if not isinstance(given, str) or not 0 < len(given) <= 4096:
            raise wrong(f"the value of {name} has to be text", 'put it in quotes: "1"')
    if len({name.lower() for name in value}) < len(value):
        raise wrong("a header is named twice", "case does not count in headers; name each once")
    return value


def cookie(value: Any) -> Any:
    """`name=value`."""
    if not isinstance(value, str) or not _COOKIE.fullmatch(value):
        raise wrong(
            f"{str(value)[:70]!r} is not a cookie", "write name=value, such as canary=always"
        )
    return value


Headers = Annotated[dict[str, str], BeforeValidator(header_names)]
Cookie = Annotated[str, BeforeValidator(cookie)]


class MatchShape(Shape):
    """Requests that reach the canary whatever its weight."""

    headers: Headers | None = Field(default=None, description="headers they carry, all of them")
    cookie: Cookie | None = Field(default=None, examples=["canary=always"])


class CanaryShape(Shape):
    """One step of a canary."""

    weight: int = Field(ge=0, le=100, description="percent of the traffic", examples=[10])
    bake: Seconds | None = Field(
        default=None, description="how long it has to prove itself", examples=["5m"]
    )
    metrics: list[Label] | None = Field(
        default=None, min_length=1, description="SLIs and metrics judged at this step; all if none"
    )
    match: MatchShape | None = Field(default=None, description="requests that reach it on top")
    pause: bool = Field(default=False, description="a person has to say that it goes on")


class BlueGreenShape(Shape):
    """A new version at full size beside the old one, then all traffic at once."""

    match: MatchShape | None = Field(default=None, description="requests that reach the preview")
    preview: Seconds = Field(default=0.0, description="how long the preview is judged by those")
    pause: bool = Field(default=False, description="a person has to say that it is switched")
    keep: Interval = Field(
        description="how long the old version is kept after the switch", examples=["30m"]
    )
    metrics: list[Label] | None = Field(default=None, min_length=1)


class WatchShape(Shape):
    """Burn rates after full rollout."""

    for_: Interval = Field(alias="for", description="how long it is watched", examples=["1h"])
    every: Interval = Field(default=60.0, description="how often it is looked at", examples=["1m"])


class GroupShape(Shape):
    """Services that are released together."""

    name: Label = Field(examples=["shop"])
    services: list[Label] = Field(
        min_length=2, description="in the order of release", examples=[["payments", "search"]]
    )
    release: Literal["touched", "all"] = Field(
        default="touched", description="those that a change touches, or all of them"
    )
    rollback: Literal["together", "alone"] = Field(
        default="together", description="a breach of one takes those before it back as well"
    )


def step_problems(
    steps: Sequence[CanaryShape], path: Path, *, has_route: bool, located: Located
) -> Iterator[SourceProblem]:
    """What single steps do not mean."""
    for index, step in enumerate(steps):
        here: Path = (*path, index)
        if step.match is not None:
            yield from match_problems(step.match, (*here, "match"), has_route, located)
        if step.weight and step.bake is None:
            yield located.problem(
                here,
                f"a step of {step.weight}% without a bake is never judged",
                "add `bake: 5m`; only a step of weight 0 may go without",
            )
        if step.weight == 0 and step.match is None and step.bake:
            yield located.problem(
                (*here, "bake"),
                "nobody reaches a step of weight 0 without `match`, so there is nothing to judge",
                "add `match: {headers: {x-canary: always}}`, or leave the bake out",
            )
        if step.weight == 0 and step.match is None and not step.pause:
            yield located.problem(
                here,
                "a step of weight 0 without `match` and `pause` does nothing",
                "add one of them, or take the step out",
            )


def match_problems(
    match: MatchShape, path: Path, has_route: bool, located: Located
) -> Iterator[SourceProblem]:
    """Testers need something to be told by, and a route that tells them."""
    if match.headers is None and match.cookie is None:
        yield located.problem(
            path, "it matches every request", "name `headers:` or a `cookie:`, or use a weight"
        )
    if not has_route:
        yield located.problem(
            path,
            "without an HTTPRoute requests cannot be told apart",
            "name one as `workload: {route: ...}`",
        )


def blue_green_problems(
    shape: BlueGreenShape, path: Path, *, interval: float, has_route: bool, located: Located
) -> Iterator[SourceProblem]:
    """What a blue-green strategy does not mean."""
    if shape.match is not None:
        yield from match_problems(shape.match, (*path, "match"), has_route, located)
    if shape.preview and shape.match is None:
        yield located.problem(
            (*path, "preview"),
            "nobody reaches the preview without `match`, so there is nothing to judge",
            "add `match: {headers: {x-canary: always}}`, or leave `preview` out",
        )
    for key, length in (("preview", shape.preview), ("keep", shape.keep)):
        if 0 < length < interval:
            yield located.problem(
                (*path, key),
                f"{length:g}s is shorter than one window of {interval:g}s",
                "make it longer, or `interval:` shorter; ten windows tell something",
            )


def step_of(shape: CanaryShape) -> CanaryStep:
    """The domain's step."""
    return CanaryStep(
        weight=shape.weight,
        bake_seconds=shape.bake or 0.0,
        metrics=_names(shape.metrics),
        match=_match(shape.match),
        pause=shape.pause,
    )


def blue_green_of(shape: BlueGreenShape | None) -> BlueGreen | None:
    """The domain's strategy."""
    if shape is None:
        return None
    return BlueGreen(
        match=_match(shape.match),
        preview_seconds=shape.preview,
        pause=shape.pause,
        keep_seconds=shape.keep,
        metrics=_names(shape.metrics),
    )


def burn_of(shape: WatchShape | None) -> BurnWatch | None:
    """The domain's watch."""
    if shape is None:
        return None
    return BurnWatch(for_seconds=shape.for_, every_seconds=shape.every)


def group_of(shape: GroupShape) -> ReleaseGroup:
    """The domain's group."""
    return ReleaseGroup(
        name=shape.name,
        services=tuple(shape.services),
        whole=shape.release == "all",
        together=shape.rollback == "together",
    )


def _match(shape: MatchShape | None) -> TrafficMatch | None:
    if shape is None:
        return None
    name, _, value = (shape.cookie or "").partition("=")
    return TrafficMatch(
        headers=tuple((shape.headers or {}).items()), cookie=(name, value) if name else None
    )


def _names(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(given)
