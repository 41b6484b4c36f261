"""Counts from servers that answer wrongly, slowly or not at all: always a `Gap`, never a raise."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from domain.metric import Metric
from domain.service import SLI, Target, Workload
from domain.verdict import Counts, Gap, VerdictKind
from tools.ports import EVERY_VERSION
from tools.prometheus import PrometheusMetrics, duration, escaped, for_version, render
from tools.prometheus_joined import portions

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TARGET = Target(
    service="web",
    environment="test",
    namespace="shop",
    workload=Workload(deployment="web", container="app"),
    replicas=2,
)
AT = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
SELECTOR = 'namespace="$namespace",service="$service",version="$version"'


def sli(bad: str = "bad", total: str = "total") -> SLI:
    return SLI(name="errors", kind="errors", bad=bad, total=total, objective=0.99)


@asynccontextmanager
async def prometheus(handler: Handler, **options: Any) -> AsyncIterator[PrometheusMetrics]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    metrics = PrometheusMetrics(f"http://127.0.0.1:{runner.addresses[0][1]}/prometheus/", **options)
    yield metrics
    await metrics.close()
    await runner.cleanup()


def vector(*values: float | str) -> list[dict[str, Any]]:
    return [
        {"metric": {"pod": f"web-{n}"}, "value": [AT.timestamp(), str(value)]}
        for n, value in enumerate(values)
    ]


def answering(**results: Any) -> Handler:
    """A server that knows the result of each query by heart."""

    async def handler(request: web.Request) -> web.Response:
        result = results[request.query["query"]]
        return web.json_response({"status": "success", "data": {"result": result}})

    return handler


async def ask(metrics: PrometheusMetrics, one: SLI | None = None) -> Counts | Gap:
    return await metrics.counts(one or sli(), TARGET, "1.2.3", AT, 30)


async def test_both_numbers_make_counts() -> None:
    async with prometheus(answering(total=vector(200), bad=vector(3))) as metrics:
        assert await ask(metrics) == Counts(bad=3, total=200)


async def test_the_query_names_target_version_window_and_instant() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response({"status": "success", "data": {"result": vector(5)}})

    one = sli(total=f"sum(increase(requests_total{{{SELECTOR}}}[$window]))")
    async with prometheus(handler) as metrics:
        assert await ask(metrics, one) == Counts(bad=5, total=5)
    assert seen[0].path == "/prometheus/api/v1/query"
    asked = 'sum(increase(requests_total{namespace="shop",service="web",version="1.2.3"}[30s]))'
    assert asked in seen[0].query["query"]
    assert seen[1].query["query"] == asked
    assert seen[0].query["time"] == "1772366400.250"
    # A Thanos that lacks a part of the data must say so instead of leaving it out.
    assert seen[0].query["partial_response"] == "false"


@pytest.mark.parametrize(
    ("total", "bad", "kind", "words"),
    [
        ([], vector(1), VerdictKind.NODATA, "no series"),
        (vector(0), vector(0), VerdictKind.NODATA, "no events"),
        (vector("NaN"), [], VerdictKind.ERROR, "NaN"),
        (vector("+Inf"), [], VerdictKind.ERROR, "+Inf"),
        (vector(10), vector("NaN"), VerdictKind.ERROR, "NaN"),
        (vector(10, 20), [], VerdictKind.ERROR, 'pod="web-1"'),
        (vector(10), vector(1, 2), VerdictKind.ERROR, "2 series"),
        (vector(10), vector(12), VerdictKind.ERROR, "12 bad of 10"),
        (vector(10), vector(-3), VerdictKind.ERROR, "-3 bad"),
        (vector(-1), vector(0), VerdictKind.ERROR, "cannot be"),
        ([{"metric": {}, "values": [[1, "2"]]}], [], VerdictKind.ERROR, "range"),
        (vector("many"), [], VerdictKind.ERROR, "not a number"),
        ("text", [], VerdictKind.ERROR, "not a list"),
    ],
)
async def test_what_is_not_two_numbers_is_a_gap_of_the_right_kind(
    total: Any, bad: Any, kind: VerdictKind, words: str
) -> None:
    async with prometheus(answering(total=total, bad=bad)) as metrics:
        gap = await ask(metrics)
    assert isinstance(gap, Gap)
    assert gap.kind is kind
    assert words in gap.reason


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (vector(0.25), None),
        (vector(), VerdictKind.NODATA),
        (vector("NaN"), VerdictKind.ERROR),
        (vector(1, 2), VerdictKind.ERROR),
    ],
)
async def test_a_metric_of_ones_own_is_one_number_or_a_gap(
    result: list[dict[str, Any]], kind: VerdictKind | None
) -> None:
    metric = Metric(name="queue", query='max(queue{version="$version"})', limit=1.0)
    async with prometheus(answering(**{'max(queue{version="1.2"})': result})) as metrics:
        found = await metrics.value(metric, TARGET, "1.2", AT, 30)
    assert (found.kind if isinstance(found, Gap) else None) is kind
    assert kind is not None or found == 0.25


async def test_no_bad_series_beside_a_total_is_no_bad_event() -> None:
    async with prometheus(answering(total=vector(40), bad=[])) as metrics:
        assert await ask(metrics) == Counts(bad=0, total=40)


async def test_a_scalar_is_a_number_too() -> None:
    async with prometheus(answering(total=[1.0, "40"], bad=[1.0, "2"])) as metrics:
        assert await ask(metrics) == Counts(bad=2, total=40)


async def test_the_rounding_of_increase_is_no_error() -> None:
    async with prometheus(answering(total=vector(40), bad=vector(40.2))) as metrics:
        assert await ask(metrics) == Counts(bad=40, total=40)
    async with prometheus(answering(total=vector(40), bad=vector(-1e-9))) as metrics:
        assert await ask(metrics) == Counts(bad=0, total=40)


@pytest.mark.parametrize(
    ("bad", "words"),
    [("rate(x[$windw])", "$windw; known are $namespace"), ('x{a=~"b$"}', "write $$")],
)
async def test_a_template_that_cannot_be_filled_in_is_told(bad: str, words: str) -> None:
    async with prometheus(answering(total=vector(1))) as metrics:
        gap = await ask(metrics, sli(bad=bad))
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.ERROR
    assert words in gap.reason


@pytest.mark.parametrize(
    ("status", "requests"), [(400, 3), (401, 1), (422, 3), (429, 1), (500, 3), (503, 1)]
)
async def test_an_http_error_is_a_gap_with_the_servers_words_at_once(
    status: int, requests: int
) -> None:
    hits = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal hits
        hits += 1
        body = {"status": "error", "error": "parse error: unexpected foo"}
        return web.json_response(body, status=status, headers={"Retry-After": "60"})

    started = time.monotonic()
    async with prometheus(handler) as metrics:
        gap = await ask(metrics)
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.ERROR
    assert str(status) in gap.reason
    assert "unexpected foo" in gap.reason
    assert hits == requests, "what is wrong with a query may be wrong with one part of it"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("text", ["<html>sign in</html>", "{}", '{"data": null}', "[]", '"x"'])
async def test_an_answer_of_another_shape_is_a_gap(text: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=text)

    async with prometheus(handler) as metrics:
        gap = await ask(metrics)
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.ERROR


async def test_a_server_that_hangs_is_a_gap_after_the_timeout() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    async with prometheus(handler, timeout=0.3) as metrics:
        gap = await ask(metrics)
    assert isinstance(gap, Gap)
    assert "no answer within 0.3 s" in gap.reason


async def test_a_server_that_drips_is_a_gap_too() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        # Each byte comes well within the timeout; the whole never does.
        for _ in range(40):
            await response.write(b" ")
            await asyncio.sleep(0.1)
        return response

    async with prometheus(handler, timeout=0.3) as metrics:
        started = time.monotonic()
        gap = await ask(metrics)
        assert time.monotonic() - started < 2
    assert isinstance(gap, Gap)
    assert "no answer within" in gap.reason


async def test_a_server_that_is_down_is_a_gap(unused_tcp_port: int) -> None:
    metrics = PrometheusMetrics(f"http://127.0.0.1:{unused_tcp_port}")
    gap = await ask(metrics)
    await metrics.close()
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.ERROR
    assert "cannot be reached" in gap.reason
    assert "refused" in gap.reason


async def test_a_closed_client_is_a_gap() -> None:
    metrics = PrometheusMetrics("http://127.0.0.1:9")
    await metrics.close()
    await metrics.close()
    gap = await ask(metrics)
    assert isinstance(gap, Gap)
    assert "closed" in gap.reason


async def test_a_client_that_is_closed_between_two_tries_is_a_gap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = PrometheusMetrics("http://127.0.0.1:9")

    async def closing(_seconds: float) -> None:
        await metrics.close()

    monkeypatch.setattr("tools.prometheus.asyncio.sleep", closing)
    gap = await ask(metrics)
    assert isinstance(gap, Gap)
    assert "closed" in gap.reason


@pytest.mark.parametrize("url", ["http://u:p@127.0.0.1:9", "http://[::1", "http://127.0.0.1:99999"])
async def test_a_url_that_cannot_be_asked_is_a_gap(url: str) -> None:
    metrics = PrometheusMetrics(url, token=SecretStr("sesame"))
    gap = await ask(metrics)
    await metrics.close()
    assert isinstance(gap, Gap)
    assert gap.kind is VerdictKind.ERROR
    assert "sesame" not in gap.reason


async def test_the_token_is_sent_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=403, text="forbidden")

    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with prometheus(handler, token=SecretStr("s3cret-token")) as metrics:
        gap = await ask(metrics)
    async with prometheus(handler) as metrics:
        await ask(metrics)
    assert seen == ["Bearer s3cret-token", None]
    assert isinstance(gap, Gap)
    assert "s3cret" not in gap.reason


def joining(**results: Any) -> Handler:
    """A server that knows `label_replace` and `or`, with the result of each query by heart."""

    async def handler(request: web.Request) -> web.Response:
        parts = re.findall(
            r'label_replace\((\w+)\n, "(\w+)", "(\d+)", "", ""\)', request.query["query"]
        )
        assert parts, request.query["query"]
        result = [
            {**one, "metric": {**one["metric"], label: number}}
            for query, label, number in parts
            for one in results[query]
        ]
        return web.json_response({"status": "success", "data": {"result": result}})

    return handler


def counted(handler: Handler) -> tuple[Handler, list[str]]:
    """The same server, and the queries that it was asked."""
    asked: list[str] = []

    async def counting(request: web.Request) -> web.StreamResponse:
        asked.append(request.query["query"])
        return await handler(request)

    return counting, asked


async def test_what_is_asked_at_once_about_an_instant_is_one_request() -> None:
    handler, asked = counted(
        joining(good=vector(40), bad=vector(2), large=vector(900), none=[], two=vector(1, 2))
    )
    async with prometheus(handler) as metrics:
        found = await asyncio.gather(
            ask(metrics, sli("bad", "good")),
            ask(metrics, sli("none", "large")),
            ask(metrics, sli("good", "none")),
            ask(metrics, sli("two", "large")),
        )
    assert len(asked) == 1
    assert list(found[:2]) == [Counts(bad=2, total=40), Counts(bad=0, total=900)]
    nothing, many = found[2:]
    assert isinstance(nothing, Gap)
    assert nothing.kind is VerdictKind.NODATA
    assert isinstance(many, Gap)
    assert 'pod="web-1"' in many.reason
    assert "fermata" not in many.reason


async def test_a_query_that_cannot_be_joined_keeps_no_other_from_its_answer() -> None:
    alone = answering(good=vector(40), bad=vector(2), large=vector(900))

    async def refusing(request: web.Request) -> web.StreamResponse:
        if request.query["query"] == "broken" or "label_replace" in request.query["query"]:
            return web.json_response({"status": "error", "error": "unexpected foo"}, status=400)
        return await alone(request)

    handler, asked = counted(refusing)
    async with prometheus(handler) as metrics:
        for turn in range(2):
            good, broken = await asyncio.gather(
                ask(metrics, sli("bad", "good")), ask(metrics, sli("broken", "large"))
            )
            assert good == Counts(bad=2, total=40)
            assert isinstance(broken, Gap)
            assert "unexpected foo" in broken.reason
            assert len(asked) == (5, 9)[turn], "it is tried together once, not at each look"


async def test_one_that_takes_too_long_keeps_no_other_from_its_answer() -> None:
    alone = answering(good=vector(40), bad=vector(2))

    async def slow(request: web.Request) -> web.StreamResponse:
        if "slow" in request.query["query"]:
            await asyncio.sleep(30)
        return await alone(request)

    async with prometheus(slow, timeout=0.3) as metrics:
        good, late = await asyncio.gather(
            ask(metrics, sli("bad", "good")), ask(metrics, sli("bad", "slow"))
        )
    assert good == Counts(bad=2, total=40)
    assert isinstance(late, Gap)
    assert "no answer within 0.3 s" in late.reason


async def test_an_empty_answer_to_all_of_them_is_not_believed() -> None:
    """A server that does not know what it is asked may say so with nothing."""
    alone = answering(good=vector(40), bad=vector(2))

    async def ignorant(request: web.Request) -> web.StreamResponse:
        if "label_replace" in request.query["query"]:
            return web.json_response({"status": "success", "data": {"result": []}})
        return await alone(request)

    async with prometheus(ignorant) as metrics:
        assert await ask(metrics, sli("bad", "good")) == Counts(bad=2, total=40)


async def test_whoever_gives_up_takes_no_answer_away_from_the_others() -> None:
    async with prometheus(joining(good=vector(40), bad=vector(2))) as metrics:
        one, other = (asyncio.create_task(ask(metrics, sli("bad", "good"))) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        assert await other == Counts(bad=2, total=40)


def test_portions_fit_into_a_url_and_ask_for_nothing_twice() -> None:
    many = [f"query_{n}" for n in range(40)]
    assert [len(one) for one in portions([*many, *many])] == [16, 16, 8]
    long = ["x" * 1_500, "y" * 1_500, "z" * 1_500, "w" * 5_000]
    assert [one for portion in portions(long) for one in portion] == long
    assert [len(one) for one in portions(long)] == [2, 1, 1]


async def test_windows_are_read_side_by_side() -> None:
    at_once = 0
    most = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.05)
        at_once -= 1
        return web.json_response({"status": "success", "data": {"result": vector(5)}})

    async with prometheus(handler) as metrics:
        found = await asyncio.gather(*(ask(metrics) for _ in range(8)))
    assert found == [Counts(bad=5, total=5)] * 8
    assert most > 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "30s"), (90.0, "90s"), (1.5, "1500ms"), (0.0004, None), (0, None)]
)
def test_windows_are_promql_durations(seconds: float, text: str | None) -> None:
    if text is None:
        with pytest.raises(ValueError, match="too short"):
            duration(seconds)
    else:
        assert duration(seconds) == text


def test_no_value_can_leave_its_quotes() -> None:
    for quote in "\"'`\n":
        assert quote not in escaped(f"1{quote}2")
    assert escaped("1\\") == r"1\x5c"
    assert escaped("v1.2.3-rc.1_ü") == "v1.2.3-rc.1_ü"


def test_a_value_is_not_itself_a_template() -> None:
    assert render("$version", {"version": "$window", "window": "30s"}) == "$window"


def test_every_version_is_asked_for_with_a_matcher_that_any_fits() -> None:
    template = (
        'sum(increase(r{a="1",version="$version"}[$window])) + sum(r{version = \'$version\'})'
    )
    assert for_version(EVERY_VERSION, template) == (
        'sum(increase(r{a="1",version=~".+"}[$window])) + sum(r{version =~".+"})'
    )
    assert for_version("1.2", template) == template
    with pytest.raises(ValueError, match="all versions"):
        for_version(EVERY_VERSION, 'r{version=~"$version.*"}')
