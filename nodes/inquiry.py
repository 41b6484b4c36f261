"""Inquiry: what the gate asks outside before it asks policy. It only looks.

The repository's own policy and its CODEOWNERS are read at the commit that the change is based on,
never at the change's own: who may write a change must not thereby write the rules for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from domain.action import READ_ONLY_KINDS, target_of
from domain.clock import Clock
from domain.errors import SourceError
from domain.evidence import ErrorBudget
from domain.plan import Change, Plan, Step
from domain.repository import RepoFile
from domain.service import SLI, Catalogue, Target
from domain.state import Baseline
from domain.verdict import Gap
from policy.codeowners import PLACES, owned_paths
from policy.facts import RepositoryPolicy
from policy.own import PATH, OwnRules, own_rules, tightened
from policy.risk import listed_environment
from policy.rules import Rules
from tools.ports import EVERY_VERSION, ForgeReader, MetricsReader

NO_COMMIT = "0" * 40
"""What a push names as the commit before a new branch."""
MOST_KEPT = 1000
"""Files at commits that are remembered."""


@dataclass(frozen=True)
class Found:
    """The rules that hold for a change, and facts about it, by their names in `policy.facts`."""

    rules: Rules
    facts: dict[str, Any]


@dataclass(frozen=True)
class Inquiry:
    """Asks forge and metrics; what they cannot tell stays unknown."""

    catalogue: Callable[[], Catalogue]
    forge: ForgeReader
    metrics: MetricsReader
    clock: Clock
    announce: Callable[[Rules, str], Awaitable[None]] | None = None
    """Writes rules down before the first decision under them; None: nothing is decided."""
    _read: dict[tuple[str, str, str | None], RepoFile] = field(default_factory=dict, repr=False)

    async def about(
        self,
        plan: Plan,
        step: Step,
        baselines: Sequence[Baseline],
        rules: Rules,
        *,
        in_flight: bool = False,
    ) -> Found:
        """Everything about a step on the way forward that is about to be ruled on."""
        target = target_of(step.action)
        if target is None:
            return Found(rules, {})
        facts = reach(plan, target, baselines)
        if step.action.kind in READ_ONLY_KINDS:
            return Found(rules, facts)
        own, rules = await self._own_policy(plan.change, rules)
        facts["repository"] = own
        listed = listed_environment(rules, target.environment)
        if _wants_owners(rules, listed):
            facts["owned"], facts["owned_unknown"] = await self._owned(plan.change)
        if listed is not None and plan.goal == "release" and not in_flight:
            facts["error_budgets"] = await self._budgets(rules, listed, target)
        return Found(rules, facts)

    async def _own_policy(self, change: Change, rules: Rules) -> tuple[RepositoryPolicy, Rules]:
        """The repository's policy, and the rules with it on top."""
        if not rules.repositories.tighten:
            return RepositoryPolicy(), rules
        if not self.forge.can_look:
            return RepositoryPolicy(state="no_forge"), rules
        if change.repo is None:
            return RepositoryPolicy(state="unknown", reason="the change names no repository"), rules
        where = f"{change.repo}:{PATH} at {_told(change)}"
        file = await self._file(change, PATH)
        if file is None:
            return RepositoryPolicy(state="unknown", where=where, reason="it was not read"), rules
        if file.text is None:
            return RepositoryPolicy(state="absent", where=where), rules
        try:
            own = _parsed(file.text, where, tuple(rules.risk.environments))
        except SourceError as error:
            reason = " ".join(f"{one}".replace("\n", " ") for one in error.problems[:3])
            return RepositoryPolicy(state="broken", where=where, reason=reason), rules
        rules = tightened(rules, own)
        if self.announce is not None:
            await self.announce(rules, where)
        return RepositoryPolicy(state="read", where=where), rules

    async def _owned(self, change: Change) -> tuple[Any, str]:
        """Changed paths with their owners; or None, and why it is not known."""
        if change.paths is None:
            return None, "the changed paths are unknown"
        if change.repo is None or not self.forge.can_look:
            return None, "there is no forge to ask"
        for place in PLACES:
            file = await self._file(change, place)
            if file is None:
                return None, f"{place} could not be read"
            if file.text is not None:
                try:
                    return owned_paths(file.text, change.paths), ""
                except ValueError as error:
                    return None, f"{place}: {error}"
        return (), ""

    async def _file(self, change: Change, path: str) -> RepoFile | None:
        """A file at the base. What a commit holds never changes, so it is asked for once; the tip
        of a branch is asked anew each time."""
        if change.repo is None or change.base_sha == NO_COMMIT:
            return None
        key = change.repo, path, change.base_sha
        if key in self._read:
            return self._read[key]
        file = await self.forge.file_text(change.repo, path, change.base_sha)
        if file is not None and change.base_sha is not None:
            if len(self._read) >= MOST_KEPT:
                self._read.clear()
            self._read[key] = file
        return file

    async def _budgets(
        self, rules: Rules, listed: str, target: Target
    ) -> tuple[ErrorBudget, ...] | None:
        """What is left of the budgets of the target's objectives."""
        budget = rules.error_budget
        if budget is None or listed not in budget.environments:
            return None
        service = self.catalogue().service(target.service)
        if service is None:
            return None
        now = self.clock.now()
        return tuple(
            [
                _left(
                    sli,
                    await self.metrics.counts(sli, target, EVERY_VERSION, now, budget.seconds),
                    budget.seconds,
                )
                for sli in service.slis
            ]
        )


def reach(plan: Plan, target: Target, baselines: Sequence[Baseline]) -> dict[str, Any]:
    """How much of the house a plan touches in an environment, and whether something runs there."""
    targets = (target_of(one.action) for one in plan.steps)
    services = {one.service for one in targets if one and one.environment == target.environment}
    before = next((one for one in baselines if one.key == target.key), None)
    return {
        "services": max(1, len(services)),
        "replicas": target.replicas,
        "first_install": None if before is None else before.image is None,
    }


def _wants_owners(rules: Rules, listed: str | None) -> bool:
    return any(
        need is not None and need.code_owners
        for (name, _), need in rules.approvals.needed.items()
        if name == listed
    )


def _left(sli: SLI, seen: Any, seconds: float) -> ErrorBudget:
    """What is left, as a share of what the objective allows over the window."""
    if isinstance(seen, Gap):
        return ErrorBudget(sli=sli.name, remaining=None, window_seconds=seconds, reason=seen.reason)
    allowed = (1 - sli.objective) * seen.total
    return ErrorBudget(sli=sli.name, remaining=1 - seen.bad / allowed, window_seconds=seconds)


def _told(change: Change) -> str:
    return change.base_sha[:7] if change.base_sha else "the default branch"


@lru_cache(maxsize=256)
def _parsed(text: str, where: str, environments: tuple[str, ...]) -> OwnRules:
    return own_rules(text, where, environments)
