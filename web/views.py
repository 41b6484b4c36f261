"""View models: what a run's page shows, worked out from what is stored. Pure but for the judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from domain.approval import ApprovalRequest, Vote
from domain.decision import MatchedRule
from domain.effect import EffectState
from domain.event import AlertGroup, Commanded, CommandName, Event
from domain.plan import Plan
from domain.verdict import MetricVerdict
from policy.votes import who_may
from store.records import DecisionRow, EffectRow, RunDetail, RunRow, VerdictRow
from web.charts import Bars, Lines, bars, lines
from web.desk import Desk
from web.mishaps import mishap, nodes_alone
from web.progress import Stage, StepProgress, stages_of, steps_of
from web.tells import may_signal, offered
from web.tokens import Principal
from web.topology import Picture, picture
from web.voting import is_open, why_not

MOST_EARLIER = 40
"""Reasons of decisions before the last one that are kept for a page."""


@dataclass(frozen=True)
class MetricView:
    """One SLI of a check, in numbers and small pictures."""

    metric: MetricVerdict
    bars: Bars
    lines: Lines | None


@dataclass(frozen=True)
class CheckView:
    """One check: its latest verdict, and how many looks led to it."""

    step_id: str
    title: str
    row: VerdictRow
    looks: int
    metrics: tuple[MetricView, ...]
    compared: bool
    """Whether there was a stable version to compare with."""


@dataclass(frozen=True)
class DecisionView:
    """Decisions that said the same of a step, again and again, shown once."""

    first: DecisionRow
    last: DecisionRow
    title: str
    times: int
    rules: tuple[MatchedRule, ...]
    ids: tuple[UUID, ...]
    earlier: tuple[str, ...] = ()
    """Reasons that the rules gave before, by the same rules: a pause for a cluster that did not
    answer and one for pods that start look alike, and only the last would be told."""


@dataclass(frozen=True)
class EffectView:
    """An effect with what it would say or said, as text."""

    row: EffectRow
    title: str
    body: str
    """A comment's or a message's text, '' for other actions."""


@dataclass(frozen=True)
class ApprovalView:
    """A request, whether it can be answered, and by the person who looks at it."""

    request: ApprovalRequest
    open: bool
    may: tuple[str, ...]
    """Which of `approve` and `reject` this person's word would count for."""
    refusal: str | None
    """Why an approval of this person would not count."""
    refused: tuple[tuple[Vote, str], ...]
    """Votes that were cast and do not count, with the reason."""
    covers: tuple[str, ...]
    """Titles of the steps that a yes covers."""
    who: tuple[str, ...]
    """Roles, teams and code owners that may answer."""
    authors: tuple[str, ...]
    """People whose own change it is."""


@dataclass(frozen=True)
class Moment:
    """An entry of the timeline."""

    at: datetime
    kind: Literal["event", "signal", "vote", "effect", "verdict", "decision", "engine"]
    tone: str
    text: str


@dataclass(frozen=True)
class SignalForm:
    """Something the person may tell the run."""

    kind: str
    label: str
    explains: str
    needs_reason: bool
    grave: bool


@dataclass(frozen=True)
class RunView:
    """Everything on a run's page."""

    run: RunRow
    event: Event
    plan: Plan | None
    facts: tuple[tuple[str, str], ...]
    stages: tuple[Stage, ...]
    done: int
    total: int
    picture: Picture
    checks: tuple[CheckView, ...]
    decisions: tuple[DecisionView, ...]
    effects: tuple[EffectView, ...]
    approvals: tuple[ApprovalView, ...]
    moments: tuple[Moment, ...]
    forms: tuple[SignalForm, ...]
    raw: dict[str, Any]


SIGNAL_FORMS: dict[CommandName, SignalForm] = {
    CommandName.HOLD: SignalForm(
        "hold", "Hold", "Keeps the run where it is until somebody resumes it.", False, False
    ),
    CommandName.RESUME: SignalForm(
        "resume", "Resume", "Lets a run that is held go on.", False, False
    ),
    CommandName.CANCEL: SignalForm(
        "cancel", "Cancel", "Ends the run; what has begun goes back the safe way.", False, True
    ),
    CommandName.RETRY: SignalForm(
        "retry", "Retry", "Plans the same change anew and runs it from the start.", False, False
    ),
    CommandName.OVERRIDE: SignalForm(
        "override",
        "Override change window",
        "Lifts change windows for this change for a limited time. Logged with your name.",
        True,
        True,
    ),
}


def run_view(
    desk: Desk,
    detail: RunDetail,
    principal: Principal,
    refused: Mapping[UUID, tuple[tuple[Vote, str], ...]],
) -> RunView:
    """The page of a run as this person sees it."""
    run, steps = detail.run, steps_of(detail)
    titles = {step.id: step.title for step in steps}
    own = [step for step in steps if step.phase == "plan"]
    return RunView(
        run=run,
        event=detail.event,
        plan=run.plan,
        facts=_facts(detail),
        stages=stages_of(steps),
        done=sum(step.status == "done" for step in own),
        total=len(own),
        picture=picture(nodes_alone([node for node, _ in detail.path]), run.state),
        checks=_checks(detail, titles),
        decisions=decision_views(detail, titles),
        effects=tuple(_effect(row, titles) for row in detail.effects),
        approvals=tuple(
            approval_view(desk, one, principal, run.plan, refused.get(one.id, ()))
            for one in reversed(detail.approvals)
        ),
        moments=_moments(detail, titles),
        forms=tuple(SIGNAL_FORMS[k] for k in offered(run) if may_signal(desk, k, principal)),
        raw=detail.event.model_dump(mode="json"),
    )


def approval_view(
    desk: Desk,
    request: ApprovalRequest,
    principal: Principal,
    plan: Plan | None,
    refused: tuple[tuple[Vote, str], ...] = (),
) -> ApprovalView:
    """A request as this person sees it."""
    answerable = is_open(desk, request)
    reasons = {
        decision: why_not(desk, request, principal, decision) if answerable else ""
        for decision in ("approve", "reject")
    }
    # A yes to a pause or to a verdict lets that one step go on; the steps were agreed to before.
    whole = plan is not None and request.digest == plan.scope_digest(request.scope)
    covers = (
        tuple(step.title for step in plan.steps if step.scope == request.scope)
        if (plan is not None and whole)
        else ()
    )
    return ApprovalView(
        request=request,
        open=answerable,
        may=tuple(decision for decision, reason in reasons.items() if reason is None),
        refusal=reasons["approve"] or None,
        refused=refused,
        covers=covers,
        who=who_may(request.requirement),
        authors=tuple(dict.fromkeys((request.author, *request.authors))),
    )


def event_sentence(event: Event) -> str:
    """One line about an event."""
    body = event.body
    match body.kind:
        case "pull_request":
            verb = "merged" if body.merged else body.action
            return f"{body.repo}#{body.number} {verb}: {body.title}"
        case "push":
            return f"push of {body.sha[:10]} to {body.branch} of {body.repo}"
        case "tag":
            return f"tag {body.tag} in {body.repo}"
        case "ci_result":
            return f"{body.name}: {body.conclusion or 'running'} on {body.sha[:10]} of {body.repo}"
        case "command":
            return _commands_sentence(body)
        case "alert":
            return _alert_sentence(body)
        case "unhandled":
            return body.what + (f" ({body.repo})" if body.repo else "")


def _commands_sentence(body: Commanded) -> str:
    said = "; ".join(f"/{one.name.value} {' '.join(one.args)}".strip() for one in body.commands)
    where = f" on {body.repo}#{body.number}" if body.number else ""
    return f"{body.author.login}: {said or 'no command'}{where}"


def _alert_sentence(body: AlertGroup) -> str:
    names = ", ".join(sorted({alert.name for alert in body.alerts}))
    return f"{body.status}: {names} ({len(body.alerts)} alerts)"


def _facts(detail: RunDetail) -> tuple[tuple[str, str], ...]:
    run, event = detail.run, detail.event
    change = run.plan.change if run.plan else None
    rows = [
        ("Goal", run.goal),
        ("Targets", ", ".join(run.targets)),
        ("Repository", run.repo or ""),
        ("Pull request", f"#{run.number}" if run.number else ""),
        ("Commit", run.sha or ""),
        ("Author", run.author),
        ("Merged by", change.merged_by.login if change and change.merged_by else ""),
        ("Started by", f"{event.source}: {event_sentence(event)}"),
        ("Planner", run.plan.planner if run.plan else ""),
        ("Run", str(run.id)),
        ("Thread", str(run.thread_id)),
        ("Change", run.change_key),
        ("Plan digest", run.plan_digest or ""),
    ]
    return tuple((label, value) for label, value in rows if value)


def _checks(detail: RunDetail, titles: dict[str, str]) -> tuple[CheckView, ...]:
    by_step: dict[str, list[VerdictRow]] = {}
    for row in sorted(detail.verdicts, key=lambda one: one.seq):
        by_step.setdefault(row.step_id, []).append(row)
    return tuple(
        CheckView(
            step_id=step_id,
            title=titles.get(step_id, step_id),
            row=rows[-1],
            looks=len(rows),
            metrics=tuple(
                MetricView(metric, bars(metric), lines(rows, metric.metric))
                for metric in rows[-1].verdict.metrics
            ),
            compared=any(one.stable_rate is not None for one in rows[-1].verdict.metrics),
        )
        for step_id, rows in reversed(by_step.items())
    )


def decision_views(detail: RunDetail, titles: dict[str, str]) -> tuple[DecisionView, ...]:
    """What policy said in this run, newest first, each thing it said in a row once."""
    views: list[DecisionView] = []
    for row in sorted(detail.decisions, key=lambda one: one.seq):
        title = titles.get(row.step_id, row.step_id)
        view = DecisionView(row, row, title, 1, row.decision.rules, (row.id,))
        before = _said_before(views, row)
        if before is not None:
            views.remove(before)
            view = DecisionView(
                before.first,
                row,
                before.title,
                before.times + 1,
                row.decision.rules,
                (*before.ids, row.id),
                _earlier(before, row),
            )
        views.append(view)
    return tuple(reversed(views))


def _said_before(views: list[DecisionView], row: DecisionRow) -> DecisionView | None:
    """The view that tells this already. A step that waits is let through for each look and sent
    back to wait by what it saw: of one step, the last two tell it between them."""
    for view in reversed(views[-2:]):
        if view.last.step_id != row.step_id:
            return None
        if _says(view.last) == _says(row):
            return view
    return None


def _earlier(before: DecisionView, row: DecisionRow) -> tuple[str, ...]:
    """Every reason but the present ones, each once, the latest ones when there are many."""
    now = {rule.reason for rule in row.decision.rules}
    said = (*before.earlier, *(rule.reason for rule in before.rules))
    return tuple(dict.fromkeys(one for one in said if one not in now))[-MOST_EARLIER:]


def _says(row: DecisionRow) -> tuple[object, ...]:
    """What makes two decisions the same to a reader: step, outcome and rules, not their times."""
    rules = tuple((rule.rule, rule.outcome) for rule in row.decision.rules)
    return row.step_id, row.decision.outcome, rules, row.approval_id


def _effect(row: EffectRow, titles: dict[str, str]) -> EffectView:
    rendered = row.result.data.get("body") if row.result is not None else None
    body = rendered or row.action.get("body") or row.action.get("text") or ""
    return EffectView(row, titles.get(row.step_id, row.step_id), str(body))


def _moments(detail: RunDetail, titles: dict[str, str]) -> tuple[Moment, ...]:
    """What people did and what came of it, oldest first. Every decision stands in its own list."""
    event = detail.event
    moments = [Moment(event.received_at, "event", "active", event_sentence(event))]
    moments += [
        Moment(at, "engine", "wait", sentence)
        for node, at in detail.path
        if (sentence := mishap(node)) is not None
    ]
    moments += [
        Moment(one.at, "signal", "wait", _signal_sentence(one.kind, one.payload))
        for one in detail.signals
        if one.kind != "vote"
    ]
    for request in detail.approvals:
        moments.append(
            Moment(request.requested_at, "decision", "ask", f"asked: {request.question}")
        )
        moments += [
            Moment(
                vote.at,
                "vote",
                "good" if vote.decision == "approve" else "bad",
                f"{vote.principal} said {vote.decision} ({vote.via})"
                + (f": {vote.comment}" if vote.comment else ""),
            )
            for vote in request.votes
        ]
    moments += [
        Moment(
            row.finished_at or row.started_at,
            "effect",
            "good" if row.state is EffectState.APPLIED else "bad",
            f"{titles.get(row.step_id, row.step_id)}: "
            + (row.result.summary if row.result else row.error or row.state.value),
        )
        for row in detail.effects
    ]
    moments += [
        Moment(
            row.at,
            "verdict",
            row.verdict.kind,
            f"{titles.get(row.step_id, row.step_id)}: {row.verdict.reason}",
        )
        for row in (*_last_verdicts(detail.verdicts), *_last_verdicts(detail.shares))
    ]
    return tuple(sorted(moments, key=lambda moment: moment.at))


def _last_verdicts(rows: Sequence[VerdictRow]) -> list[VerdictRow]:
    return list({row.step_id: row for row in sorted(rows, key=lambda one: one.seq)}.values())


def _signal_sentence(kind: str, payload: dict[str, Any]) -> str:
    who = str(payload.get("author") or payload.get("principal") or "")
    why = str(payload.get("reason") or payload.get("why") or payload.get("conclusion") or "")
    by = str(payload.get("by") or "")
    parts = [kind.replace("_", " ")]
    if who:
        parts.append(f"by {who}")
    if by:
        parts.append(f"by run {by[:8]}")
    return " ".join(parts) + (f": {why}" if why else "")


__all__ = [
    "RunView",
    "StepProgress",
    "approval_view",
    "event_sentence",
    "run_view",
]
