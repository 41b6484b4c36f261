"""`fermata judge FILE`: what it reads, what it prints, and that it judges as it would live."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli import app
from domain.errors import SourceError
from domain.verdict import VerdictKind
from evals.judging import as_json, judge_case
from evals.judging_input import COLUMNS, read_cases
from nodes.judge import judge

RUNNER = CliRunner()


def window(
    index: int,
    canary: tuple[float, float] | None,
    stable: tuple[float, float] | None,
    **more: Any,
) -> dict[str, Any]:
    def side(counts: tuple[float, float] | None) -> dict[str, float] | None:
        return None if counts is None else {"bad": counts[0], "total": counts[1]}

    made = {"start": 60 * index, "seconds": 60, "metric": "errors", "kind": "errors"}
    return {**made, "canary": side(canary), "stable": side(stable), **more}


def drawn(seed: int, times: float, count: int = 30, rpm: int = 6000) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    n, s = rng.poisson(0.1 * rpm, count), rng.poisson(0.9 * rpm, count)
    x, y = rng.binomial(n, 0.002 * times), rng.binomial(s, 0.002)
    return [window(i, (int(x[i]), int(n[i])), (int(y[i]), int(s[i]))) for i in range(count)]


def said(windows: list[dict[str, Any]], **config: Any) -> dict[str, Any]:
    text = json.dumps({"id": "one", "config": config, "windows": windows})
    (case,) = read_cases(text, "one.json")
    return as_json(judge_case(case))


def test_a_case_at_gos_zero_time_is_judged_like_any_other() -> None:
    windows = [one | {"start": f"0001-01-01T00:{at:02}:00Z"} for at, one in
               enumerate(drawn(1, 1.0))]  # fmt: skip
    assert said(windows)["verdict"] == said(drawn(1, 1.0))["verdict"]


def test_an_answer_that_cannot_be_is_not_called_no_answer() -> None:
    reason = said([window(at, (700, 600), (11, 5400)) for at in range(10)])["reason"]
    assert reason.startswith("errors: counts that cannot be in 10 windows: more bad events than")


def test_each_line_of_a_jsonl_file_is_answered_by_a_line(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    cases = [{"id": name, "windows": drawn(seed, times)} for name, seed, times in
             (("a", 1, 1.0), ("b", 2, 20.0))]  # fmt: skip
    file.write_text("\n".join(json.dumps(one) for one in cases) + "\n", encoding="utf-8")
    result = RUNNER.invoke(app, ["judge", str(file), "--json"])
    assert result.exit_code == 0, result.output
    first, second = (json.loads(line) for line in result.output.splitlines())
    assert set(first) == {"id", "verdict", "decided_at", "reason", "metrics"}
    assert (first["id"], first["verdict"], first["decided_at"]) == ("a", "pass", 29)
    assert (second["id"], second["verdict"]) == ("b", "fail")
    assert 1 <= second["decided_at"] <= 5
    (metric,) = second["metrics"]
    assert metric["e_value"] >= metric["e_value_to_fail"] == 100
    assert metric["ratio_lower"] > 1.5
    assert metric["share"] == pytest.approx(0.1, abs=0.02)


def test_the_table_shows_numbers_pictures_and_the_sentence(tmp_path: Path) -> None:
    file = tmp_path / "case.json"
    file.write_text(json.dumps({"id": "rel", "windows": drawn(3, 20.0)}), encoding="utf-8")
    result = RUNNER.invoke(app, ["judge", str(file)])
    assert result.exit_code == 1
    for words in ("rel: fail at window", "on stable", "times stable", "e-value", "█", "evidence"):
        assert words in result.output


def test_csv_is_judged_as_json_is(tmp_path: Path) -> None:
    windows = {"a": drawn(5, 1.0), "b": drawn(6, 20.0)}
    lines = [",".join((*COLUMNS, "id"))]
    for name, rows in windows.items():
        for one in rows:
            sides = [str(one[v][c]) for v in ("stable", "canary") for c in ("bad", "total")]
            lines.append(f"{one['start']},{one['seconds']},errors,errors,{','.join(sides)},{name}")
    file = tmp_path / "windows.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    result = RUNNER.invoke(app, ["judge", str(file), "--json"])
    assert result.exit_code == 0, result.output
    for line in result.output.splitlines():
        found = json.loads(line)
        assert found == {**said(windows[found["id"]]), "id": found["id"]}


def test_the_deciding_window_is_given_by_its_place_in_the_list() -> None:
    errors = drawn(7, 20.0)
    latency = [{**one, "metric": "latency", "kind": "latency"} for one in drawn(8, 1.0)]
    mixed = [one for pair in zip(errors, latency, strict=True) for one in pair]
    alone, both = said(errors), said(mixed)
    assert both["verdict"] == "fail"
    assert mixed[both["decided_at"]]["metric"] == "errors"
    assert both["decided_at"] % 2 == 0
    assert both["decided_at"] // 2 >= alone["decided_at"]  # alpha is split over two metrics


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), times=st.sampled_from([1.0, 3.0, 8.0, 40.0]))
def test_a_whole_file_says_what_looks_after_each_window_would_have_said(
    seed: int, times: float
) -> None:
    windows = drawn(seed, times, count=14)
    (case,) = read_cases(json.dumps({"id": "x", "windows": windows}), "x.json")
    judged = judge_case(case)
    live: int | None = None
    for index in range(len(windows)):
        verdict = judge(
            case.windows[: index + 1],
            objectives={"errors": None},
            config=case.options.judge,
            final=index == len(windows) - 1,
            planned=len(windows),
        )
        if verdict.kind is VerdictKind.FAIL:
            live = index
            break
    assert verdict.kind is judged.verdict.kind
    assert verdict.reason == judged.verdict.reason
    if live is not None:
        assert judged.decided_at == live


def test_order_and_doubles_do_not_change_what_is_said() -> None:
    for times in (1.0, 20.0):
        windows = drawn(11, times)
        plain = said(windows)
        shuffled = said([*windows[15:], *windows[:15], windows[4], windows[20]])
        assert (shuffled["verdict"], shuffled["reason"]) == (plain["verdict"], plain["reason"])


def test_windows_of_one_time_that_disagree_are_an_error() -> None:
    windows = drawn(12, 1.0)
    found = said([*windows, {**windows[9], "canary": {"bad": 40, "total": 600}}])
    assert found["verdict"] == "error"
    assert "different counts" in found["reason"]


def test_time_that_windows_share_is_counted_once() -> None:
    # Five-minute windows a minute apart: four of five repeat what was seen.
    sliding = [window(i, (3, 3000), (27, 27000), seconds=300) for i in range(30)]
    (metric,) = said(sliding)["metrics"]
    assert metric["windows"] <= 6


def test_a_check_with_large_holes_does_not_pass() -> None:
    windows = drawn(13, 1.0, count=60)
    assert said([*windows[:20], *windows[48:]])["verdict"] == "nodata"
    assert said([*windows[:40], *windows[44:]])["verdict"] == "pass"


def test_a_clock_that_jumps_is_survived() -> None:
    windows = drawn(14, 1.0)
    for jump in (86_400, -86_400, 10_000_000_000):
        moved = [{**one, "start": one["start"] + (jump if i > 15 else 0)}
                 for i, one in enumerate(windows)]  # fmt: skip
        assert said(moved)["verdict"] in ("nodata", "inconclusive")


@pytest.mark.parametrize(
    "counts",
    [(-5, 600), (3, -600), (700, 600), (math.nan, 600), (3, math.inf), (math.nan, math.nan)],
)
@pytest.mark.parametrize("side", ["canary", "stable"])
def test_counts_that_cannot_be_never_pass(counts: tuple[float, float], side: str) -> None:
    windows = drawn(15, 1.0)
    windows[12][side] = {"bad": counts[0], "total": counts[1]}
    found = said(windows)
    assert found["verdict"] == "error"
    assert "counts that cannot be" in found["reason"]


@pytest.mark.parametrize("missing", [None, {}, {"bad": None, "total": None}])
def test_without_the_canarys_series_there_is_no_data(missing: Any) -> None:
    windows = [{**one, "canary": missing} for one in drawn(16, 1.0)]
    assert said(windows)["verdict"] == "nodata"


def test_without_stables_series_only_the_slo_can_be_judged() -> None:
    windows = [{**one, "stable": None} for one in drawn(17, 1.0)]
    assert said(windows)["verdict"] == "nodata"
    assert said(windows, objectives={"errors": 0.99})["verdict"] == "pass"


def test_a_baseline_without_errors() -> None:
    clean = [window(i, (0, 600), (0, 5400)) for i in range(30)]
    assert said(clean)["verdict"] == "pass"
    few = [window(i, (0, 6), (0, 54)) for i in range(30)]
    assert said(few)["verdict"] == "inconclusive"
    worse = [window(i, (3, 600), (0, 5400)) for i in range(30)]
    assert said(worse)["verdict"] == "fail"


def test_low_traffic_is_inconclusive_for_good_and_for_bad() -> None:
    for times in (1.0, 3.0):
        for seed in range(20):
            assert said(drawn(seed, times, rpm=100))["verdict"] == "inconclusive"


def test_a_canary_with_another_share_than_its_weight_does_not_pass() -> None:
    windows = drawn(18, 1.0)
    assert said(windows, weight=10)["verdict"] == "pass"
    assert said(windows, weight=0.1)["verdict"] == "pass"
    found = said(windows, weight=50)
    assert found["verdict"] == "error"
    assert "where its weight is 50%" in found["reason"]
    assert said(drawn(19, 20.0), weight=50)["verdict"] == "fail"


@pytest.mark.parametrize(
    ("name", "text", "line", "words"),
    [
        ("a.json", "{", 1, "not good JSON"),
        ("a.json", "", 1, "empty"),
        ("a.json", '{"id": "x"}', 1, "windows"),
        ("a.jsonl", '{"id": "x", "windows": []}\n{"id": 1, "windows": 3}', 2, "windows"),
        ("a.jsonl", '{"id": "x", "windows": []}\nnonsense', 2, "not good JSON"),
        ("a.json", '{"windows": [], "config": {"alfa": 1}}', 1, "alfa"),
        ("a.json", '{"windows": [], "config": {"alpha": 7}}', 1, "alpha"),
        ("a.json", json.dumps({"windows": [window(0, (1, 2), (1, 2), seconds=0)]}), 1, "seconds"),
        ("a.json", json.dumps({"windows": [window(0, (1, 2), (1, 2), kind="joy")]}), 1, "kind"),
        ("a.json", json.dumps({"windows": [window(0, (1, 2), (1, 2), start=1e300)]}), 1, ""),
        ("a.csv", "start,seconds\n1,2", 1, "no column metric"),
        ("a.csv", ",".join(COLUMNS) + "\n0,60,errors,errors,1,2,x,4", 2, "canary.bad"),
        ("a.csv", ",".join(COLUMNS) + "\n0,60,errors", 2, "values than columns"),
    ],
)
def test_what_cannot_be_read_is_named_with_file_line_and_hint(
    name: str, text: str, line: int, words: str
) -> None:
    with pytest.raises(SourceError) as caught:
        list(read_cases(text, name))
    problem = caught.value.problems[0]
    assert (problem.file, problem.line) == (name, line)
    assert words in problem.message
    assert problem.hint


def test_settings_for_all_cases_come_from_a_file(tmp_path: Path) -> None:
    file, config = tmp_path / "case.json", tmp_path / "judge.yaml"
    file.write_text(json.dumps({"id": "rel", "windows": drawn(18, 1.0)}), encoding="utf-8")
    config.write_text("weight: 50\nobjectives: {errors: 0.99}\n", encoding="utf-8")
    result = RUNNER.invoke(app, ["judge", str(file), "--json", "--config", str(config)])
    assert json.loads(result.output)["verdict"] == "error"


numbers = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 2000)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from(["errors", "latency"]), *[numbers] * 4),
        max_size=12,
    )
)
def test_whatever_the_counts_the_answer_is_json_and_no_pass_rests_on_nonsense(
    rows: list[tuple[Any, ...]],
) -> None:
    windows = [
        {
            "start": 30 * at, "seconds": 30, "metric": metric, "kind": metric,
            "canary": {"bad": x, "total": n}, "stable": {"bad": y, "total": s},
        }
        for at, metric, x, n, y, s in rows
    ]  # fmt: skip
    found = said(windows)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["reason"]
    if found["verdict"] == "pass":
        for one in windows:
            for side in (one["canary"], one["stable"]):
                bad, total = side["bad"], side["total"]
                if bad is not None and total is not None:
                    assert bad <= total + max(0.5, 0.002 * total)
                    assert bad >= -max(0.5, 0.002 * total)
