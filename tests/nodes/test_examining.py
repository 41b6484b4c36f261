"""Constraints in a process of their own: the same answers, and an end to what explodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from nodes.examining import Examiner
from policy.manifests.check import read_objects
from tests.policy.manifests.test_constraints import POD, constraint, never, template

Making = Callable[..., Examiner]


@pytest.fixture
def examiner() -> Iterator[Making]:
    made: list[Examiner] = []

    def make(*sources: dict[str, Any], seconds: float = 5.0) -> Examiner:
        made.append(examiner_of(*sources, seconds=seconds))
        return made[-1]

    yield make
    for one in made:
        one.close()


def examiner_of(*sources: dict[str, Any], seconds: float) -> Examiner:
    policy = [
        one
        for number, source in enumerate(sources)
        for one in (template(source, kind=f"K8sNo{number}"), constraint(f"K8sNo{number}"))
    ]
    return Examiner.of([("policy.yaml", yaml.safe_dump_all(policy))], seconds)


def said(examiner: Examiner, obj: dict[str, Any] = POD) -> list[str]:
    objects, problems = read_objects([("given.yaml", yaml.safe_dump(obj))])
    assert not problems
    return [one.message for given in objects for one in examiner.examine_one(given, {})]


def growing(times: int) -> dict[str, Any]:
    chain = "object.metadata.name" + ".replace('w', 'wwwwwwwwww')" * times
    return {"validations": [{"expression": f"{chain} != ''"}]}


def test_answers_come_back(examiner: Making) -> None:
    assert said(examiner(never(), never("twice"))) == ["never", "twice"]


def test_what_takes_all_memory_is_stopped_and_the_next_is_judged_as_ever(examiner: Making) -> None:
    found = said(examiner(never("before"), growing(12), never("after")))
    assert found[0] == "before"
    assert found[1].startswith("it could not be evaluated, so it denies")
    assert found[2] == "after"


def test_what_takes_too_long_is_stopped_and_denies(examiner: Making) -> None:
    text = {**POD, "spec": {"text": "ab" * 300_000, "many": list(range(900))}}
    slow = "object.spec.many.all(n, object.spec.text.matches('(a|b|ab)*c' + string(n)) == false)"
    asked = examiner({"validations": [{"expression": slow}]}, seconds=0.5)
    begun = time.monotonic()
    (message,) = said(asked, text)
    assert message == "it could not be evaluated, so it denies: it took longer than 0.5 seconds"
    assert time.monotonic() - begun < 60


def test_what_stays_small_is_fine(examiner: Making) -> None:
    assert said(examiner(growing(3))) == []
