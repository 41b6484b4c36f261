"""Who is asking: tokens known by their hash alone, signed sessions for pages, roles."""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import secrets
import tempfile
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security import APIKeyHeader, HTTPBearer

from domain.address import split_address
from domain.clock import Clock, SystemClock
from web.limits import read_body
from web.problems import EdgeRoute, Problem
from web.proxy import TrustedProxy
from web.roles import ACTOR, NOBODY, VIEWER, said, states
from web.tokens import Principal, TokenBook, TokenEntry

COOKIE = "fermata_session"
SESSION_SECONDS = 12 * 3600
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-csrf-token"

READ_ONLY_ROLES = frozenset({"viewer", "auditor"})
"""Roles that may look and nothing else."""
KNOWN_ROLES = frozenset({"viewer", "auditor", "developer", "release-manager", "sre-lead", "admin"})
"""Roles that mean something whatever the policy says."""

BEARER = HTTPBearer(auto_error=False, scheme_name="bearer", description="A token")
API_KEY = APIKeyHeader(
    name="x-api-key", auto_error=False, scheme_name="apiKey", description="The same token"
)
"""How a token travels, for OpenAPI: as route dependencies these state it and check nothing."""

_HOW = "Send `Authorization: Bearer TOKEN` or `x-api-key: TOKEN`."


class Tokens(Protocol):
    """Tokens that are known: a `TokenBook`, or a `web.token_file.TokenFile`."""

    def find(self, token: str) -> TokenEntry | None:
        """The entry of a token."""
        ...

    def by_hash_start(self, start: str) -> TokenEntry | None:
        """The entry whose hash begins with these 32 hex digits."""
        ...


@dataclass(frozen=True)
class Sessions:
    """Signed session cookies: `<start of the token's hash>.<end, Unix seconds>.<HMAC-SHA256>`.

    The token itself is not in the cookie, and a token that leaves the book ends its sessions.
    `key` has to be the same in every process (see `session_key`).
    """

    key: bytes = field(repr=False)
    seconds: int = SESSION_SECONDS
    secure: bool = False
    """Whether people reach us by https, so that the cookie never travels without it."""

    def issue(self, entry: TokenEntry, now: datetime) -> str:
        """A cookie value for the holder of that token."""
        claim = f"{entry.hash[:32]}.{int(now.timestamp()) + self.seconds}"
        return f"{claim}.{self._mac('session', claim)}"

    def entry_of(self, cookie: str, book: Tokens, now: datetime) -> TokenEntry | None:
        """The token entry a cookie stands for; None when forged, over, or no longer in the book."""
        claim, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("session", claim).encode()):
            return None
        start, _, until = claim.partition(".")
        if int(until) <= now.timestamp():
            return None
        return book.by_hash_start(start)

    def csrf_token(self, cookie: str) -> str:
        """What a page may put into its forms and send back in the `x-csrf-token` header."""
        return self._mac("csrf", cookie)

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self.key, f"{purpose}:{text}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Gatekeeper:
    """Tells who sent a request. Kept as `app.state.gatekeeper`; `sessions` None: tokens only."""

    tokens: Tokens
    sessions: Sessions | None = None
    clock: Clock = field(default_factory=SystemClock)
    """Real time: tokens expire by the calendar, not in the simulated world."""
    proxy: TrustedProxy | None = None
    """Who may tell us who somebody is; None: nobody."""
    roles: Callable[[], frozenset[str]] = frozenset
    """Roles that policy names beside the built-in ones."""

    def admits(self, principal: Principal, level: str) -> bool:
        """Whether the principal's roles reach a level of `web.roles`."""
        if level not in (VIEWER, ACTOR):
            return principal.has(level)
        return not _roles_of(level, self.roles()).isdisjoint(principal.roles)

    def identify(self, request: Request) -> Principal:
        """The principal of the request, or a 401 (403 for a cross-site post with a cookie)."""
        token = token_of(request)
        if token is not None:
            return self.admit(token).principal
        proxied = self.proxy.principal(request) if self.proxy is not None else None
        if proxied is not None:
            if request.method not in SAFE_METHODS and not same_origin(request):
                raise _cross_site()
            return proxied
        cookie = request.cookies.get(COOKIE)
        if self.sessions is None or not cookie:
            raise Problem(401, "No token was sent.", _HOW, headers={"WWW-Authenticate": "Bearer"})
        now = self.clock.now()
        entry = self.sessions.entry_of(cookie, self.tokens, now)
        if entry is None or entry.expired(now):
            raise Problem(401, "The session is over.", "Sign in again at /sign-in.")
        if request.method not in SAFE_METHODS and not self._same_site(request, cookie):
            raise _cross_site()
        return entry.principal

    def require(self, request: Request, level: str, *, token: str | None = None) -> Principal:
        """The principal of the request, whose roles have to reach a level; 401 or 403.

        `token` is one that travelled in another way than `token_of` knows.
        """
        principal = self.admit(token).principal if token else self.identify(request)
        if not self.admits(principal, level):
            raise Problem(
                403,
                f"{principal.name} may not do this: it takes {said(level)}.",
                "Ask an admin to add a role, such as developer, to your entry in FERMATA_TOKENS.",
            )
        return principal

    def admit(self, token: str) -> TokenEntry:
        """The entry of a token, or a 401 that says whether it is unknown or expired."""
        entry = self.tokens.find(token)
        if entry is None:
            raise Problem(
                401,
                "The token is not known.",
                "Check it against FERMATA_TOKENS, or the file `admin-token` in the data folder.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        if entry.expired(self.clock.now()):
            raise Problem(
                401,
                f"The token of {entry.principal.name} expired at {entry.expires:%Y-%m-%d %H:%MZ}.",
                "Ask for a new one.",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return entry

    def _same_site(self, request: Request, cookie: str) -> bool:
        sent = request.headers.get(CSRF_HEADER)
        if sent is not None and self.sessions is not None:
            return hmac.compare_digest(sent.encode(), self.sessions.csrf_token(cookie).encode())
        return same_origin(request)


@functools.lru_cache(maxsize=16)
def _roles_of(level: str, named: frozenset[str]) -> frozenset[str]:
    """The roles that reach a level, with those that policy names."""
    known = KNOWN_ROLES | named
    return known - READ_ONLY_ROLES if level == ACTOR else known


def token_of(request: Request) -> str | None:
    """The token in `Authorization: Bearer` or `x-api-key`; None when neither was sent."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and value.strip():
        return value.strip()
    return request.headers.get("x-api-key", "").strip() or None


def basic_password(request: Request) -> str | None:
    """The password of basic authentication: what Alertmanager's `basic_auth` sends a token as."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = b64decode(value.strip(), validate=True).decode()
    except (Base64Error, UnicodeDecodeError):
        return None
    return decoded.partition(":")[2] or None


def same_origin(request: Request) -> bool:
    """Whether a browser says that the request came from a page of this very host."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    came_from = request.headers.get("origin") or request.headers.get("referer")
    host = request.headers.get("host")
    return bool(came_from and host) and split_address(came_from or "").netloc == host


def _cross_site() -> Problem:
    return Problem(
        403,
        "This request did not come from one of our own pages.",
        f"Use the page's form, or send its token as `{CSRF_HEADER}`.",
    )


def require(level: str = VIEWER) -> Callable[[Request], Awaitable[Principal]]:
    """A FastAPI dependency: the principal of the request, whose roles reach a level (`web.roles`).

    The application carries its `Gatekeeper` as `app.state.gatekeeper`. The dependency states the
    level, so that it can be listed.
    """

    async def dependency(request: Request) -> Principal:
        gatekeeper: Gatekeeper = request.app.state.gatekeeper
        return gatekeeper.require(request, level)

    dependency.fermata_role = level  # type: ignore[attr-defined]
    return dependency


SignInPage = Callable[[Request, str], Response]
"""Renders the sign-in page with a message ('' when there is nothing to say)."""


def router_sign_in(gatekeeper: Gatekeeper, page: SignInPage | None = None) -> APIRouter:
    """`GET /sign-in[?token=…&next=/…]`, `POST /sign-in` (form: token, next), `POST /sign-out`."""
    router = APIRouter(route_class=EdgeRoute, include_in_schema=False)
    show = page or _plain_page

    @router.get("/sign-in", openapi_extra=states(NOBODY))
    async def follow_link(request: Request) -> Response:
        token = request.query_params.get("token")
        if token is None:
            return show(request, "")
        return _enter(gatekeeper, request, token, request.query_params.get("next", "/"), show)

    @router.post("/sign-in", openapi_extra=states(NOBODY))
    async def send_form(request: Request) -> Response:
        if not same_origin(request):
            raise Problem(403, "Signing in works from our own page only.", "Open /sign-in.")
        form = parse_qs((await read_body(request, 64 * 1024)).decode("utf-8", "replace"))
        token, target = form.get("token", [""])[0], form.get("next", ["/"])[0]
        return _enter(gatekeeper, request, token, target, show)

    @router.post("/sign-out", openapi_extra=states(NOBODY))
    async def leave(request: Request) -> Response:
        if not same_origin(request):
            raise Problem(403, "Signing out works from our own page only.", "Open the start page.")
        answer = RedirectResponse("/sign-in", status_code=303)
        answer.delete_cookie(COOKIE, httponly=True, samesite="lax")
        return answer

    return router


def create_admin_token(data: Path) -> str:
    """The admin token of a data folder: made on first use, kept in `admin-token` (mode 0600)."""
    return _kept(data / "admin-token", lambda: secrets.token_urlsafe(32))


def session_key(data: Path) -> bytes:
    """The key that signs sessions: made on first use, kept in `session-key` (mode 0600)."""
    return bytes.fromhex(_kept(data / "session-key", lambda: secrets.token_hex(32)))


def _enter(
    gatekeeper: Gatekeeper, request: Request, token: str, target: str, show: SignInPage
) -> Response:
    assert gatekeeper.sessions is not None, "pages need a Gatekeeper with sessions"
    try:
        entry = gatekeeper.admit(token.strip())
    except Problem as problem:
        answer = show(request, f"{problem.error} {problem.hint}")
        answer.status_code = 401
    else:
        answer = RedirectResponse(_local(target), status_code=303)
        answer.set_cookie(
            COOKIE,
            gatekeeper.sessions.issue(entry, gatekeeper.clock.now()),
            max_age=gatekeeper.sessions.seconds,
            httponly=True,
            samesite="lax",
            secure=gatekeeper.sessions.secure or request.url.scheme == "https",
        )
    # the link carried a token: nothing may keep it
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def _local(target: str) -> str:
    """`target` when it is a path on this host, `/` otherwise (no open redirect)."""
    plain = target.startswith("/") and target.isprintable() and "\\" not in target
    return target if plain and not target.startswith("//") else "/"


def _plain_page(_request: Request, message: str) -> Response:
    return HTMLResponse(
        "<!doctype html><html lang=en><title>Sign in</title><main><h1>Sign in</h1>"
        f"<p role=status>{escape(message)}</p><form method=post action=/sign-in>"
        "<label>Token <input type=password name=token required autocomplete=current-password>"
        "</label> <button>Sign in</button></form></main></html>"
    )


def _kept(path: Path, make: Callable[[], str]) -> str:
    """The content of a secret file; several processes may start at once and will agree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _read_secret(path)
    except FileNotFoundError:
        pass
    # mkstemp gives mode 0600; link() fails when another process was first
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(name)
    return _read_secret(path)


def _read_secret(path: Path) -> str:
    text = path.read_text(encoding="utf-8").strip()
    if not text:
        raise ValueError(f"{path} is empty; delete it to have a new one made")
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return text


__all__ = [
    "COOKIE",
    "CSRF_HEADER",
    "Gatekeeper",
    "Principal",
    "Sessions",
    "SignInPage",
    "TokenBook",
    "TokenEntry",
    "Tokens",
    "basic_password",
    "create_admin_token",
    "require",
    "router_sign_in",
    "same_origin",
    "session_key",
    "token_of",
]
