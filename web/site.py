"""Puts the pages, the read API and the answers to problems on an application, with safe headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

import psycopg
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web.api import router_api
from web.auth import Gatekeeper, router_sign_in
from web.desk import Desk
from web.pages import HEADINGS, Pages, router_pages
from web.picture_routes import router_pictures
from web.problems import Problem
from web.rendering import STATIC
from web.tokens import Principal

log = structlog.get_logger(__name__)

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
SAFE_HEADERS = [
    (name.lower().encode(), value.encode())
    for name, value in {**HEADERS, "Cache-Control": "no-store"}.items()
]
"""The same as ASGI wants them, for answers that are never kept."""
MACHINES = ("/api", "/event", "/webhooks", "/metrics", "/healthz", "/readyz", "/openapi.json")
"""Addresses that programs call: problems there are always JSON."""

TAGS = [
    {"name": "events", "description": "What comes in: webhooks, CloudEvents, plain forms."},
    {"name": "runs", "description": "What became of it: plans, decisions, effects, verdicts."},
    {"name": "approvals", "description": "What waits for a person, and the votes on it."},
    {"name": "services", "description": "The catalogue, what is live where, and locks."},
    {"name": "audit", "description": "What is on record, for auditors."},
    {"name": "health", "description": "For load balancers and Prometheus."},
]
"""Tags of the OpenAPI document: `FastAPI(openapi_tags=TAGS)`."""


def install(app: FastAPI, desk: Desk, gatekeeper: Gatekeeper, *, warm: bool = True) -> Pages:
    """Add API, pages, sign-in, static files, error answers and security headers to `app`.

    `app` has to be made with `docs_url=None, redoc_url=None`: `/docs` is ours, and FastAPI's own
    pages load their scripts from elsewhere. `warm` compiles the templates now (some 0.3 s), so
    that no first visitor keeps the event loop busy with it.
    """
    pages = Pages(desk)
    if warm:
        pages.warm()
    app.state.gatekeeper = gatekeeper
    app.include_router(router_api(desk))
    app.include_router(router_sign_in(gatekeeper, pages.sign_in))
    app.include_router(router_pages(pages))
    app.include_router(router_pictures(desk))
    app.mount("/static", Assets(directory=STATIC), name="static")
    app.add_middleware(SafeHeaders)
    _answer_problems(app, pages, gatekeeper)
    return pages


class SafeHeaders:
    """Sets the security headers on every answer, and keeps all but static files out of caches."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything through; only the start of an answer is touched."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self.app(scope, receive, with_headers)


class Assets(StaticFiles):
    """Static files: kept for a year when asked for by digest (`?v=`), checked each time if not."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file with its cache headers; only plain names, no folders."""
        if PurePath(path).name != path:
            raise HTTPException(404)
        answer = await super().get_response(path, scope)
        by_digest = b"v=" in scope.get("query_string", b"")
        answer.headers["Cache-Control"] = (
            "public, max-age=31536000, immutable" if by_digest else "no-cache"
        )
        return answer


def _answer_problems(app: FastAPI, pages: Pages, gatekeeper: Gatekeeper) -> None:
    def answer(
        request: Request,
        status: int,
        error: str,
        hint: str,
        headers: dict[str, str] | None = None,
        **more: object,
    ) -> Response:
        if wants_page(request):
            page = pages.problem(request, _who(gatekeeper, request), status, error, hint)
            page.headers.update(headers or {})
            return page
        return JSONResponse(
            {"error": error, "hint": hint, **more}, status_code=status, headers=headers
        )

    async def problem(request: Request, raised: Exception) -> Response:
        assert isinstance(raised, Problem)
        if wants_page(request):
            return answer(request, raised.status_code, raised.error, raised.hint)
        return raised.response()

    async def http(request: Request, raised: Exception) -> Response:
        assert isinstance(raised, HTTPException)
        error = HEADINGS.get(raised.status_code, str(raised.detail)) + "."
        hint = "/openapi.json lists every address." if raised.status_code in (404, 405) else ""
        headers = dict(raised.headers) if raised.headers else None
        return answer(request, raised.status_code, error, hint, headers)

    async def invalid(request: Request, raised: Exception) -> Response:
        assert isinstance(raised, RequestValidationError)
        path, sentence = _first_problem(raised.errors())
        return answer(
            request, 422, sentence, "/openapi.json describes what is expected.", path=path
        )

    async def no_database(request: Request, raised: Exception) -> Response:
        log.warning("database did not answer", path=request.url.path, error=type(raised).__name__)
        return answer(
            request,
            503,
            "The database does not answer.",
            "Nothing is lost; try again in a few seconds.",
            {"Retry-After": "5"},
        )

    async def broken(request: Request, raised: Exception) -> Response:
        # the server logs the traceback: this handler stands outside of everything else
        log.error("a request broke off", path=request.url.path, error=type(raised).__name__)
        page = answer(request, 500, "Something went wrong here.", "It is in the server's log.")
        page.headers.update(HEADERS)
        return page

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(psycopg.OperationalError, no_database)
    app.add_exception_handler(Exception, broken)


def _who(gatekeeper: Gatekeeper, request: Request) -> Principal | None:
    """Who is signed in, for the frame around a problem; None when nobody is."""
    try:
        return gatekeeper.identify(request)
    except Problem:
        return None


def wants_page(request: Request) -> bool:
    """Whether a person with a browser asks, rather than a program."""
    path = request.url.path
    machine = any(path == one or path.startswith(f"{one}/") for one in MACHINES)
    return not machine and "text/html" in request.headers.get("accept", "")


def _first_problem(errors: Sequence[dict[str, object]]) -> tuple[str, str]:
    """(field, sentence) of the first thing that is wrong; never repeats what was sent."""
    if not errors:
        return "", "The request has the wrong shape."
    first = errors[0]
    place = first.get("loc")
    names = [str(part) for part in place[1:]] if isinstance(place, tuple) else []
    path = ".".join(names)
    if first.get("type") == "json_invalid":
        return "", "The body is not valid JSON."
    said = str(first.get("msg", "is wrong")).rstrip(".")
    return path, f"{path or 'The body'}: {said}."
