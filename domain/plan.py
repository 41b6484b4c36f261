"""Plans: what a run intends to do, in order, before anything is done."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from domain.action import COMMS_KINDS, Action
from domain.digest import digest_of
from domain.event import Actor, Frozen
from domain.secret import SecretScan


class RiskClass(StrEnum):
    """How much could go wrong. Ordered: low < medium < high < critical."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    __hash__ = str.__hash__  # not by name in Python: decisions look things up by it

    rank: int
    """0 for low to 3 for critical, for comparisons."""


for _rank, _class in enumerate(RiskClass):
    _class.rank = _rank


class Step(Frozen):
    """One action of a plan. `scope` names what an approval covers, e.g. `checkout/prod`."""

    id: str
    title: str
    agent: Literal["release", "conductor"]
    stage: str
    scope: str
    action: Action

    @property
    def only_speaks(self) -> bool:
        """Whether the step merely comments or notifies."""
        return self.action.kind in COMMS_KINDS


class Change(Frozen):
    """What is being changed: the subject of a run, and the facts that policy asks about."""

    key: str
    title: str
    repo: str | None = None
    number: int | None = None
    sha: str | None = None
    base_sha: str | None = None
    ref: str | None = None
    author: Actor
    merged_by: Actor | None = None
    opened_by: Actor | None = None
    """Who opened the pull request, where somebody else asked for its deployment."""
    paths: tuple[str, ...] | None = None
    """Changed paths; None when they could not be determined."""
    lines: int | None = None
    """Lines added and removed; None when not known."""
    secret_scan: SecretScan | None = None
    """Secrets that the change adds; None when nobody could look."""
    url: str = ""


class Plan(Frozen):
    """An ordered list of steps, with where it came from.

    `notes` are sentences for people: assumptions made, things left out, why a planner fell back.
    """

    change: Change
    goal: Literal["release", "rollback", "preview", "notify", "answer", "unlock", "nothing"]
    steps: tuple[Step, ...]
    planner: Literal["deterministic", "model"] = "deterministic"
    notes: tuple[str, ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    """Targets (`service/environment`) that stand and fall as one: all go back when one does."""

    def companions(self, key: str) -> tuple[str, ...]:
        """All targets that stand and fall with one, itself among them."""
        return next((keys for keys in self.together if key in keys), (key,))

    @property
    def digest(self) -> str:
        """Digest of the whole plan."""
        return digest_of(self)

    def scope_digest(self, scope: str) -> str:
        """Digest of exactly what an approval of a scope covers: the change and its steps there."""
        return digest_of(
            {
                "change": self.change.model_dump(mode="json"),
                "goal": self.goal,
                "scope": scope,
                "steps": [s.model_dump(mode="json") for s in self.steps if s.scope == scope],
            }
        )
