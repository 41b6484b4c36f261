"""Where the drawings are: for people who are signed in, and, sealed, for image proxies."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from store.records import RunDetail
from web.auth import Principal, require
from web.desk import Desk
from web.lookup import detail_of
from web.pictures import MEDIA, Kind, draw, drawing_of
from web.problems import Problem
from web.roles import SEALED, states

Who = Annotated[Principal, Depends(require())]
KEPT_SECONDS = 300
"""How long a proxy may keep a drawing of a run that has ended."""


def router_pictures(desk: Desk) -> APIRouter:
    """`/runs/{run}/rates.svg|png` (signed in) and `/shared/{run}/{seal}/rates.svg|png` (sealed)."""
    router = APIRouter(include_in_schema=False)

    @router.get("/runs/{run}/rates.{kind}")
    async def own_picture(_who: Who, run: str, kind: Literal["svg", "png"]) -> Response:
        return await _answer(desk, await detail_of(desk, run), kind)

    @router.get("/shared/{run}/{seal}/rates.{kind}", openapi_extra=states(SEALED))
    async def sealed_picture(run: UUID, seal: str, kind: Literal["svg", "png"]) -> Response:
        # A wrong seal and a run that is none look alike.
        if desk.pictures is None or not desk.pictures.opens(str(run), seal):
            raise _none()
        detail = await desk.reads.run_detail(run)
        if detail is None:
            raise _none()
        return await _answer(desk, detail, kind)

    return router


async def _answer(desk: Desk, detail: RunDetail, kind: Kind) -> Response:
    drawing = drawing_of(detail, await desk.windows.windows(detail.run.id))
    if drawing is None:
        raise Problem(404, "Nothing has been measured in this run yet.", "Come back after a check.")
    content = await asyncio.to_thread(draw, drawing, kind)
    keep = f"public, max-age={KEPT_SECONDS}" if detail.run.state.is_final else "no-store"
    return Response(content, media_type=MEDIA[kind], headers={"Cache-Control": keep})


def _none() -> Problem:
    return Problem(404, "There is no such picture.", "Messages about a rollback have the address.")
