"""View models: steps and their status, the drawing of the graph, charts, covered secrets."""

from __future__ import annotations

import pytest

from domain.decision import Outcome
from domain.run import RunState
from domain.verdict import MetricVerdict, VerdictKind
from graph.blueprint import blueprint
from store.records import RunDetail
from tests.web import scenes
from tests.web.scene import Scene, checkout_plan, merged
from web.charts import BAR_WIDTH, LINE_HEIGHT, bars, lines
from web.masking import mask
from web.progress import stages_of, steps_of
from web.rendering import percent, relative, short_commits, web_address
from web.topology import BOX_HEIGHT, BOX_WIDTH, EDGES, HEIGHT, PLACES, WIDTH, picture
from web.views import decision_views, event_sentence


def statuses(detail: RunDetail) -> list[str]:
    return [step.status for step in steps_of(detail) if step.phase == "plan"]


def test_the_drawing_has_the_nodes_and_edges_of_the_compiled_graph() -> None:
    graph = blueprint().get_graph()
    assert set(PLACES) == set(graph.nodes)
    assert set(EDGES) == {(edge.source, edge.target) for edge in graph.edges}


def test_no_node_of_the_drawing_covers_another_or_leaves_it() -> None:
    for name, (x, y) in PLACES.items():
        assert BOX_WIDTH / 2 <= x + 12 <= WIDTH
        assert BOX_HEIGHT / 2 <= y <= HEIGHT - BOX_HEIGHT / 2
        for other, (a, b) in PLACES.items():
            apart = abs(x - a) >= BOX_WIDTH or abs(y - b) >= BOX_HEIGHT
            assert name == other or apart


def test_passed_edges_are_lit_and_the_current_node_is_marked() -> None:
    drawn = picture(["conductor", "release", "gate", "wait", "wait", "gate"], RunState.WAITING)
    lit = {(edge.source, edge.target) for edge in drawn.edges if edge.passed}
    assert lit == {
        ("__start__", "conductor"), ("conductor", "release"), ("release", "gate"),
        ("gate", "wait"), ("wait", "gate"),
    }  # fmt: skip
    assert [node.name for node in drawn.nodes if node.current] == ["gate"]


def test_a_run_that_ended_stands_at_the_end() -> None:
    drawn = picture(["conductor", "report"], RunState.DENIED)
    assert [node.name for node in drawn.nodes if node.current] == ["__end__"]
    assert drawn.words == ("START", "conductor", "report", "END")


def test_a_run_that_has_not_begun_lights_nothing() -> None:
    drawn = picture([], RunState.QUEUED)
    assert not any(edge.passed for edge in drawn.edges)
    assert not any(node.current or node.times for node in drawn.nodes)


def test_what_was_walked_often_is_said_once() -> None:
    path = ["conductor", "release", *["gate", "wait"] * 12, "gate", "execute"]
    assert "(gate → wait, 12 times)" in picture(path, RunState.RUNNING).words


def test_every_step_of_a_succeeded_run_is_done() -> None:
    assert set(statuses(scenes.succeeded())) == {"done"}


def test_the_step_that_asks_stands_between_done_and_pending() -> None:
    found = statuses(scenes.asking())
    at = found.index("asked")
    assert set(found[:at]) == {"done"}
    assert set(found[at + 1 :]) == {"pending"}


def test_a_denied_step_ends_the_plan() -> None:
    found = statuses(scenes.denied())
    at = found.index("denied")
    assert set(found[:at]) == {"done"}
    assert set(found[at + 1 :]) == {"skipped"}


def test_while_a_run_goes_back_the_step_that_failed_stays_failed() -> None:
    detail = scenes.rolled_back()
    back = next(step for step in steps_of(detail) if step.phase == "rollback")
    going = detail.run.model_copy(
        update={"state": RunState.RUNNING, "step_id": back.id, "finished_at": None}
    )
    detail = detail.model_copy(update={"run": going})
    found = statuses(detail)
    assert found.count("failed") == 1
    assert "pending" not in found
    assert next(s for s in steps_of(detail) if s.id == back.id).status == "current"


def test_a_step_with_an_unknown_outcome_is_not_called_done() -> None:
    detail = scenes.failed()
    assert "failed" in statuses(detail)
    assert "done" not in statuses(detail)[statuses(detail).index("failed") :]


def test_a_fresh_plan_is_pending_throughout() -> None:
    plan = checkout_plan(1, "Fresh")
    detail = Scene("fresh", plan, merged(1, "Fresh"), 0.1).done(RunState.RUNNING, "")
    assert set(statuses(detail)) == {"pending"}
    assert {stage.status for stage in stages_of(steps_of(detail))} == {"pending"}


def test_a_run_without_a_plan_has_no_steps() -> None:
    assert steps_of(scenes.queued()) == ()


def test_stages_keep_the_order_and_all_steps_of_the_plan() -> None:
    steps = steps_of(scenes.succeeded())
    stages = stages_of(steps)
    assert [step.id for stage in stages for step in stage.steps] == [step.id for step in steps]


def metric(canary: float | None, stable: float | None, allowed: float | None) -> MetricVerdict:
    return MetricVerdict(
        metric="errors", verdict=VerdictKind.INCONCLUSIVE, canary_rate=canary, stable_rate=stable,
        allowed_rate=allowed, reason="",
    )  # fmt: skip


@pytest.mark.parametrize(
    "rates", [(0.0, 0.0, 0.0), (None, None, None), (1.0, 0.001, 0.01), (0.5, None, 0.01)]
)
def test_bars_stay_in_their_frame_and_on_one_scale(
    rates: tuple[float | None, float | None, float | None],
) -> None:
    drawn = bars(metric(*rates))
    for rate, length in zip(rates, (drawn.canary, drawn.stable, drawn.allowed), strict=True):
        assert (rate is None) == (length is None)
        assert length is None or 0 <= length <= BAR_WIDTH


def test_a_rate_above_what_is_allowed_is_a_breach() -> None:
    assert bars(metric(0.02, 0.001, 0.01)).breach
    assert not bars(metric(0.005, 0.001, 0.01)).breach
    assert not bars(metric(None, None, 0.01)).breach


def test_lines_need_two_looks_and_stay_in_their_frame() -> None:
    rows = [row for row in scenes.rolled_back().verdicts if row.phase == "canary"]
    assert lines(rows[:1], "errors") is None
    assert lines(rows, "no such metric") is None
    drawn = lines(rows, "errors")
    assert drawn is not None
    heights = [float(point.split(",")[1]) for point in drawn.canary.split()]
    assert heights == sorted(heights, reverse=True), "the rate rose, so the line goes up"
    assert all(0 <= height <= LINE_HEIGHT for height in heights)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password=hunter2!", "hunter2!"),
        ('{"api_key": "abcd1234"}', "abcd1234"),
        ("Authorization: Bearer abcdef0123456789", "abcdef0123456789"),
        ("postgresql://user:s3cret@db/x", "s3cret"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_abc"),
        ("AKIAABCDEFGHIJKLMNOP", "AKIAABC"),
        ("https://hooks.slack.com/services/T0/B0/xyz", "T0/B0"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc", "eyJhbGci"),
    ],
)
def test_secrets_are_covered(text: str, secret: str) -> None:
    covered = mask(f"before {text} after")
    assert secret not in covered
    assert "[redacted:" in covered
    assert covered.startswith("before")


@pytest.mark.parametrize(
    "text",
    ["Roll checkout to 4f2c1a9be0", "0.3% errors against 0.3% on stable", "checkout/prod: done",
     "the tokenizer is faster", "release:acme/checkout@4f2c1a9be07d35c8a6f1e2d3c4b5a69788776655"],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert mask(text) == text


def test_long_texts_are_masked_in_time() -> None:
    for text in ("password" * 20_000, "a" * 200_000, "-----BEGIN PRIVATE KEY-----" * 5_000):
        mask(text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "just now"), (-59, "just now"), (-60, "1 min ago"), (-7200, "2 h ago"),
     (30, "in under 1 min"), (240, "in 4 min"), (-180_000, "2 d ago")],
)  # fmt: skip
def test_times_are_told_calmly(seconds: float, words: str) -> None:
    assert relative(seconds) == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.0, "0%"), (0.081, "8.1%"), (0.002, "0.20%"), (0.5, "50%"), (None, "\N{EN DASH}")],
)
def test_rates_have_the_digits_they_deserve(rate: float | None, words: str) -> None:
    assert percent(rate) == words


def test_only_addresses_of_the_web_become_links() -> None:
    assert web_address("https://example.test/a") == "https://example.test/a"
    for bad in (
        "javascript:alert(1)",
        "data:text/html,x",
        "//evil.example",
        "",
        " javascript:x",
        "http://[",
    ):
        assert web_address(bad) == ""


def test_full_commits_are_cut_and_digests_are_not() -> None:
    assert short_commits("to " + "ab" * 20) == "to ababababab"
    assert short_commits("cd" * 32) == "cd" * 32


def test_every_delivery_has_a_sentence() -> None:
    for row in scenes.deliveries():
        assert event_sentence(row.event)


def test_the_scenes_never_show_an_effect_that_was_not_allowed() -> None:
    for scene in (scenes.succeeded(), scenes.rolled_back(), scenes.baking()):
        decisions = {row.id: row for row in scene.decisions}
        for effect in scene.effects:
            assert decisions[effect.decision_id].decision.outcome is Outcome.ALLOW


def test_a_step_that_looked_and_waited_many_times_is_told_in_two_lines() -> None:
    plan = checkout_plan(7, "Faster basket totals")
    deploy, check = plan.steps[:2]
    scene = Scene("patient", plan, merged(7, "Faster basket totals"), 1.0)
    scene.allow(deploy)
    for ready in range(3):
        why = f"checkout: {ready} of 3 available"
        scene.decide(deploy, Outcome.WAIT, ("step.not_before", Outcome.WAIT, why, ""))
        scene.allow(deploy)
    scene.allow(check)
    detail = scene.done(RunState.RUNNING, "")

    views = decision_views(detail, {})
    told = [(one.last.step_id, one.last.decision.outcome, one.times) for one in views]
    assert told == [
        (check.id, Outcome.ALLOW, 1),
        (deploy.id, Outcome.ALLOW, 4),
        (deploy.id, Outcome.WAIT, 3),
    ]
    assert views[2].earlier == ("checkout: 0 of 3 available", "checkout: 1 of 3 available")
    assert sorted(i for one in views for i in one.ids) == sorted(row.id for row in detail.decisions)
