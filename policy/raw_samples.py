"""The shape of a sample in `policy.yaml`: short facts, a time, and what has to come out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from domain.decision import Outcome
from domain.verdict import VerdictKind
from policy.raw_sample_evidence import RawSampleEvidence
from policy.raw_values import Duration, Moment, Raw


class RawSampleVote(Raw):
    """A vote on the sample's question, cast an hour before `at`."""

    by: str
    roles: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    decision: Literal["approve", "reject"] = "approve"


class RawSampleOverride(Raw):
    """An override given at a time, for a while."""

    by: str
    roles: tuple[str, ...]
    reason: str
    given: Moment
    lasts: Duration
    seconded_by: Annotated[
        str | None, Field(default=None, description="a second person, with the same words")
    ]


class RawSampleVerdict(Raw):
    """A check that did not pass outright."""

    phase: Literal["pre", "canary", "post"]
    kind: VerdictKind


class RawSampleFacts(Raw):
    """What the sample's gate knows. Whatever is left out is the ordinary case."""

    environment: str | None = None
    service: str = "checkout"
    action: Literal[
        "k8s_deploy",
        "k8s_traffic",
        "k8s_rollback",
        "k8s_retire",
        "metrics_check",
        "git_comment_pr",
        "notify",
    ] = "k8s_deploy"
    goal: Literal["release", "rollback", "preview", "notify", "nothing"] = "release"
    paths: Annotated[
        tuple[str, ...] | None,
        Field(default=("src/app.py",), description="changed paths; null: unknown"),
    ]
    title: str = "Sample"
    lines: Annotated[
        int | None, Field(default=None, ge=0, description="lines added and removed; null: unknown")
    ]
    services: Annotated[int, Field(default=1, ge=1, description="services released at once")]
    replicas: Annotated[int, Field(default=1, ge=0, description="pods of the workload")]
    first_install: Annotated[
        bool | None, Field(default=False, description="nothing runs there yet; null: unknown")
    ]
    author: str = "author"
    merged_by: str | None = None
    first_weight: Annotated[
        int | None,
        Field(default=None, ge=1, le=100, description="first canary weight; left out: no canary"),
    ]
    in_flight: bool = False
    rolling_back: bool = False
    replaces_bad: Annotated[
        bool, Field(default=False, description="the version that runs there is known to be bad")
    ]
    votes: tuple[RawSampleVote, ...] = ()
    override: RawSampleOverride | None = None
    checks: Annotated[
        dict[str, str | None],
        Field(default={}, description="CI checks and their conclusions; null: still running"),
    ]
    verdict: RawSampleVerdict | None = None
    held_by: str | None = None
    cancelled_by: str | None = None
    superseded_by: str | None = None
    lock_holder: str | None = None
    head_moved: bool | None = False
    not_before: Moment | None = None
    failed_before: Annotated[
        int, Field(default=0, ge=0, description="times that this version failed here, an hour ago")
    ]
    rolled_back_before: Annotated[
        int, Field(default=0, ge=0, description="rollbacks of other versions here, an hour ago")
    ]
    alerts: Annotated[
        tuple[str, ...],
        Field(default=(), description="severities of alerts that began five minutes ago"),
    ]
    owners: Annotated[
        dict[str, tuple[str, ...]] | None,
        Field(
            default={},
            examples=[{"src/app.py": ["@acme/shop"]}],
            description="changed paths and whom CODEOWNERS names for them; null: unknown",
        ),
    ]
    error_budget_left: Annotated[
        float | None,
        Field(default=100.0, le=100, description="percent of the error budget; null: unknown"),
    ]
    evidence: RawSampleEvidence = RawSampleEvidence()
    repository: Annotated[
        Literal["ignored", "absent", "read", "no_forge", "unknown", "broken"],
        Field(default="absent", description="what became of asking for the repository's policy"),
    ]
    manifests: Annotated[
        tuple[str, ...] | None,
        Field(
            default=(),
            examples=[["image-tag"]],
            description="rules for manifests that what is written would break; null: unknown",
        ),
    ]


class RawSample(Raw):
    """One case that the policy has to decide as stated, or the file is refused."""

    name: Annotated[str, Field(min_length=1, examples=["no production release on Friday night"])]
    at: Annotated[
        Moment,
        Field(examples=["2026-03-27T19:00+01:00"], description="when the gate is asked"),
    ]
    facts: RawSampleFacts
    expect: Annotated[Outcome, Field(examples=["deny"], description="what has to come out")]
    rule: Annotated[
        str, Field(examples=["windows.closed"], description="a rule that has to be named")
    ]
