"""What a gateway makes of HTTPRoutes: which request goes where, and in which proportion.

Pure. A table never changes: new routes make a new one, and what has begun with the old one ends
with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl

from evals.world.kube.kinds import Obj

Outcome = Literal["served", "unavailable", "unresolved"]
ANY_HOST = ""
CAN = {
    "path": ("Exact", "PathPrefix", "RegularExpression"),
    "headers": ("Exact", "RegularExpression"),
    "queryParams": ("Exact", "RegularExpression"),
}


@dataclass(frozen=True, slots=True)
class Backend:
    """Who answers: the pods of one version behind a Service, or nobody, and why not."""

    namespace: str
    service: str
    version: str
    track: str
    outcome: Outcome = "served"


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request decides where it goes. Header names in lower case."""

    method: str
    host: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Spoke:
    backend: Backend
    share: float
    due: float = 0.0


class Wheel:
    """Gives requests to backends in proportion, evenly mixed (smooth weighted round robin): after
    any number of requests each has had its share of them, give or take one."""

    def __init__(self, shares: Mapping[Backend, float]) -> None:
        self._spokes = [_Spoke(who, share) for who, share in shares.items() if share > 0]
        self._total = sum(one.share for one in self._spokes)

    def turn(self) -> Backend | None:
        """Whose turn it is; None when nobody has a share."""
        best: _Spoke | None = None
        for one in self._spokes:
            one.due += one.share
            if best is None or one.due > best.due:
                best = one
        if best is None:
            return None
        best.due -= self._total
        return best.backend


@dataclass(frozen=True)
class _Match:
    """One match of one rule for one hostname."""

    rank: tuple[Any, ...]
    """Sorts the more specific match first, as the Gateway API wants it."""
    fits: Callable[[Asked], bool]
    wheel: Wheel


class Table:
    """Routes that can be looked up by a request."""

    def __init__(self, by_host: Mapping[str, Sequence[_Match]]) -> None:
        self._by_host = by_host

    def wheel(self, asked: Asked) -> Wheel | None:
        """The backends of the rule that a request falls under; None when there is no such rule."""
        for host in _hosts(asked.host):
            for one in self._by_host.get(host, ()):
                if one.fits(asked):
                    return one.wheel
        return None


Plan = list[tuple[Obj, list[dict[Backend, float]]]]
"""Routes, each with the shares of the backends of each of its rules."""


def meaning(plan: Plan) -> list[tuple[Any, ...]]:
    """What a table depends on: of a route its name, age and spec."""
    named = ("namespace", "name", "creationTimestamp")
    return [
        (*(route["metadata"].get(one) for one in named), route["spec"], shares)
        for route, shares in plan
    ]


def build(plan: Plan) -> Table:
    """A table of routes none of which is `refused`."""
    by_host: dict[str, list[_Match]] = {}
    for route, shares in plan:
        age = (
            route["metadata"].get("creationTimestamp") or "",
            route["metadata"]["namespace"],
            route["metadata"]["name"],
        )
        for order, (rule, share) in enumerate(zip(rules(route), shares, strict=True)):
            wheel = Wheel(share)
            for match in rule.get("matches") or [{}]:
                found = _Match((*_rank(match), *age, order), _fits(match), wheel)
                for host in route["spec"].get("hostnames") or [ANY_HOST]:
                    by_host.setdefault(host.lower(), []).append(found)
    for matches in by_host.values():
        matches.sort(key=lambda one: one.rank)
    return Table(by_host)


def rules(route: Obj) -> list[Obj]:
    """The rules of a route; without any, the API's default is one that everything falls under."""
    return route["spec"].get("rules") or [{}]


def refused(route: Obj) -> str:
    """Why this gateway cannot do what a route says; '' when it can."""
    for rule in rules(route):
        if rule.get("filters") or any(r.get("filters") for r in rule.get("backendRefs") or ()):
            return "filters are not supported by the simulated gateway"
        for match in rule.get("matches") or ():
            for kind, one in _conditions(match):
                if one.get("type", CAN[kind][0]) not in CAN[kind]:
                    return f"{kind}: type {one['type']} is not supported"
                try:
                    _value(one)
                except re.error as error:
                    return f"{kind}: {one['value']!r} is no regular expression: {error}"
    return ""


def _conditions(match: Obj) -> Iterator[tuple[str, Obj]]:
    if match.get("path"):
        yield "path", match["path"]
    for kind in ("headers", "queryParams"):
        for one in match.get(kind) or ():
            yield kind, one


def _hosts(host: str) -> Iterator[str]:
    """The hostnames of routes that fit a request's, the most specific first."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.lower()
    yield name
    while "." in name:
        name = name.partition(".")[2]
        yield f"*.{name}"
    yield ANY_HOST


def _rank(match: Obj) -> tuple[bool, int, bool, int, int]:
    path = match.get("path") or {}
    return (
        path.get("type") != "Exact",
        -len(path.get("value", "/")),
        not match.get("method"),
        -len(match.get("headers") or ()),
        -len(match.get("queryParams") or ()),
    )


def _fits(match: Obj) -> Callable[[Asked], bool]:
    path = _path(match.get("path") or {})
    method = match.get("method")
    headers = [(h["name"].lower(), _value(h)) for h in match.get("headers") or ()]
    params = [(p["name"], _value(p)) for p in match.get("queryParams") or ()]

    def fits(asked: Asked) -> bool:
        if not path(asked.path) or (method and method != asked.method):
            return False
        if not all(n in asked.headers and value(asked.headers[n]) for n, value in headers):
            return False
        if not params:
            return True
        # Of a parameter that is given more than once the first one counts.
        given = dict(reversed(parse_qsl(asked.query, keep_blank_values=True)))
        return all(n in given and value(given[n]) for n, value in params)

    return fits


def _path(path: Obj) -> Callable[[str], bool]:
    kind, value = path.get("type", "PathPrefix"), path.get("value", "/")
    if kind == "Exact":
        return lambda asked: asked == value
    if kind == "RegularExpression":
        return _value(path)
    prefix = value.rstrip("/")
    # Whole segments: /foo has /foo and /foo/bar under it, but not /foobar.
    return lambda asked: asked == prefix or asked.startswith(f"{prefix}/")


def _value(one: Obj) -> Callable[[str], bool]:
    value = one.get("value", "")
    if one.get("type") != "RegularExpression":
        return lambda asked: asked == value
    pattern = re.compile(value)
    return lambda asked: pattern.fullmatch(asked) is not None
