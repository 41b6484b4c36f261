"""Whatever a checkpoint holds comes back as what it was, under strict msgpack."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import get_args, get_type_hints
from uuid import uuid4

import pytest
from pydantic import BaseModel

from domain.decision import Outcome
from domain.run import RunState
from domain.state import Baseline, Finding, Progress, Proposal, State
from domain.state import Outcome as Ending
from domain.verdict import Counts, MetricWindow, Verdict, VerdictKind
from graph.serde import checkpointed_types
from store.checkpoints import strict_serde
from tests.graph.test_routes import PROD, RELEASING, ruling, state


def filled() -> State:
    window = MetricWindow(
        start=datetime(2026, 3, 4, tzinfo=UTC),
        seconds=30,
        metric="errors",
        kind="errors",
        stable=Counts(bad=1, total=10),
        canary=None,
    )
    verdict = Verdict(kind=VerdictKind.NODATA, reason="nothing")
    return state(
        steps=(RELEASING,),
        touched=(PROD,),
        baselines=(Baseline(key="a/b", image=None),),
        proposal=Proposal(step=RELEASING, concern=verdict),
        ruling=ruling(Outcome.WAIT),
        progress=Progress(since=datetime(2026, 3, 4, tzinfo=UTC), windows=(window,)),
        finding=Finding(kind="ask", reason="x", verdict=verdict),
        outcome=Ending(state=RunState.FAILED, reason="x"),
    )


def test_each_channel_comes_back_equal_and_of_its_own_type() -> None:
    serde = strict_serde(checkpointed_types())
    for key, value in filled().items():
        back = serde.loads_typed(serde.dumps_typed(value))
        if isinstance(value, tuple):  # msgpack knows no tuples; the state says Sequence
            assert tuple(back) == value, key
            assert [type(one) for one in back] == [type(one) for one in value], key
        else:
            assert back == value, key
            assert type(back) is type(value), key


def test_every_type_that_the_state_names_is_allowed() -> None:
    allowed = set(checkpointed_types())
    named = {
        part
        for annotation in get_type_hints(State).values()
        for part in (annotation, *get_args(annotation))
        if isinstance(part, type) and issubclass(part, BaseModel | Enum)
    }
    assert named <= allowed


def test_a_type_from_elsewhere_does_not_come_back_as_an_object() -> None:
    class Stranger(BaseModel):
        x: int = 1

    serde = strict_serde(checkpointed_types())
    assert not isinstance(serde.loads_typed(serde.dumps_typed(Stranger())), Stranger)


def test_ids_and_times_are_kept() -> None:
    serde = strict_serde(checkpointed_types())
    for value in (uuid4(), datetime(2026, 3, 4, 1, 2, 3, 4, tzinfo=UTC)):
        assert serde.loads_typed(serde.dumps_typed(value)) == value


@pytest.mark.parametrize("one", checkpointed_types(), ids=lambda one: one.__name__)
def test_only_domain_types_are_checkpointed(one: type) -> None:
    assert one.__module__.startswith("domain.")
