"""A policy's own samples: short facts that it has to decide as stated, or it is not loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from uuid import UUID

from domain.action import (
    Action,
    GitCommentPr,
    K8sDeploy,
    K8sRetire,
    K8sRollback,
    K8sTraffic,
    MetricsCheck,
    Notify,
)
from domain.approval import ApprovalRequest, ApprovalState, Vote
from domain.decision import Requirement
from domain.digest import digest_of
from domain.errors import SourceProblem
from domain.event import Actor
from domain.plan import Change, Step
from domain.service import Target, Workload
from domain.verdict import Verdict
from domain.yaml_source import Located
from policy.evaluate import evaluate
from policy.facts import (
    AlertFact,
    CheckFact,
    Facts,
    ManifestFact,
    OverrideFact,
    ReleaseFact,
    RepositoryPolicy,
)
from policy.raw_samples import RawSample, RawSampleFacts
from policy.rules import Rules
from policy.sample_evidence import budgets_of, evidence_of, owned_of, secrets_of

_DIGEST = digest_of("sample")
_ASKED_BEFORE = timedelta(hours=2)
_VOTED_BEFORE = timedelta(hours=1)
_OPEN_FOR = timedelta(hours=24)


def failed_samples(
    rules: Rules, samples: Iterable[RawSample], located: Located
) -> Iterator[SourceProblem]:
    """A problem, at the sample's place, for each sample that comes out otherwise than stated."""
    for index, sample in enumerate(samples):
        decision = evaluate(rules, facts_of(rules, sample), sample.at)
        named = [one.rule for one in decision.rules]
        if decision.outcome is sample.expect and sample.rule in named:
            continue
        yield located.problem(
            ("samples", index),
            f"the sample {sample.name!r} should come out as {sample.expect.value} by "
            f"{sample.rule}, but it is {decision.outcome.value} by "
            f"{', '.join(decision.deciding_rules)}: {decision.reason}",
            "change the rule that decides otherwise, or the sample",
        )


def facts_of(rules: Rules, sample: RawSample) -> Facts:
    """The full facts that a sample's short ones stand for."""
    short = sample.facts
    speaks = short.action in ("git_comment_pr", "notify")
    return Facts(
        step=_step(short),
        change=_change(short),
        goal=short.goal,
        environment=None if speaks else short.environment,
        service=None if speaks else short.service,
        first_weight=short.first_weight,
        canary_planned=short.first_weight is not None,
        in_flight=short.in_flight,
        rolling_back=short.rolling_back,
        replaces_bad=short.replaces_bad,
        scope_digest=_DIGEST,
        approval=_approval(rules, sample),
        overrides=_overrides(short),
        checks=tuple(
            CheckFact(name=name, conclusion=conclusion) for name, conclusion in short.checks.items()
        ),
        not_before=short.not_before,
        lock_holder=short.lock_holder,
        held_by=_actor(short.held_by),
        cancelled_by=_actor(short.cancelled_by),
        superseded_by=short.superseded_by,
        verdict=Verdict(kind=short.verdict.kind, reason="as the sample says.")
        if short.verdict
        else None,
        verdict_phase=short.verdict.phase if short.verdict else None,
        head_moved=short.head_moved,
        history=_history(sample),
        alerts=tuple(
            AlertFact(name="SampleAlert", severity=one, since=sample.at - timedelta(minutes=5))
            for one in short.alerts
        ),
        services=short.services,
        replicas=short.replicas,
        first_install=short.first_install,
        owned=owned_of(short),
        owned_unknown="as the sample says",
        error_budgets=budgets_of(rules, short),
        evidence=evidence_of(rules, short.evidence),
        repository=RepositoryPolicy(
            state=short.repository, where=".fermata/policy.yaml", reason="as the sample says"
        ),
        manifests=_broken(rules, short),
        manifests_unknown="as the sample says",
    )


def _broken(rules: Rules, short: RawSampleFacts) -> tuple[ManifestFact, ...] | None:
    """The named rules as broken by one object; those that are ignored are not looked at."""
    if short.manifests is None:
        return None
    bearing = rules.manifests.bearing
    return tuple(
        ManifestFact(
            rule=rule,
            object=f"Deployment {short.service}",
            path="$",
            message="As the sample says.",
            fix="Mend it.",
            bearing=bearing.get(rule, "deny"),
        )
        for rule in short.manifests
        if rule in bearing or "/" in rule
    )


def _history(sample: RawSample) -> tuple[ReleaseFact, ...]:
    """The failures that a sample names, all an hour before it."""
    own = _action(sample.facts)
    image = own.image if isinstance(own, K8sDeploy) else "sample:1"
    others = [f"sample:other-{n}" for n in range(sample.facts.rolled_back_before)]
    return tuple(
        ReleaseFact(image=one, status="bad", at=sample.at - _VOTED_BEFORE, reason="as stated")
        for one in [image] * sample.facts.failed_before + others
    )


def _step(short: RawSampleFacts) -> Step:
    return Step(
        id="sample",
        title="Sample",
        agent="release",
        stage="sample",
        scope=f"{short.service}/{short.environment}",
        action=_action(short),
    )


def _change(short: RawSampleFacts) -> Change:
    return Change(
        key="sample",
        title=short.title,
        sha="5a3b1e0",
        lines=short.lines,
        secret_scan=secrets_of(short.evidence),
        author=Actor(login=short.author),
        merged_by=_actor(short.merged_by),
        paths=short.paths,
    )


def _action(short: RawSampleFacts) -> Action:
    target = Target(
        service=short.service,
        environment=short.environment or "",
        namespace=short.environment or "",
        workload=Workload(deployment=short.service, container=short.service),
        replicas=1,
    )
    weight = short.first_weight
    match short.action:
        case "k8s_deploy":
            track = "stable" if weight is None else "canary"
            return K8sDeploy(target=target, track=track, image="sample:1", weight=weight or 100)
        case "k8s_traffic":
            return K8sTraffic(target=target, weight=weight or 0)
        case "k8s_rollback":
            return K8sRollback(target=target, image="sample:0")
        case "k8s_retire":
            return K8sRetire(target=target)
        case "metrics_check":
            return MetricsCheck(
                target=target,
                phase=short.verdict.phase if short.verdict else "pre",
                version="1",
                baseline=None,
                weight=weight or 0,
                bake_seconds=60,
                interval_seconds=30,
            )
        case "git_comment_pr":
            return GitCommentPr(repo="sample/sample", number=1, marker="sample", body="sample")
        case "notify":
            return Notify(channel="sample", severity="info", title="Sample", text="sample")


def _approval(rules: Rules, sample: RawSample) -> ApprovalRequest | None:
    """The votes of a sample as a request that has been open for two hours."""
    votes = sample.facts.votes
    if not votes:
        return None
    rejected = any(one.decision == "reject" for one in votes)
    requested = sample.at - _ASKED_BEFORE
    return ApprovalRequest(
        id=UUID(int=1),
        run_id=UUID(int=2),
        step_id="sample",
        scope="sample",
        digest=_DIGEST,
        policy_digest=rules.digest,
        environment=sample.facts.environment or "",
        risk="",
        question="",
        author=sample.facts.author,
        requirement=Requirement(count=len(votes), expires_seconds=_OPEN_FOR.total_seconds()),
        requested_at=requested,
        expires_at=requested + _OPEN_FOR,
        state=ApprovalState.REJECTED if rejected else ApprovalState.APPROVED,
        votes=tuple(
            Vote(
                principal=one.by,
                roles=one.roles,
                teams=one.teams,
                decision=one.decision,
                comment="",
                via="api",
                at=sample.at - _VOTED_BEFORE,
            )
            for one in votes
        ),
    )


def _overrides(short: RawSampleFacts) -> tuple[OverrideFact, ...]:
    one = short.override
    if one is None:
        return ()
    return tuple(
        OverrideFact(
            principal=who,
            roles=one.roles,
            reason=one.reason,
            at=one.given,
            expires_at=one.given + one.lasts,
        )
        for who in (one.by, one.seconded_by)
        if who is not None
    )


def _actor(login: str | None) -> Actor | None:
    return Actor(login=login, is_bot=login.endswith("[bot]")) if login is not None else None
