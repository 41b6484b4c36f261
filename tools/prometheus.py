"""Service level indicators from any Prometheus HTTP API (Prometheus, GKE's managed one, Thanos).

Queries go through prometheus-api-client's `PrometheusConnect`. It is synchronous, so each query
runs in a thread of a small pool of its own, and the wait for it is bounded from outside as well:
`requests` bounds only the silence between two bytes.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from string import Template
from typing import Any

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from pydantic import SecretStr
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from domain.metric import Metric
from domain.service import SLI, Target
from domain.verdict import Counts, Gap, VerdictKind
from tools.ports import EVERY_VERSION

THREADS = 4
GRACE_SECONDS = 2.0
"""How much longer than the HTTP timeout a query may take in all."""
EXCESS = 0.01
"""Share by which `bad` may lie outside of 0..total before it is a wrong query instead of the
extrapolation of `increase()`."""
MOST_REASON = 300
_VERSION_MATCHER = re.compile(r"=\s*([\"'`])\$(?:version|\{version\})\1")
MOST_SERIES = 3


class PrometheusMetrics:
    """`MetricsReader` on a Prometheus HTTP API.

    `url` is the base URL (with a path where the API is served below one), `token` a bearer token
    where it wants one, `timeout` seconds for one query. Close it on shutdown. `counts` never
    raises: what could not be known is a `Gap` with the reason.
    """

    def __init__(self, url: str, *, token: SecretStr | None = None, timeout: float = 10.0) -> None:
        self._timeout = timeout
        self._is_closed = False
        # A refused connection may be a restart; what got as far as an answer is not asked twice.
        retry = Retry(
            total=2,
            connect=2,
            read=False,
            status=0,
            other=0,
            backoff_factor=0.2,
            respect_retry_after_header=False,
        )
        self._connect = PrometheusConnect(
            url=url.rstrip("/"),
            retry=retry,
            auth=_Auth(token),  # type: ignore[arg-type]
            timeout=timeout,  # type: ignore[arg-type]
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prometheus")

    async def close(self) -> None:
        """Close the connections; queries still under way are abandoned. Safe to call twice."""
        self._is_closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connect.close()

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
            return _error(f"SLI {sli.name}: {error}")
        total = await self._number(total_query, at)
        if isinstance(total, Gap):
            return total
        if total is None:
            return _nodata(f"{sli.name}: no series for the total ({total_query})")
        if total == 0:
            return _nodata(f"{sli.name}: no events in {values['window']}")
        bad = await self._number(bad_query, at)
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
            return _error(f"metric {metric.name}: {error}")
        found = await self._number(query, at)
        return _nodata(f"{metric.name}: no series ({query})") if found is None else found

    async def _number(self, query: str, at: datetime) -> float | Gap | None:
        """The one number that a query has at an instant; None when there is no series."""
        loop = asyncio.get_running_loop()
        if self._is_closed:
            return _error("the client is closed")
        try:
            async with asyncio.timeout(self._timeout + GRACE_SECONDS):
                result = await loop.run_in_executor(self._threads, self._query, query, at)
        except TimeoutError:
            return _error(f"no answer within {self._timeout:g} s")
        except PrometheusApiClientException as error:
            return _error(f"the query was refused: {error} ({query})")
        except requests.Timeout:
            return _error(f"no answer within {self._timeout:g} s")
        except requests.ConnectionError as error:
            return _error(f"cannot be reached: {_root(error)}")
        except (requests.RequestException, KeyError, TypeError) as error:
            return _error(f"its answer cannot be understood: {type(error).__name__}")
        return number_of(result, query)

    def _query(self, query: str, at: datetime) -> Any:
        # A partial answer (Thanos, VictoriaMetrics) would be taken for all there is.
        whole = {"partial_response": "false", "deny_partial_response": "1"}
        params = {"time": f"{at.timestamp():.3f}", "timeout": f"{self._timeout:g}s", **whole}
        return self._connect.custom_query(query, params=params)


class _Auth(AuthBase):
    """Sets the bearer token. Present even without one, so that a .netrc file is never consulted."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        return request


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
        return _error(f"the result is not a list ({query})")
    if not result:
        return None
    if not isinstance(result[0], dict):
        return _finite(result, query)  # a scalar: [time, value]
    if len(result) > 1:
        return _error(
            f"{len(result)} series where one is expected: {_told_apart(result)} ({query})"
        )
    value = result[0].get("value")
    if value is None:
        return _error(f"the query gives a range and not an instant ({query})")
    return _finite(value, query)


def _finite(sample: Any, query: str) -> float | Gap:
    try:
        number = float(sample[1])
    except (IndexError, TypeError, ValueError, KeyError):
        return _error(f"the result is not a number ({query})")
    if not math.isfinite(number):
        return _error(f"the result is {sample[1]} ({query})")
    return number


def _counts(sli: SLI, bad: float, total: float) -> Counts | Gap:
    if total < 0 or bad < -EXCESS * total or bad > (1 + EXCESS) * total:
        return _error(f"SLI {sli.name}: {bad:g} bad of {total:g} in all cannot be")
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
    return str(error) or type(error).__name__


def _error(reason: str) -> Gap:
    return Gap(kind=VerdictKind.ERROR, reason="Prometheus: " + _cut(reason))


def _nodata(reason: str) -> Gap:
    return Gap(kind=VerdictKind.NODATA, reason="Prometheus: " + _cut(reason))


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= MOST_REASON else text[:MOST_REASON] + "…"
