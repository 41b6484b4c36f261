"""Who may call what: every address asks for somebody, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, Request

from tests.web.desk_twin import VIEWER as VIEWER_TOKEN
from tests.web.house import whole_app
from web.auth import KNOWN_ROLES
from web.intake import ShortWay
from web.roles import (
    ACTOR,
    FIELD,
    LEVELS,
    LOOPBACK,
    NOBODY,
    SEALED,
    SIGNATURE,
    VIEWER,
    Entry,
    Undeclared,
    entries,
    state_roles,
    table,
)

PAGE = Path(__file__).parents[2] / "docs" / "roles.md"
NO_ROLE, OTHER_ROLE, EXPIRED = "no-role-t", "other-role-t", "expired-t"
OPEN = {
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/sign-in",
    "/sign-out",
    "/static/{file}",
    "/shared/{run}/{seal}/rates.{kind}",
}
"""All that may be reached by anybody. Whoever adds to it has thought about it."""


@pytest.fixture(scope="module")
def door() -> ShortWay:
    return whole_app(
        {NO_ROLE: (), OTHER_ROLE: ("gardener",)}, {EXPIRED: datetime(2020, 1, 1, tzinfo=UTC)}
    )


@pytest.fixture(scope="module")
def app(door: ShortWay) -> FastAPI:
    return door.app


def guarded(app: FastAPI) -> Iterator[Entry]:
    for one in entries(app):
        if one.role not in (NOBODY, SEALED):
            yield one


def at(path: str) -> str:
    for name, value in (
        ("{approval_id}", str(uuid4())),
        ("{run}", str(uuid4())),
        ("{kind}", "svg"),
        ("{page:path}", "releases"),
        ("{seal}", "x"),
    ):
        path = path.replace(name, value)
    return path


async def call(door: ShortWay, entry: Entry, token: str | None) -> httpx.Response:
    headers = {"x-api-key": token} if token else {}
    # not from this machine, where metrics may be read by anybody
    transport = httpx.ASGITransport(door, client=("203.0.113.9", 1234), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fermata.test") as http:
        return await http.request(entry.method, at(entry.path), headers=headers, json={})


def test_only_a_few_addresses_are_open(app: FastAPI) -> None:
    assert {one.path for one in entries(app)} - {one.path for one in guarded(app)} == OPEN
    assert len(list(guarded(app))) > 20


@pytest.mark.parametrize("token", [None, "garbage", EXPIRED, "", "x" * 5000])
async def test_nothing_is_told_without_a_token_that_counts(
    door: ShortWay, app: FastAPI, token: str | None
) -> None:
    for one in guarded(app):
        answer = await call(door, one, token)
        assert answer.status_code == 401, (one, answer.status_code, answer.text[:200])


@pytest.mark.parametrize("token", [NO_ROLE, OTHER_ROLE])
async def test_a_token_without_a_role_that_means_something_reaches_nothing(
    door: ShortWay, app: FastAPI, token: str
) -> None:
    for one in guarded(app):
        answer = await call(door, one, token)
        expected = 401 if one.role == SIGNATURE else 403
        assert answer.status_code == expected, (one, answer.status_code, answer.text[:200])


async def test_a_viewer_may_look_and_nothing_else(door: ShortWay, app: FastAPI) -> None:
    for one in guarded(app):
        answer = await call(door, one, VIEWER_TOKEN)
        if one.role == SIGNATURE:
            assert answer.status_code == 401, one
        elif one.role in (VIEWER, LOOPBACK):
            assert answer.status_code not in (401, 403), (one, answer.text[:200])
            assert one.method in ("GET", "HEAD"), one
        else:
            assert answer.status_code == 403, (one, answer.status_code, answer.text[:200])


async def test_what_changes_something_takes_more_than_a_viewer(app: FastAPI) -> None:
    for one in guarded(app):
        if one.method not in ("GET", "HEAD"):
            assert one.role in (ACTOR, SIGNATURE), one


def test_a_route_that_does_not_say_who_may_call_it_keeps_the_server_down(app: FastAPI) -> None:
    careless = FastAPI(docs_url=None, redoc_url=None)

    @careless.get("/api/secrets")
    async def secrets(request: Request) -> dict[str, str]:
        return {}

    with pytest.raises(Undeclared, match="/api/secrets"):
        state_roles(careless)


def test_openapi_states_the_role_of_every_operation(app: FastAPI) -> None:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            stated = operation[FIELD]
            assert stated in LEVELS or stated in KNOWN_ROLES, (path, method)


def test_the_table_in_the_docs_is_the_one_of_the_application(app: FastAPI) -> None:
    told = table(app)
    assert PAGE.read_text(encoding="utf-8") == told, f"write this to {PAGE.name}:\n{told}"
    assert all(f"`{role}`" in told for role in KNOWN_ROLES)
