"""One connection to GitHub's REST API, by token or as a GitHub App, paced and cached.

githubkit does the signing in, the App's tokens and the connections. Its own retries are off,
because they would repeat writes whose answer was lost; here only reads are repeated, and only a
little. Its own cache is off, too: see `tools/github_cache.py`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import httpx
import structlog
from aiolimiter import AsyncLimiter
from githubkit import AppAuthStrategy, GitHub, Response, TokenAuthStrategy
from githubkit.auth import BaseAuthStrategy
from githubkit.cache import MemCacheStrategy
from githubkit.exception import GitHubException
from githubkit.throttling import LocalThrottler
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from domain.errors import AdapterError, Permanent, Temporary
from tools.github_cache import ETagCache
from tools.github_errors import RateLimited, Refused, translated
from tools.ports import Guard

log = structlog.get_logger(__name__)

PUBLIC_API = "https://api.github.com"
API_VERSION = "2022-11-28"
PER_PAGE = 100
READ_TRIES = 3
LONGEST_READ_WAIT = 2.0
"""A read is repeated within the call only when the wait is no longer than this, in seconds."""
_REPO = re.compile(r"(?!\.{1,2}/)[A-Za-z0-9_.-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")


@dataclass(frozen=True)
class Token:
    """A personal, fine-grained or Actions token."""

    token: SecretStr


@dataclass(frozen=True)
class App:
    """A GitHub App; its installation is looked up per repository. `private_key` is PEM."""

    app_id: str
    private_key: SecretStr


@dataclass(frozen=True)
class Pace:
    """How much we ask of one host.

    GitHub wants a second between writes and few requests at a time, or its secondary limits hit.
    """

    reads_per_second: float = 15.0
    writes_per_second: float = 1.0
    at_once: int = 8
    timeout_seconds: float = 10.0


class _Connected(GitHub[BaseAuthStrategy]):
    """Keeps one HTTP client open; githubkit opens one per request outside of its own context."""

    _open: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def get_async_client(self) -> AsyncIterator[httpx.AsyncClient]:
        if self._open is None:
            self._open = await self._create_async_client()
        yield self._open

    def _check_rate_limit(self, response: Response[Any]) -> None:
        """Left to `tools.github_errors`: this one trips over a `retry-after` that is a date."""

    async def aclose(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            await opened.aclose()


class GitHubClient:
    """Reads and writes of GitHub's REST API. Raises only Temporary, Permanent, OutcomeUnknown."""

    def __init__(
        self, credentials: Token | App, *, base_url: str = PUBLIC_API, pace: Pace | None = None
    ) -> None:
        """`base_url` is the REST root, for GitHub Enterprise Server `https://HOST/api/v3`.

        Raises `Permanent` when the credentials cannot be used at all.
        """
        self._pace = pace or Pace()
        self._base_url = base_url
        self._timeout = httpx.Timeout(self._pace.timeout_seconds)
        self._tokens = MemCacheStrategy()
        self._answers = ETagCache()
        self._as_app = isinstance(credentials, App)
        self._root = self._connected(_strategy(credentials))
        self._installed: dict[str, _Connected] = {}
        self._login: str | None = None
        self._quiet_until = 0.0
        self._reads = AsyncLimiter(max(1.0, self._pace.reads_per_second), 1.0)
        self._writes = AsyncLimiter(1, 1 / self._pace.writes_per_second)

    def __repr__(self) -> str:
        return f"GitHubClient({self._base_url!r}, {'App' if self._as_app else 'token'})"

    @property
    def detail(self) -> str:
        """How it signs in and where, for the banner; holds no secret."""
        return f"{'GitHub App' if self._as_app else 'token'} at {httpx.URL(self._base_url).host}"

    async def aclose(self) -> None:
        """Close connections and forget tokens and cached answers."""
        for one in (self._root, *self._installed.values()):
            await one.aclose()
        await self._tokens.acleanup()
        self._answers.clear()

    async def get(
        self,
        path: str,
        *,
        repo: str | None = None,
        organisation: str | None = None,
        params: Mapping[str, str | int] | None = None,
    ) -> Any:
        """GET a JSON document; `path` is below the repository, or the organisation, if given."""
        where = f"/orgs/{quote(organisation, safe='')}" if organisation else ""
        path = f"{where}{path}"
        what = f"GET {_shown(repo, path)}"
        retrying = AsyncRetrying(
            stop=stop_after_attempt(READ_TRIES),
            retry=retry_if_exception(_worth_a_short_wait),
            wait=_short_wait,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                await self._reads.acquire()
                key = f"{repo} {path} {sorted((params or {}).items())}"
                response = await self._send(
                    "GET",
                    repo,
                    path,
                    what,
                    organisation=organisation,
                    params=params,
                    headers=self._answers.condition(key),
                )
                return _json(self._answers.content(key, response), what)
        raise AssertionError("unreachable: tenacity reraises")

    async def pages(self, path: str, *, repo: str, most: int) -> tuple[list[dict[str, Any]], bool]:
        """All items of a list up to `most`, and whether the list ended there."""
        items: list[dict[str, Any]] = []
        page = 1
        while True:
            params = {"per_page": PER_PAGE, "page": page}
            batch = await self.get(path, repo=repo, params=params)
            if not isinstance(batch, list):
                raise Permanent(
                    f"GET {_shown(repo, path)}: not a list", "check that GITHUB_API_URL is right"
                )
            items += [one for one in batch if isinstance(one, dict)]
            if len(batch) < PER_PAGE:
                return items, True
            if len(items) >= most:
                return items, False
            page += 1

    async def write(
        self,
        method: Literal["POST", "PATCH", "PUT", "DELETE"],
        path: str,
        *,
        repo: str,
        guard: Guard,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        """Change something, once. `guard` is awaited last before the request leaves."""
        what = f"{method} {_shown(repo, path)}"
        await self._github(repo)  # an App's installation is looked up before the guard is asked
        await self._writes.acquire()
        self._keep_quiet(what)
        await guard()
        response = await self._send(method, repo, path, what, body=body)
        return _json(response.content, what) if response.content else None

    async def login(self) -> str:
        """The account our comments appear under; asked once."""
        if self._login is None:
            self._login = await self._find_login()
        return self._login

    async def _find_login(self) -> str:
        if self._as_app:
            return f"{_field(await self.get('/app'), 'slug', 'GET /app')}[bot]"
        try:
            told = await self.get("/user")
        except Refused as error:
            if error.status == 401:
                raise
            # Tokens of GitHub Actions may not read /user, but know themselves in GraphQL.
            told = await self._viewer()
        return str(_field(told, "login", "GET /user"))

    async def _viewer(self) -> Any:
        what = "asking GraphQL for our own account"
        try:
            told = await self._root.async_graphql("query { viewer { login } }")
        except GitHubException as error:
            raise self._noted(translated(error, what, mutating=False)) from None
        return told.get("viewer")

    async def _send(
        self,
        method: str,
        repo: str | None,
        path: str,
        what: str,
        *,
        organisation: str | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        self._keep_quiet(what)
        github = await (
            self._installed_at(f"/orgs/{quote(organisation, safe='')}")
            if organisation
            else self._github(repo)
        )
        url = f"/repos/{repo}{path}" if repo else path
        sent = {"X-GitHub-Api-Version": API_VERSION, **(headers or {})}
        try:
            answer = await github.arequest(method, url, params=params, json=body, headers=sent)
        except GitHubException as error:
            # The original is left out: it holds the request, and that the Authorization header.
            raise self._noted(translated(error, what, mutating=method != "GET")) from None
        return answer.raw_response

    async def _github(self, repo: str | None) -> _Connected:
        """The connection that may see a repository."""
        if repo is None:
            return self._root
        if not _REPO.fullmatch(repo):
            raise Permanent(f"{repo!r} is not a repository", "write it as owner/name")
        return await self._installed_at(f"/repos/{repo}")

    async def _installed_at(self, place: str) -> _Connected:
        """The connection of the App's installation at a place; a token sees what it sees."""
        if not self._as_app:
            return self._root
        known = self._installed.get(place.lower())
        if known is None:
            told = await self.get(f"{place}/installation")
            auth = self._root.auth
            assert isinstance(auth, AppAuthStrategy)
            number = int(_field(told, "id", f"GET {place}/installation"))
            known = self._connected(auth.as_installation(number))
            self._installed[place.lower()] = known
        return known

    def _connected(self, auth: BaseAuthStrategy) -> _Connected:
        return _Connected(
            auth,
            base_url=self._base_url,
            user_agent="fermata",
            timeout=self._timeout,
            cache_strategy=self._tokens,
            http_cache=False,
            async_event_hooks={"request": [self._bound]},
            throttler=LocalThrottler(self._pace.at_once),
            auto_retry=False,
        )

    async def _bound(self, request: httpx.Request) -> None:
        """Give every request its timeouts; githubkit's own, for an App's token, come without."""
        request.extensions.setdefault("timeout", self._timeout.as_dict())

    def _keep_quiet(self, what: str) -> None:
        """While a limit lasts nothing is sent: asking on may get an integration banned."""
        left = self._quiet_until - time.monotonic()
        if left > 0:
            raise RateLimited(f"{what}: not sent, GitHub's rate limit is not over yet", left)

    def _noted(self, error: AdapterError) -> AdapterError:
        if isinstance(error, RateLimited) and error.retry_after is not None:
            self._quiet_until = time.monotonic() + error.retry_after
            log.warning("github.rate_limited", seconds=round(error.retry_after))
        return error


def _strategy(credentials: Token | App) -> BaseAuthStrategy:
    if isinstance(credentials, Token):
        token = credentials.token.get_secret_value().strip()
        if not token.isascii() or not token.isprintable() or " " in token or not token:
            raise Permanent("the GitHub token is not one", "set GITHUB_TOKEN to the bare token")
        return TokenAuthStrategy(token)
    # Environment variables often carry a PEM file with its line ends written as \n.
    key = credentials.private_key.get_secret_value().replace("\\n", "\n").strip() + "\n"
    _check_key(key)
    return AppAuthStrategy(credentials.app_id.strip(), key)


def _check_key(key: str) -> None:
    """Sign something, so that a wrong key is found at the start and not at the first comment."""
    try:
        import jwt  # only an App needs it, and it comes with an extra of githubkit
    except ImportError:
        raise Permanent(
            "signing in as a GitHub App needs PyJWT and cryptography",
            "install the extra: githubkit[auth-app]",
        ) from None
    try:
        jwt.encode({}, key, algorithm="RS256")
    except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
        raise Permanent(
            "the GitHub App's private key is not an RSA key in PEM form",
            "GITHUB_APP_PRIVATE_KEY has to hold the whole file, from -----BEGIN to END-----",
        ) from None


def _shown(repo: str | None, path: str) -> str:
    return f"{repo or ''}{path}"


def _json(content: bytes, what: str) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        raise Permanent(
            f"{what}: the answer is not JSON", "check that GITHUB_API_URL is GitHub's REST API"
        ) from None


def _field(told: Any, key: str, what: str) -> Any:
    if not isinstance(told, dict) or key not in told:
        raise Permanent(
            f"{what}: the answer has no {key}", "check that GITHUB_API_URL is GitHub's REST API"
        )
    return told[key]


def _worth_a_short_wait(error: BaseException) -> bool:
    return isinstance(error, Temporary) and (error.retry_after or 0) <= LONGEST_READ_WAIT


def _short_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    told = error.retry_after if isinstance(error, Temporary) else None
    return told if told is not None else 0.2 * 2.0 ** (state.attempt_number - 1)
