"""The PromQL subset against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import httpx
import pytest

from evals.world.promql.evaluate import Labels, Points, Sample, evaluate, evaluate_range
from evals.world.promql.parse import Matcher, PromQLError, parse
from evals.world.world import World

Rows = dict[str, list[tuple[float, float | None]]]


class Samples:
    """Series written as `name{a="b"}`."""

    def __init__(self, rows: Rows) -> None:
        self._rows = []
        for text, points in rows.items():
            name, _, inner = text.rstrip("}").partition("{")
            labels = dict(pair.split("=") for pair in inner.split(",") if pair)
            pairs = {k: v.strip('"') for k, v in labels.items()}
            self._rows.append((tuple(sorted({**pairs, "__name__": name}.items())), points))

    def window(
        self, matchers: Iterable[Matcher], start: float, end: float
    ) -> Iterator[tuple[Labels, list[tuple[float, float | None]]]]:
        matchers = list(matchers)
        for labels, points in self._rows:
            pairs = dict(labels)
            if all(m.test(pairs.get(m.label, "")) for m in matchers):
                yield labels, [(t, v) for t, v in points if start <= t <= end]


def steps(*values: float | None) -> list[tuple[float, float | None]]:
    """Samples every 10 seconds from 0."""
    return [(10.0 * i, v if v is None else float(v)) for i, v in enumerate(values)]


DATA = Samples(
    {
        'hits{v="1",code="200"}': steps(0, 100, 200, 300, 400, 500, 600),
        'hits{v="1",code="500"}': steps(0, 0, 5, 5, 10, 10, 12),
        'hits{v="2",code="200"}': steps(0, 10, 20, 30, 5, 15, 25),
        'gone{v="1"}': steps(1, 2, None),
        'lat_bucket{le="0.1"}': steps(60),
        'lat_bucket{le="0.5"}': steps(90),
        'lat_bucket{le="+Inf"}': steps(100),
        'limit{v="1"}': steps(7),
    }
)


def at(text: str, when: float = 60.0) -> dict[str, float]:
    value = evaluate(parse(text), DATA, when)
    if isinstance(value, float):
        return {"": value}
    assert isinstance(value, list)
    out = {}
    for sample in value:
        assert isinstance(sample, Sample)
        out[",".join(f"{k}={v}" for k, v in sample.labels)] = sample.value
    return out


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 + 2 * 3 ^ 2", {"": 19.0}),
        ("-2 ^ 2", {"": -4.0}),
        ("2 ^ 3 ^ 2", {"": 512.0}),
        ("7 % 4 / 2", {"": 1.5}),
        ("1 > bool 2", {"": 0.0}),
        ('hits{code="500"}', {"__name__=hits,code=500,v=1": 12.0}),
        ('hits{code!~"2..",v=~"1|3"} * 2', {"code=500,v=1": 24.0}),
        ('hits{v="1",code="500"} offset 20s', {"__name__=hits,code=500,v=1": 10.0}),
        ("sum by (v) (hits)", {"v=1": 612.0, "v=2": 25.0}),
        ("sum(hits) without (code)", {"v=1": 612.0, "v=2": 25.0}),
        ("count(hits)", {"": 3.0}),
        ("avg(hits)", {"": 637 / 3}),
        ("max by (code) (hits)", {"code=200": 600.0, "code=500": 12.0}),
        ("min(hits)", {"": 12.0}),
        ('increase(hits{code="500"}[60s])', {"code=500,v=1": 12.0}),
        ('increase(hits{v="2"}[1m])', {"code=200,v=2": 55.0}),
        ('rate(hits{v="1",code="200"}[1m])', {"code=200,v=1": 10.0}),
        ('irate(hits{v="1",code="500"}[1m])', {"code=500,v=1": 0.2}),
        ('delta(hits{v="2"}[1m])', {"code=200,v=2": 25.0}),
        ('resets(hits{v="2"}[1m])', {"code=200,v=2": 1.0}),
        ('max_over_time(hits{v="2"}[1m])', {"code=200,v=2": 30.0}),
        ('count_over_time(hits{v="2"}[1m])', {"code=200,v=2": 7.0}),
        (
            'sum by (v) (increase(hits{code=~"5.."}[1m])) / sum by (v) (increase(hits[1m]))',
            {"v=1": 12 / 612},
        ),
        ("hits{code='500'} > 11", {"__name__=hits,code=500,v=1": 12.0}),
        ("hits{code='500'} > 12", {}),
        ("hits{code='500'} >= bool 12", {"code=500,v=1": 1.0}),
        ("sum(nothing) or vector(0)", {"": 0.0}),
        ("sum(hits) or vector(0)", {"": 637.0}),
        ("hits and on (v) limit", {
            "__name__=hits,code=200,v=1": 600.0, "__name__=hits,code=500,v=1": 12.0,
        }),
        ("hits unless on (v) limit", {"__name__=hits,code=200,v=2": 25.0}),
        ("hits * on (v) group_left limit", {"code=200,v=1": 4200.0, "code=500,v=1": 84.0}),
        ("clamp_min(hits{code='500'} - 20, 0)", {"code=500,v=1": 0.0}),
        ("clamp_max(hits{code='500'}, 3)", {"code=500,v=1": 3.0}),
        ("absent(nothing{v='9'})", {"v=9": 1.0}),
        ("absent(hits)", {}),
        ("histogram_quantile(0.5, lat_bucket)", {"": 0.1 * 50 / 60}),
        ("histogram_quantile(0.8, lat_bucket)", {"": 0.1 + 0.4 * 20 / 30}),
        ("histogram_quantile(0.99, lat_bucket)", {"": 0.5}),
        ("gone", {}),
        ("scalar(limit) + time()", {"": 67.0}),
        ("1 / 0", {"": math.inf}),
    ],
)  # fmt: skip
def test_value(text: str, wanted: dict[str, float]) -> None:
    assert at(text) == pytest.approx(wanted)


def test_window_that_is_not_full_is_extrapolated_like_prometheus() -> None:
    # Samples at 30..60 in a window from 25 to 65: 300 seen over 30 s, 5 s added at either end.
    assert at('increase(hits{v="1",code="200"}[40s])', 65) == pytest.approx({"code=200,v=1": 400})


def test_single_sample_has_no_increase() -> None:
    assert at("increase(limit[1m])", 0) == {}


def test_last_sample_is_seen_for_five_minutes() -> None:
    assert at("limit", 300) == {"__name__=limit,v=1": 7.0}
    assert at("limit", 301) == {}


def test_staleness_hides_a_series_at_once_but_not_its_past() -> None:
    assert at("gone", 19) == {"__name__=gone,v=1": 2.0}
    assert at("gone", 20) == {}
    assert at("count_over_time(gone[1m])", 20) == {"v=1": 2.0}


def test_range_query_evaluates_every_step() -> None:
    rows = evaluate_range(parse("sum by (v) (hits)"), DATA, 0, 60, 20)
    assert rows == [
        Points((("v", "1"),), [(0, 0), (20, 205), (40, 410), (60, 612)]),
        Points((("v", "2"),), [(0, 0), (20, 20), (40, 5), (60, 25)]),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "", "1 +", "sum(", "hits{", 'hits{v="1"', "nope(hits)", "rate(hits)", "sum(hits[5m])",
        "{}", 'hits{v=~"("}', "1 > 2", "hits[5m:1m]", "hits @ 5", "vector(hits)", "hits or 1",
        "hits[abc]", "hits $ 2",
    ],
)  # fmt: skip
def test_what_cannot_be_parsed_is_refused(text: str) -> None:
    with pytest.raises(PromQLError) as caught:
        parse(text)
    assert caught.value.kind == "bad_data"


def test_ambiguous_match_is_an_execution_error() -> None:
    with pytest.raises(PromQLError, match="many-to-many") as caught:
        at("hits / on (v) hits")
    assert caught.value.kind == "execution"


async def test_errors_have_the_shape_of_prometheus(world: World, http: httpx.AsyncClient) -> None:
    url = f"{world.prometheus_url}/api/v1/query"
    answer = await http.get(url, params={"query": "sum(up"})
    assert answer.status_code == 400
    body = answer.json()
    assert (body["status"], body["errorType"]) == ("error", "bad_data")
    assert body["error"].startswith('invalid parameter "query": ')
    answer = await http.get(url, params={"query": "up", "time": "yesterday"})
    assert answer.status_code == 400
    answer = await http.get(url, params={"query": "http_requests_total / on () up"})
    assert (answer.status_code, answer.json()["errorType"]) == (422, "execution")


async def test_answers_say_that_they_are_simulated(world: World, http: httpx.AsyncClient) -> None:
    answer = await http.post(f"{world.prometheus_url}/api/v1/query", data={"query": "up"})
    assert answer.headers["X-Fermata-Simulated"] == "true"
    assert "simulated" in answer.json()["warnings"][0]
    assert (await http.get(f"{world.prometheus_url}/-/ready")).status_code == 200
    labels = (await http.get(f"{world.prometheus_url}/api/v1/labels")).json()["data"]
    assert {"__name__", "code", "le", "namespace", "service", "track", "version"} <= set(labels)


async def test_range_queries_are_bounded(world: World, http: httpx.AsyncClient) -> None:
    url = f"{world.prometheus_url}/api/v1/query_range"
    params = {"query": "up", "start": "0", "end": "20000", "step": "1"}
    assert "11,000" in (await http.get(url, params=params)).json()["error"]
    now = world.clock.now().timestamp()
    params = {"query": "up", "start": str(now - 60), "end": str(now), "step": "15s"}
    (row,) = (await http.get(url, params=params)).json()["data"]["result"]
    assert [v for _, v in row["values"]] == ["1"] * 5
    for wrong in ({"step": "0"}, {"end": "1"}, {"step": "soon"}):
        assert (await http.get(url, params=params | wrong)).status_code == 400
