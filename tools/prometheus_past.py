"""A stretch of the past, read from a Prometheus HTTP API with one range query per expression.

Range queries in a script of a few seconds are what prometheus-api-client is good at. What is asked
while serving goes through `tools.prometheus` instead (docs/decisions/0020-what-a-look-costs.md).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect
from pydantic import SecretStr
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from domain.verdict import Gap
from tools.prometheus import (
    UNSPLIT,
    PrometheusReading,
    cannot_be_reached,
    error_gap,
    no_answer,
    not_understood,
    number_of,
    refused,
)

Instants = dict[int, list[dict[str, Any]]]
"""By the place of an instant in the stretch: the series that have a sample there."""


@dataclass
class PastPrometheus(PrometheusReading):
    """Answers `MetricsReader` for the instants `since`, `since + step`, … up to `until`.

    `step` and `timeout` are seconds; `timeout` is that of one range query. Made for one event loop.
    """

    url: str
    since: datetime
    until: datetime
    step: float
    token: SecretStr | None = None
    timeout: float = 60.0
    _answers: dict[str, asyncio.Task[Instants | Gap]] = field(default_factory=dict)

    async def _number(self, query: str, at: datetime) -> float | Gap | None:
        place = round((at - self.since).total_seconds() / self.step)
        if query not in self._answers:
            self._answers[query] = asyncio.create_task(asyncio.to_thread(self._range, query))
        found = await self._answers[query]
        return found if isinstance(found, Gap) else number_of(found.get(place, []), query)

    def _range(self, query: str) -> Instants | Gap:
        """Every instant of the stretch; called in a thread, since the library is synchronous."""
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
        connect = PrometheusConnect(
            url=self.url.rstrip("/"),
            retry=retry,
            auth=_Auth(self.token),  # type: ignore[arg-type]
            timeout=self.timeout,  # type: ignore[arg-type]
        )
        # The library would round both ends to whole seconds.
        ends = {
            "start": f"{self.since.timestamp():.3f}",
            "end": f"{self.until.timestamp():.3f}",
            "timeout": f"{self.timeout:g}s",
        }
        try:
            series = connect.custom_query_range(
                query, self.since, self.until, f"{self.step:.3f}", params={**ends, **UNSPLIT}
            )
            return self._by_instant(series)
        except PrometheusApiClientException as error:
            return refused(str(error), query)
        except requests.Timeout:
            return no_answer(self.timeout)
        except requests.ConnectionError as error:
            return cannot_be_reached(error)
        except (requests.RequestException, KeyError, TypeError, ValueError) as error:
            return not_understood(error)
        finally:
            connect.close()

    def _by_instant(self, series: Any) -> Instants | Gap:
        """Raises KeyError, TypeError and ValueError for what is no matrix."""
        if not isinstance(series, list):
            return error_gap("the result is not a list")
        found: Instants = defaultdict(list)
        for one in series:
            for time, value in one["values"]:
                place = round((float(time) - self.since.timestamp()) / self.step)
                found[place].append({"metric": one["metric"], "value": [time, value]})
        return dict(found)


class _Auth(AuthBase):
    """Sets the bearer token. Present even without one, so that a .netrc file is never consulted."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token.get_secret_value()}"
        return request
