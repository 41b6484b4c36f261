"""Service level indicators from any Prometheus HTTP API (Prometheus, GKE's managed one, Thanos).

One connection pool on the event loop: a thousand rollouts judged every 30 seconds are some 270
queries a second, and a thread for each of them cost more than all else that a look does. What one
look asks about an instant goes out as one request (`tools.prometheus_joined`).
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from string import Template
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import tenacity
from pydantic import SecretStr

from domain.metric import Metric
from domain.service import SLI, Target
from domain.verdict import Counts, Gap, VerdictKind
from tools.ports import EVERY_VERSION
from tools.prometheus_joined import Together, joined, parted, portions

CONNECTIONS = 32
APART_SECONDS = 900.0
"""How long nothing is joined after a joined query that did not do: one of its parts may be refused
or too slow, or the server may not know `label_replace` or `or`."""
MORE_TRIES, PAUSE_SECONDS = 2, 0.2
UNSPLIT = {"partial_response": "false", "deny_partial_response": "1"}
"""A partial answer (Thanos, VictoriaMetrics) would be taken for all there is."""
EXCESS = 0.01
"""Share by which `bad` may lie outside of 0..total before it is a wrong query instead of the
extrapolation of `increase()`."""
MOST_REASON = 300
_VERSION_MATCHER = re.compile(r"=\s*([\"'`])\$(?:version|\{version\})\1")
MOST_SERIES = 3


class PrometheusReading(ABC):
    """What a `MetricsReader` says of numbers that some Prometheus has for queries."""

    async def counts(
        self, sli: SLI, target: Target, version: str, at: datetime, window_seconds: float
    ) -> Counts | Gap:
        """Bad and total events of a version in the `window_seconds` before `at`.

        No total, or a total of 0, is no data. No `bad` series while there is a total is 0 bad: a
        counter of errors exists from the first error on.
        """
        try:
            values = placeholders(target, version, window_seconds)
            total_query = render(for_version(version, sli.total), values)
            bad_query = render(for_version(version, sli.bad), values)
        except ValueError as error:
            return error_gap(f"SLI {sli.name}: {error}")
        total, bad = await self._numbers((total_query, bad_query), at)
        if isinstance(total, Gap):
            return total
        if total is None:
            return _nodata(f"{sli.name}: no series for the total ({total_query})")
        if total == 0:
            return _nodata(f"{sli.name}: no events in {values['window']}")
        if isinstance(bad, Gap):
            return bad
        return _counts(sli, 0.0 if bad is None else bad, total)

    async def value(
        self, metric: Metric, target: Target, version: str, at: datetime, window_seconds: float
    ) -> float | Gap:
        """The one number of a metric's query; no series is no data, several and NaN are errors."""
        try:
            query = render(metric.query, placeholders(target, version, window_seconds))
        except ValueError as error:
            return error_gap(f"metric {metric.name}: {error}")
        found = await self._number(query, at)
        return _nodata(f"{metric.name}: no series ({query})") if found is None else found

    @abstractmethod
    async def _number(self, query: str, at: datetime) -> float | Gap | None:
        """The one number that a query has at an instant; None when there is no series."""

    async def _numbers(self, queries: Sequence[str], at: datetime) -> list[float | Gap | None]:
        """The same of several queries."""
        return list(await asyncio.gather(*[self._number(one, at) for one in queries]))


class PrometheusMetrics(PrometheusReading):
    """`MetricsReader` on a Prometheus HTTP API.

    `url` is the base URL (with a path where the API is served below one), `token` a bearer token
    where it wants one, `timeout` seconds for one query. Close it on shutdown. `counts` never
    raises: what could not be known is a `Gap` with the reason.
    """

    def __init__(self, url: str, *, token: SecretStr | None = None, timeout: float = 10.0) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/query"
        self._token = token
        self._timeout = timeout
        self._is_closed = False
        self._session: aiohttp.ClientSession | None = None
        self._together = Together(self._all)
        self._apart_until = 0.0
        """Until when every query is a request of its own (`time.monotonic`)."""

    async def close(self) -> None:
        """Close the connections; queries still under way are abandoned. Safe to call twice."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def _number(self, query: str, at: datetime) -> float | Gap | None:
        try:
            return number_of(await self._result(query, at), query)
        except _NoResult as none:
            return none.gap

    async def _numbers(self, queries: Sequence[str], at: datetime) -> list[float | Gap | None]:
        """What a look asks at once goes out in one request, where the server can take it."""
        if time.monotonic() < self._apart_until:
            return await super()._numbers(queries, at)
        return await self._together(queries, at)

    async def _all(self, queries: Sequence[str], at: datetime) -> dict[str, float | Gap | None]:
        found: dict[str, float | Gap | None] = {}
        for portion in portions(queries):
            found |= zip(portion, await self._joined(portion, at), strict=True)
        return found

    async def _joined(self, queries: Sequence[str], at: datetime) -> list[float | Gap | None]:
        if len(queries) == 1:
            return [await self._number(queries[0], at)]
        parts = None
        try:
            parts = parted(await self._result(joined(queries), at), len(queries))
        except _NoResult as none:
            if not none.is_of_the_query:
                return [none.gap] * len(queries)
            self._ask_apart()
        if parts is not None and any(parts):
            return [number_of(part, one) for part, one in zip(parts, queries, strict=True)]
        apart = await super()._numbers(queries, at)
        if any(isinstance(one, float) for one in apart):
            self._ask_apart()  # the server does not know how to join them
        return apart

    def _ask_apart(self) -> None:
        self._apart_until = time.monotonic() + APART_SECONDS

    async def _result(self, query: str, at: datetime) -> Any:
        """What the server answers with. Raises `_NoResult`."""
        try:
            try:
                status, body = await self._query(query, at)
            except aiohttp.ClientConnectorError:
                status, body = await self._persevere(query, at)
        except _Closed:
            raise _NoResult(error_gap("the client is closed")) from None
        except TimeoutError:
            raise _NoResult(no_answer(self._timeout), is_of_the_query=True) from None
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: of the URL
            raise _NoResult(cannot_be_reached(error)) from None
        if status != 200:
            said = f"HTTP {status}: {body.decode(errors='replace')}"
            raise _NoResult(refused(said, query), is_of_the_query=_is_of_the_query(status, body))
        try:
            return json.loads(body)["data"]["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise _NoResult(not_understood(error), is_of_the_query=True) from None

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(aiohttp.ClientConnectorError),
        stop=tenacity.stop_after_attempt(MORE_TRIES),
        wait=tenacity.wait_exponential(multiplier=0.2),
        reraise=True,
    )
    async def _persevere(self, query: str, at: datetime) -> tuple[int, bytes]:
        """A refused connection may be a restart; what got as far as an answer is not asked twice.

        Apart from the first try, which is nearly always the only one.
        """
        await asyncio.sleep(PAUSE_SECONDS)
        return await self._query(query, at)

    async def _query(self, query: str, at: datetime) -> tuple[int, bytes]:
        if self._is_closed:  # also between two tries
            raise _Closed
        params = {"time": f"{at.timestamp():.3f}", "timeout": f"{self._timeout:g}s", **UNSPLIT}
        async with self._connected().get(self._url, params={"query": query, **params}) as answer:
            return answer.status, await answer.read()

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Accept": "application/json"}
            if self._token is not None:
                headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
            self._session = aiohttp.ClientSession(
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Not `trust_env`, which would send a password from a .netrc file as well.
                proxy=_proxy(self._url),
            )
        return self._session


class _Closed(Exception):
    """Nothing is asked any more."""


class _NoResult(Exception):
    """Why there is no result. A refusal, or an answer that takes too long, is one of the query."""

    def __init__(self, gap: Gap, *, is_of_the_query: bool = False) -> None:
        super().__init__(gap.reason)
        self.gap = gap
        self.is_of_the_query = is_of_the_query


def _is_of_the_query(status: int, body: bytes) -> bool:
    """Whether another query could fare better: this one was too long, was not understood, took too
    long, or was too much for the server.

    https://prometheus.io/docs/prometheus/latest/querying/api/ (format of errors)
    """
    if status != 503:
        return status in (400, 404, 413, 414, 422, 500, 504)
    try:
        return bool(json.loads(body)["errorType"] == "timeout")
    except (ValueError, KeyError, TypeError):
        return False


def refused(said: str, query: str) -> Gap:
    """The provider understood the question and gives no answer."""
    return error_gap(f"the query was refused: {said} ({query})")


def no_answer(seconds: float) -> Gap:
    """The provider took too long."""
    return error_gap(f"no answer within {seconds:g} s")


def cannot_be_reached(error: BaseException) -> Gap:
    """There was no connection, or it broke."""
    return error_gap(f"cannot be reached: {_root(error)}")


def not_understood(error: BaseException) -> Gap:
    """The answer has not the form of the API."""
    return error_gap(f"its answer cannot be understood: {type(error).__name__}")


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL, as every HTTP client takes it."""
    parts = urlsplit(url)
    if not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def placeholders(target: Target, version: str, window_seconds: float) -> dict[str, str]:
    """What `$namespace`, `$service`, `$version` and `$window` stand for, safe inside quotes."""
    return {
        "namespace": escaped(target.namespace),
        "service": escaped(target.service),
        "version": escaped(version),
        "window": duration(window_seconds),
    }


def for_version(version: str, template: str) -> str:
    """The template; for every version with a matcher that any version fits.

    Raises ValueError when the query names the version anywhere else than in such a matcher.
    """
    if version != EVERY_VERSION:
        return template
    for_all = _VERSION_MATCHER.sub('=~".+"', template)
    if "$version" in for_all or "${version}" in for_all:
        raise ValueError('all versions can only be asked for where it says ="$version"')
    return for_all


def render(template: str, values: Mapping[str, str]) -> str:
    """Fill in a query template. Raises ValueError that names an unknown placeholder."""
    try:
        return Template(template).substitute(values)
    except KeyError as error:
        known = ", ".join(f"${name}" for name in values)
        raise ValueError(f"the query names ${error.args[0]}; known are {known}") from None
    except ValueError:
        raise ValueError("a lone $ in the query: write $$ for a literal one") from None


def escaped(value: str) -> str:
    r"""A value for use inside a quoted PromQL string, whichever quotes the template uses.

    Hex escapes, because `\'` is not allowed in a string quoted with `"`, nor the other way round.
    """
    return "".join(
        f"\\x{ord(char):02x}" if char in "\"'`\\" or ord(char) < 32 else char for char in value
    )


def duration(seconds: float) -> str:
    """A PromQL duration: `30s`, or milliseconds for fractions. Raises ValueError unless > 0."""
    milliseconds = round(seconds * 1000)
    if milliseconds <= 0:
        raise ValueError(f"a window of {seconds:g} s is too short to be queried")
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds // 1000}s"


def number_of(result: Any, query: str) -> float | Gap | None:
    """The one number in a query's result; None when it is empty.

    Several series, a range instead of an instant, NaN and infinities are errors.
    """
    if not isinstance(result, list):
        return error_gap(f"the result is not a list ({query})")
    if not result:
        return None
    if not isinstance(result[0], dict):
        return _finite(result, query)  # a scalar: [time, value]
    if len(result) > 1:
        return error_gap(
            f"{len(result)} series where one is expected: {_told_apart(result)} ({query})"
        )
    value = result[0].get("value")
    if value is None:
        return error_gap(f"the query gives a range and not an instant ({query})")
    return _finite(value, query)


def _finite(sample: Any, query: str) -> float | Gap:
    try:
        number = float(sample[1])
    except (IndexError, TypeError, ValueError, KeyError):
        return error_gap(f"the result is not a number ({query})")
    if not math.isfinite(number):
        return error_gap(f"the result is {sample[1]} ({query})")
    return number


def _counts(sli: SLI, bad: float, total: float) -> Counts | Gap:
    if total < 0 or bad < -EXCESS * total or bad > (1 + EXCESS) * total:
        return error_gap(f"SLI {sli.name}: {bad:g} bad of {total:g} in all cannot be")
    return Counts(bad=min(max(bad, 0.0), total), total=total)


def _told_apart(series: list[Any]) -> str:
    """The first few series by the labels in which they differ."""
    labels: list[dict[str, str]] = [one.get("metric") or {} for one in series]
    common = set.intersection(*(set(one.items()) for one in labels))
    sets = [sorted(set(one.items()) - common) for one in labels[:MOST_SERIES]]
    return "; ".join("{" + ", ".join(f'{k}="{v}"' for k, v in one) + "}" for one in sets)


def _root(error: BaseException) -> str:
    """The innermost cause: the outer ones repeat the whole URL with its query."""
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def error_gap(reason: str) -> Gap:
    return Gap(kind=VerdictKind.ERROR, reason="Prometheus: " + _cut(reason))


def _nodata(reason: str) -> Gap:
    return Gap(kind=VerdictKind.NODATA, reason="Prometheus: " + _cut(reason))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MOST_REASON else text[:MOST_REASON] + "…"
