"""Inquiry: what is asked outside before the gate rules, and at which commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from domain.clock import SystemClock
from domain.event import Actor
from domain.metric import Metric
from domain.plan import Change, Plan
from domain.repository import RepoFile
from domain.service import SLI, Catalogue, Target
from domain.state import Baseline
from domain.verdict import Counts, Gap, VerdictKind
from nodes.inquiry import Found, Inquiry
from nodes.planning import release_plan
from policy.rules import Rules
from tests.policy.making import policy_with, shipped
from tools.catalogue import load_catalogue
from tools.forge_twin import ForgeTwin
from tools.ports import EVERY_VERSION

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue((ROOT / "services.yaml").read_text(encoding="utf-8"), "services.yaml")
BASE, HEAD = "b" * 40, "a" * 40
REPO = "acme/checkout"
CHANGE = Change(
    key="k",
    title="t",
    repo=REPO,
    number=7,
    sha=HEAD,
    base_sha=BASE,
    author=Actor(login="ann"),
    paths=("pay/a.py",),
)
OWN: tuple[str, str, str | None] = (REPO, ".fermata/policy.yaml", BASE)
OWNERS = policy_with(
    (
        "{environments: [prod], count: 1, roles: [release-manager]}",
        "{environments: [prod], count: 1, roles: [release-manager], code_owners: true}",
    )
)


@dataclass
class Metrics:
    """Answers every question with the same counts, and keeps the questions."""

    seen: Counts | Gap
    asked: list[tuple[str, float]] = field(default_factory=list)

    async def counts(
        self, sli: SLI, target: Target, version: str, at: datetime, window_seconds: float
    ) -> Counts | Gap:
        self.asked.append((version, window_seconds))
        return self.seen

    async def value(
        self, metric: Metric, target: Target, version: str, at: datetime, window_seconds: float
    ) -> float | Gap:
        raise AssertionError("no single number is asked for")


async def about(
    forge: ForgeTwin,
    rules: Rules,
    *,
    change: Change = CHANGE,
    metrics: Metrics | None = None,
    announced: list[str] | None = None,
    baselines: tuple[Baseline, ...] = (Baseline(key="checkout/prod", image="i:1"),),
) -> Found:
    async def announce(tighter: Rules, source: str) -> None:
        if announced is not None:
            announced.append(f"{tighter.digest} {source}")

    catalogue: Catalogue = CATALOGUE
    service = catalogue.service("checkout")
    assert service is not None
    plan: Plan = release_plan(change, (service,), {"checkout/prod": "i:1"})
    step = next(one for one in plan.steps if one.id == "checkout/prod.canary-10.pods")
    inquiry = Inquiry(
        lambda: catalogue,
        forge,
        metrics or Metrics(Counts(bad=0, total=1000)),
        SystemClock(),
        announce,
    )
    return await inquiry.about(plan, step, baselines, rules)


async def test_a_repository_s_policy_is_read_at_the_base_and_announced() -> None:
    tight, loose = "version: 1\ncanary: {max_first_weight: 5}\n", "version: 1\n"
    forge = ForgeTwin(can_look=True, files={OWN: tight, (REPO, OWN[1], HEAD): loose})
    announced: list[str] = []
    found = await about(forge, shipped(), announced=announced)
    assert found.facts["repository"].state == "read"
    assert found.rules.canary.max_first_weight == 5
    assert announced == [f"{found.rules.digest} acme/checkout:.fermata/policy.yaml at {BASE[:7]}"]


@pytest.mark.parametrize(
    ("files", "change", "state"),
    [
        ({OWN: None}, CHANGE, "absent"),
        ({}, CHANGE, "unknown"),
        ({OWN: "version: 1\noverrides: {}\n"}, CHANGE, "broken"),
        ({OWN: None}, CHANGE.model_copy(update={"base_sha": "0" * 40}), "unknown"),
        ({OWN: None}, CHANGE.model_copy(update={"repo": None}), "unknown"),
        ({(OWN[0], OWN[1], None): None}, CHANGE.model_copy(update={"base_sha": None}), "absent"),
    ],
)
async def test_what_cannot_be_read_is_unknown_and_never_nothing(
    files: dict[Any, Any], change: Change, state: str
) -> None:
    found = await about(ForgeTwin(can_look=True, files=files), shipped(), change=change)
    assert found.facts["repository"].state == state
    assert found.rules is shipped()


async def test_without_a_forge_that_is_what_is_said() -> None:
    found = await about(ForgeTwin(), shipped())
    assert found.facts["repository"].state == "no_forge"


async def test_owners_come_from_the_first_codeowners_at_the_base() -> None:
    files: dict[tuple[str, str, str | None], str | None] = {
        (REPO, ".github/CODEOWNERS", BASE): None,
        (REPO, "CODEOWNERS", BASE): "pay/ @pat\n",
    }
    found = await about(ForgeTwin(can_look=True, files=files), OWNERS)
    assert [one.owners for one in found.facts["owned"]] == [("@pat",)]
    nothing: dict[tuple[str, str, str | None], str | None] = {
        (REPO, f"{place}CODEOWNERS", BASE): None for place in (".github/", "", "docs/")
    }
    found = await about(ForgeTwin(can_look=True, files=nothing), OWNERS)
    assert found.facts["owned"] == ()
    found = await about(ForgeTwin(can_look=True), OWNERS)
    assert found.facts["owned"] is None
    assert ".github/CODEOWNERS could not be read" in found.facts["owned_unknown"]
    unknown = CHANGE.model_copy(update={"paths": None})
    found = await about(ForgeTwin(can_look=True, files=files), OWNERS, change=unknown)
    assert found.facts["owned"] is None


async def test_what_is_left_of_the_error_budget_is_over_all_versions_and_the_whole_window() -> None:
    metrics = Metrics(Counts(bad=1, total=1000))
    found = await about(ForgeTwin(), shipped(), metrics=metrics)
    assert {version for version, _ in metrics.asked} == {EVERY_VERSION}
    assert {seconds for _, seconds in metrics.asked} == {28 * 86400}
    service = CATALOGUE.service("checkout")
    assert service is not None
    for sli, budget in zip(service.slis, found.facts["error_budgets"], strict=True):
        assert budget.remaining == pytest.approx(1 - 0.001 / (1 - sli.objective))
    gap = Metrics(Gap(kind=VerdictKind.ERROR, reason="no answer"))
    found = await about(ForgeTwin(), shipped(), metrics=gap)
    assert {one.remaining for one in found.facts["error_budgets"]} == {None}
    assert {one.reason for one in found.facts["error_budgets"]} == {"no answer"}


async def test_a_first_install_is_told_from_one_that_is_not_known() -> None:
    first = (Baseline(key="checkout/prod", image=None),)
    assert (await about(ForgeTwin(), shipped(), baselines=first)).facts["first_install"] is True
    assert (await about(ForgeTwin(), shipped())).facts["first_install"] is False
    assert (await about(ForgeTwin(), shipped(), baselines=())).facts["first_install"] is None


async def test_a_file_at_a_commit_is_asked_for_once_and_a_branch_s_tip_each_time() -> None:
    asked: list[str | None] = []

    class Counted(ForgeTwin):
        async def file_text(self, repo: str, path: str, ref: str | None) -> RepoFile | None:
            asked.append(ref)
            return RepoFile(text=None)

    inquiry = Inquiry(
        lambda: CATALOGUE, Counted(can_look=True), Metrics(Counts(bad=0, total=1)), SystemClock()
    )
    service = CATALOGUE.service("checkout")
    assert service is not None
    for base in (BASE, BASE, None, None):
        change = CHANGE.model_copy(update={"base_sha": base})
        plan = release_plan(change, (service,), {"checkout/prod": "i:1"})
        step = next(one for one in plan.steps if one.id == "checkout/prod.canary-10.pods")
        await inquiry.about(plan, step, (), shipped())
    assert asked == [BASE, None, None]
