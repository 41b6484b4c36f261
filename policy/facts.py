"""What the gate knows when it asks: gathered by `nodes/gate.py`, judged by `policy/evaluate.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from domain.approval import ApprovalRequest
from domain.event import Actor, Frozen
from domain.evidence import ErrorBudget, Evidence, OwnedPath
from domain.plan import Change, Step
from domain.verdict import Verdict


class OverrideFact(Frozen):
    """A break-glass override in force or not: the evaluator checks role and expiry itself."""

    principal: str
    roles: tuple[str, ...]
    reason: str
    at: datetime
    expires_at: datetime


class CheckFact(Frozen):
    """Latest conclusion of one CI check on the commit (None: still running)."""

    name: str
    conclusion: str | None


class Commander(Frozen):
    """Who gave the command that began the run. `roles` None: they could not be found out."""

    login: str
    roles: tuple[str, ...] | None


class ManifestFact(Frozen):
    """One way in which an object that the step would write breaks a rule for manifests."""

    rule: str
    """Name of a built-in rule, or `Kind/name` of a constraint."""
    object: str
    """`Deployment checkout`."""
    path: str
    """JSON path in the object."""
    message: str
    fix: str
    bearing: Literal["deny", "approve"]


class ReleaseFact(Frozen):
    """An image that was proven (`good`) or rolled back (`bad`) in the step's place."""

    image: str
    status: Literal["good", "bad"]
    at: datetime
    reason: str = ""


class AlertFact(Frozen):
    """An alert on the step's service that fires and began after the run did."""

    name: str
    severity: str
    """The label `severity`, '' without one."""
    since: datetime


class RepositoryPolicy(Frozen):
    """What became of asking the repository for a policy of its own.

    `read`: the rules are the central ones tightened by it; `absent`: there is none; `no_forge`:
    there is no forge to ask; `unknown`: it could not be read; `broken`: it is not valid.
    """

    state: Literal["ignored", "absent", "read", "no_forge", "unknown", "broken"] = "ignored"
    where: str = ""
    """`owner/name:.fermata/policy.yaml at 1a2b3c4`."""
    reason: str = ""


class Facts(Frozen):
    """Everything a decision may rest on. What is unknown is None, and None never passes a rule."""

    step: Step
    change: Change
    goal: Literal["release", "rollback", "preview", "notify", "answer", "unlock", "nothing"]
    environment: str | None
    """Environment of the step's target; None for steps that only speak."""
    service: str | None
    first_weight: int | None
    """Weight of the first canary step planned in this environment; None when there is none."""
    canary_planned: bool
    """Whether the plan gives this environment a canary (a first install has none)."""
    in_flight: bool = False
    """Whether this run has already begun to change this target."""
    group_begun: bool = False
    """Whether this run has changed other targets that stand and fall with this one."""
    rolling_back: bool = False
    """Whether the step belongs to the way back."""
    scope_digest: str = ""
    approval: ApprovalRequest | None = None
    """Latest request for exactly this scope digest, with its votes."""
    overrides: tuple[OverrideFact, ...] = ()
    checks: tuple[CheckFact, ...] = ()
    not_before: datetime | None = None
    """The agent asks to look again only then (bake, back-off)."""
    not_before_reason: str = ""
    yields_to: str = ""
    """The newer change that a watch, or what is asked in its place, makes way for."""
    lock_holder: str | None = None
    """Who holds the target's lock, when it is not this run."""
    lock_alive: bool | None = None
    """For a step that frees a lock: whether its holder is under way; None: nobody holds it."""
    held_by: Actor | None = None
    resumed_by: Actor | None = None
    """Who said /resume since the step was first proposed."""
    cancelled_by: Actor | None = None
    superseded_by: str | None = None
    verdict: Verdict | None = None
    """A check that did not pass outright, when the step is to go on in spite of it."""
    replaces_bad: bool = False
    """Whether the version that runs there is known to be bad, so that this one is its fix."""
    verdict_phase: Literal["pre", "canary", "post"] | None = None
    commander: Commander | None = None
    """Who asked for this by a command; None when the run came from something else."""
    head_moved: bool | None = False
    """Whether the pull request's head is no longer what was planned; None: could not be read."""
    history: tuple[ReleaseFact, ...] | None = ()
    """What was said of versions in this place, for steps that deploy; None: could not be read."""
    alerts: tuple[AlertFact, ...] = ()
    manifests: tuple[ManifestFact, ...] | None = ()
    """What is wrong with the objects that the step would write; None: it could not be found out."""
    manifests_unknown: str = ""
    """Why, when `manifests` is None."""
    services: int = 1
    """How many services the plan releases into this environment."""
    replicas: int | None = None
    """Pods of the workload that the step works on; None for steps without one."""
    first_install: bool | None = False
    """Whether nothing runs there yet; None: not known."""
    owned: tuple[OwnedPath, ...] | None = None
    """Changed paths with those whom CODEOWNERS names for them; None: not known."""
    owned_unknown: str = ""
    """Why, when `owned` is None."""
    error_budgets: tuple[ErrorBudget, ...] | None = None
    """What is left of the service's error budgets; None: not looked up."""
    evidence: Evidence = Evidence()
    """Scans, signature, bill of materials, cost: as far as anybody has delivered them."""
    repository: RepositoryPolicy = RepositoryPolicy()
