"""Refusals at the edge: a sentence, a hint, a status. Nothing of the payload, no secret, ever."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute


class Problem(HTTPException):
    """A request that is refused, answered as `{"error", "hint", …}` with `status`.

    `error` is one sentence that is safe to send back, `hint` says what would help, `more` adds
    fields (`path` of the wrong field, `line` and `column` of broken JSON).
    """

    def __init__(
        self,
        status: int,
        error: str,
        hint: str = "",
        *,
        headers: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> None:
        body: dict[str, Any] = {"error": error, "hint": hint, **(more or {})}
        super().__init__(status_code=status, detail=body, headers=headers)
        self.error = error
        self.hint = hint

    def response(self) -> JSONResponse:
        """The answer on the wire."""
        return JSONResponse(self.detail, status_code=self.status_code, headers=self.headers)


class EdgeRoute(APIRoute):
    """Answers a `Problem` in its own shape, whatever handlers the application has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Problem as problem:
                return problem.response()

        return handle


class IntakeRoute(EdgeRoute):
    """For endpoints that take the request itself and look after everything in it.

    FastAPI's own handler reads bodies and solves dependencies before it calls the endpoint, which
    costs a good part of taking an event in. None of the route's dependencies is called: here
    they may only state things for OpenAPI, never check them.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Call the endpoint with nothing in between."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            try:
                return await endpoint(request)
            except Problem as problem:
                return problem.response()

        return handle


async def answer_problem(_request: Request, problem: Exception) -> Response:
    """Exception handler for applications whose routers do not use `EdgeRoute`."""
    if not isinstance(problem, Problem):
        raise problem
    return problem.response()


def install(app: FastAPI) -> None:
    """Have every `Problem` of the application answered as `{"error", "hint"}`."""
    app.add_exception_handler(Problem, answer_problem)


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known word that `word` was most likely meant to be, or None when none is close.

    `likeness` is difflib's ratio (0 to 1) that counts as close; long common prefixes want more.
    """
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(word.lower()[:80], by_lower, n=1, cutoff=likeness)
    return by_lower[close[0]] if close else None


def shown(word: str, limit: int = 60) -> str:
    """A word from outside, made fit to stand in a sentence: printable, and cut at `limit`."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in word)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
