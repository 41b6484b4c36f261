"""Answers to comments: what was understood, what came of it, and what was asked to be told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from domain.action import GitCommentPr, GitReact
from domain.approval import ApprovalState
from domain.decision import Requirement
from domain.event import Command, Commanded, CommandName, Event
from domain.grammar import USAGES
from domain.plan import Change, Plan
from nodes.planning import words_step
from nodes.standing import Standing, WhoMay
from nodes.wording import Wording, plain
from policy.families.commands import MAY_COMMAND
from policy.rules import Rules
from store.answers import Answers, Outcome
from store.queries import Queries
from store.records import RunDetail, RunRow

LOOK_BACK = 100
_KEY = re.compile(r"answer:(?P<repo>.+)#(?P<number>\d+):(?P<comment>\d+)(?::(?P<later>.+))?")
_EXPLAINED = frozenset({"release", "rollback", "unlock", "nothing"})

Content = Literal["eyes", "+1", "confused"]


@dataclass(frozen=True)
class Comment:
    """The comment that is answered. `later`: commands of it have been judged meanwhile."""

    repo: str
    number: int
    id: int
    later: bool

    @classmethod
    def of(cls, change_key: str) -> Comment | None:
        """Read from the key of an answer's run."""
        found = _KEY.fullmatch(change_key)
        if found is None:
            return None
        return cls(found["repo"], int(found["number"]), int(found["comment"]), bool(found["later"]))


@dataclass(frozen=True)
class Answering:
    """Plans answers: a reaction under the comment, and a reply where there is something to say."""

    answers: Answers
    queries: Queries
    who: WhoMay
    rules: Callable[[], Rules]
    wording: Wording

    async def plan(self, change: Change, event: Event, run: RunRow | None) -> Plan:
        """The steps that answer one comment, with their words in them."""
        comment = Comment.of(run.change_key) if run is not None else None
        outcome = await self.answers.outcome(event.id)
        if comment is None or outcome is None:
            note = "The comment that was to be answered is not known any more."
            return Plan(change=change, goal="answer", steps=(), notes=(note,))
        if comment.later:
            content, lines = _came_of(outcome), list(_judged(outcome))
            marker = f"outcome:{comment.id}"
        else:
            content, lines = await self._understood(event, comment, outcome)
            marker = f"answer:{comment.id}"
        react = GitReact(repo=comment.repo, comment_id=comment.id, content=content)
        steps = [words_step("answer.react", react)]
        if lines:
            body = "\n".join([*lines, *self.wording.answer_footer()])
            reply = GitCommentPr(repo=comment.repo, number=comment.number, marker=marker, body=body)
            steps.append(words_step("answer.reply", reply))
        return Plan(change=change, goal="answer", steps=tuple(steps))

    async def _understood(
        self, event: Event, comment: Comment, outcome: Outcome
    ) -> tuple[Content, list[str]]:
        """What was understood right away, and what was asked to be told."""
        body = event.body
        commands = body.commands if isinstance(body, Commanded) else ()
        asked = [one for one in commands if one.name in (CommandName.HELP, CommandName.EXPLAIN)]
        lines: list[str] = []
        if isinstance(body, Commanded) and comment.id == body.comment_id:
            lines += [f"- {plain(one)}" for one in body.misread]
            lines += [f"- {plain(one, 600)}" for one in _said(outcome, body.misread)]
            if asked:
                standing = await self.who.of(
                    {
                        "author": body.author.login,
                        "association": body.association,
                        "roles": body.roles,
                        "repo": body.repo,
                    }
                )
                for one in asked:
                    lines += ["", *await self._told(one, comment, standing)]
        elif outcome.reason:
            lines.append(f"- {plain(outcome.reason, 600)}")
        reached = bool(outcome.told or outcome.begun or asked)
        return ("eyes" if reached else "confused"), lines

    async def _told(self, command: Command, comment: Comment, standing: Standing) -> list[str]:
        if command.name is CommandName.HELP:
            return list(_help(standing, self.rules()))
        if not standing.has_any(MAY_COMMAND):
            why = standing.unknown or f"It takes one of {', '.join(MAY_COMMAND)}."
            return [
                f"{plain(standing.login)} may not be told why runs are decided as they are. {why}"
            ]
        word = command.args[0] if command.args else ""
        run = await self._meant(comment, word)
        if run is None:
            what = f"run {plain(word, 40)}" if word else "run of this pull request"
            return [f"There is no {what} to explain."]
        detail = await self.queries.run_detail(run)
        return list(_explained(detail, self.wording)) if detail is not None else []

    async def _meant(self, comment: Comment, word: str) -> UUID | None:
        """The run that is to be explained: one of this repository, whatever word names it."""
        if word:
            found = [
                one for one in await self.queries.find_run(word.lower()) if one.repo == comment.repo
            ]
            return found[0].id if len(found) == 1 else None
        for row in await self.queries.list_runs(repo=comment.repo, limit=LOOK_BACK):
            if row.number == comment.number and row.goal in _EXPLAINED:
                return row.id
        return None


def _said(outcome: Outcome, misread: tuple[str, ...]) -> Iterator[str]:
    """What the intake had to say, without what is said elsewhere or did not matter in the end."""
    reason = outcome.reason
    for line in misread:
        reason = reason.replace(line, "")
    for kind in {one.kind for one in outcome.told}:
        # a word that may be a run or a digest is looked for as both
        reason = re.sub(rf"{re.escape(kind)}: no change [^;]*", "", reason)
    parts = [part.strip() for part in reason.split(";")]
    said = "; ".join(part for part in parts if part)
    if said:
        yield said


def _came_of(outcome: Outcome) -> Content:
    counted = any(one.refused is None for one in outcome.votes)
    refused = bool(outcome.refusals) or any(one.refused is not None for one in outcome.votes)
    return "+1" if counted or not refused else "confused"


def _judged(outcome: Outcome) -> Iterator[str]:
    """Why commands were refused; nothing where all went well."""
    counted = [one for one in outcome.votes if one.refused is None]
    refused = [one for one in outcome.votes if one.refused is not None]
    # one of several runs may have asked nothing: that is no news when another one counted it
    others = [one for one in outcome.refusals if not (counted and one.kind == "nothing_asked")]
    if not refused and not others:
        return
    for vote in counted:
        yield (
            f"- `/{vote.decision}` counts for {plain(vote.scope)} (run {str(vote.run_id)[:8]}): "
            f"{vote.given} of {vote.needed}."
        )
    for vote in refused if not counted else ():
        yield (
            f"- `/{vote.decision}` does not count for run {str(vote.run_id)[:8]}: "
            f"{plain(vote.refused or '', 600)}"
        )
    for one in others:
        yield f"- `/{one.command}` was refused: {plain(one.reason, 600)}"


def _help(standing: Standing, rules: Rules) -> Iterator[str]:
    """The grammar, and what this person may do."""
    yield "One command a line, at the start of the line. Words with spaces go into quotes."
    yield ""
    yield "| command | what it does | you |"
    yield "|---|---|---|"
    for one in USAGES:
        usage = one.usage.replace("|", "\\|")
        yield f"| `{usage}` | {one.does} | {_may(one.group, standing, rules)} |"
    yield ""
    if standing.unknown:
        yield standing.unknown
    roles = ", ".join(standing.roles) or "none"
    yield f"Roles of {plain(standing.login)}: {plain(roles)}."


def _may(group: str, standing: Standing, rules: Rules) -> str:
    match group:
        case "everyone":
            return "yes"
        case "answer":
            return "where one of your roles is asked for" if standing.roles else "no"
        case "override":
            return _yes_no(standing, rules.override_roles)
        case _:
            return _yes_no(standing, MAY_COMMAND)


def _yes_no(standing: Standing, roles: tuple[str, ...]) -> str:
    if standing.has_any(roles):
        return "yes"
    return "not known" if standing.unknown else "no"


def _explained(detail: RunDetail, wording: Wording) -> Iterator[str]:
    """The last decision of a run with every rule that matched, and what is asked of whom."""
    run = detail.run
    link = f"[{str(run.id)[:8]}]({wording.run_url(str(run.id))})"
    yield f"Run {link}, {plain(run.title)}: **{run.state.value}**. {plain(run.reason, 600)}"
    last = max(detail.decisions, key=lambda one: one.seq, default=None)
    if last is None:
        yield ""
        yield "Nothing has been decided yet."
        return
    decision = last.decision
    yield ""
    yield (
        f"Last decision, on `{last.step_id}` at {decision.at:%Y-%m-%d %H:%M:%S} UTC: "
        f"**{decision.outcome.value}**, risk {decision.risk.value}, policy "
        f"`{decision.policy_digest[:12]}`."
    )
    yield ""
    yield "| rule | says | why | what would help |"
    yield "|---|---|---|---|"
    for rule in decision.rules:
        yield (
            f"| `{rule.rule}` | {rule.outcome.value} | {plain(rule.reason, 400)} | "
            f"{plain(rule.remedy)} |"
        )
    for request in detail.approvals:
        if request.state is ApprovalState.PENDING:
            yield ""
            yield (
                f"Asked of {_asked(request.requirement)} until {request.expires_at:%Y-%m-%d %H:%M} "
                f"UTC: digest `{request.digest[:12]}`."
            )


def _asked(requirement: Requirement) -> str:
    return f"{requirement.count} of {' or '.join(requirement.roles) or 'anybody with a role'}"
