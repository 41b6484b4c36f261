"""Which role an address asks for. Every route states it; one that does not keeps the server down.

It stands in OpenAPI as `x-fermata-role`, and in docs/roles.md. An address may ask for more than it
states once it knows what is asked (a vote takes a role that the question names).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Mount, Route

FIELD = "x-fermata-role"
NOBODY, SIGNATURE, SEALED, LOOPBACK = "nobody", "signature", "sealed", "loopback"
VIEWER, ACTOR = "viewer", "actor"
LEVELS = {
    NOBODY: "anybody, without a token",
    SIGNATURE: "whoever signs the body with a webhook secret",
    SEALED: "whoever was given the sealed address",
    LOOPBACK: "any role; on the same machine, anybody",
    VIEWER: "any role",
    ACTOR: "any role but viewer and auditor",
}
"""What a route may state, in words."""


def said(role: str) -> str:
    """A level in words; any other word is the name of a role."""
    return LEVELS.get(role, f"the role {role}")


class Undeclared(RuntimeError):
    """A route that does not say who may call it."""


def states(role: str) -> dict[str, Any]:
    """`openapi_extra` of a route whose role no dependency states."""
    assert role in LEVELS
    return {FIELD: role}


@dataclass(frozen=True)
class Entry:
    """One method of one address."""

    method: str
    path: str
    role: str
    summary: str


def entries(app: FastAPI) -> Iterator[Entry]:
    """Every method of every address. Raises `Undeclared`."""
    for route in _each(app.routes):
        yield from _entries(route)


def state_roles(app: FastAPI) -> None:
    """Write the role of every route into its OpenAPI entry. Raises `Undeclared`."""
    for route in _each(app.routes):
        if isinstance(route, APIRoute):
            route.openapi_extra = {**(route.openapi_extra or {}), FIELD: _role_of(route)}
        else:
            list(_entries(route))


def table(app: FastAPI) -> str:
    """docs/roles.md: all of it, in a fixed order."""
    rows = sorted(
        (one.path, one.method, said(one.role), one.summary)
        for one in entries(app)
        if one.method != "HEAD"
    )
    lines = [f"| `{method} {path}` | {who} | {what} |" for path, method, who, what in rows]
    return PAGE.format(rows="\n".join(lines))


def _each(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes, those of included routers among them."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if isinstance(included, APIRouter):
            yield from _each(included.routes)
        else:
            yield route


def _entries(route: BaseRoute) -> Iterator[Entry]:
    if isinstance(route, APIRoute):
        role = _role_of(route)
        for method in sorted(route.methods or ()):
            yield Entry(method, route.path, role, route.summary or "A page, or a form of one")
    elif isinstance(route, Mount) and route.path == "/static":
        yield Entry("GET", "/static/{file}", NOBODY, "Style, script and pictures of the pages")
    elif isinstance(route, Route) and route.path == "/openapi.json":
        yield Entry("GET", route.path, NOBODY, "This list for programs")
    else:
        raise Undeclared(f"{getattr(route, 'path', route)} does not state who may call it")


def _role_of(route: APIRoute) -> str:
    stated = (route.openapi_extra or {}).get(FIELD) or next(_of(route.dependant), None)
    if not stated:
        raise Undeclared(
            f"{route.path} does not state who may call it: use `require(…)`, or `states(…)` in "
            "`openapi_extra`"
        )
    return str(stated)


def _of(dependant: Dependant) -> Iterator[str]:
    for one in dependant.dependencies:
        role = getattr(one.call, "fermata_role", None)
        if role is not None:
            yield str(role)
        yield from _of(one)


PAGE = """\
# Who may call what

Every address states the least that it asks for; `x-fermata-role` in `/openapi.json` says the same.
This table is written from the running application; a test fails when it is stale.

`any role` is one of `viewer`, `auditor`, `developer`, `release-manager`, `sre-lead`, `admin`, or
another that `policy.yaml` names. Some addresses ask for more once they know what is asked: a vote
takes a role that the question names, `hold`, `resume`, `cancel` and `retry` take `developer`,
`release-manager` or `sre-lead`, an override takes a role of `overrides.roles`. `admin` may do all.

| address | who | what |
|---|---|---|
{rows}
"""
