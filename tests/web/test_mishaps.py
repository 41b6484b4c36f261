"""A run's page says what befell it on the way, also when it ended well."""

from __future__ import annotations

from uuid import uuid4

from domain.decision import MatchedRule, Outcome
from tests.web import scenes
from tests.web.desk_twin import house

MARKS = ("taken over", "database lost", "broken off", "paused: the cluster is gone (503)")


async def test_what_befell_the_engine_is_told_and_does_not_blur_the_way() -> None:
    plain = scenes.succeeded()
    (first, at), *rest = plain.path or [("conductor", plain.run.created_at)]
    path = ((first, at), *((mark, at) for mark in MARKS), *rest)
    async with house() as h:
        h.store.details[plain.run.id] = plain.model_copy(update={"path": ((first, at), *rest)})
        before = (await h.page(f"/runs/{plain.run.id}")).text
        h.store.details[plain.run.id] = plain.model_copy(update={"path": path})
        page = (await h.page(f"/runs/{plain.run.id}")).text
    for sentence in (
        "another one took it over", "the database did not answer",
        "an internal error broke this passage off", "the cluster is gone (503)",
    ):  # fmt: skip
        assert sentence in page
        assert sentence not in before
    way = '<p class="way">'
    assert page.partition(way)[2].split("</p>")[0] == before.partition(way)[2].split("</p>")[0]


async def test_a_reason_that_the_same_rules_gave_before_is_kept() -> None:
    plain = scenes.baking()
    last = max(plain.decisions, key=lambda one: one.seq)
    reasons = ("the cluster did not answer (500)", "0 of 1 up", "the cluster did not answer (500)",
               "1 of 1 up")  # fmt: skip
    rows = []
    for number, reason in enumerate(reasons, 1):
        rule = MatchedRule(rule="step.wait", outcome=Outcome.WAIT, reason=reason)
        said = last.decision.model_copy(update={"outcome": Outcome.WAIT, "rules": (rule,)})
        rows.append(
            last.model_copy(update={"id": uuid4(), "seq": last.seq + number, "decision": said})
        )
    async with house() as h:
        h.store.details[plain.run.id] = plain.model_copy(
            update={"decisions": (*plain.decisions, *rows)}
        )
        page = (await h.page(f"/runs/{plain.run.id}")).text
    assert f"<td>{reasons[-1]}</td>" in page
    for reason in reasons[:-1]:
        assert page.count(reason) == 1
