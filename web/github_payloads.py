"""GitHub's payloads in our own words. Fields may be missing or null: that makes `Unhandled`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast, get_args

from domain.digest import digest_of_bytes
from domain.errors import BadEvent
from domain.event import (
    Actor,
    CheckResult,
    Command,
    Commanded,
    EventBody,
    PullRequestChanged,
    Pushed,
    Tagged,
    Unhandled,
)
from domain.refusal import RefusalKind, Unheard
from web.comments import parse_comment
from web.problems import shown
from web.receive import MAX_NAME, MAX_TEXT, misfit

MAX_COMMITS = 2048
"""GitHub lists at most this many commits in a push."""

NULL_SHA = "0" * 40

OUR_MARK = "<!-- fermata:"
"""How every comment that we write begins (`tools/sticky_comment.py`)."""

Payload = Mapping[str, Any]
Action = Literal["opened", "synchronize", "reopened", "closed"]
Conclusion = Literal[
    "success",
    "failure",
    "neutral",
    "cancelled",
    "skipped",
    "timed_out",
    "action_required",
    "stale",
    "startup_failure",
    "error",
]


@dataclass(frozen=True)
class Understood:
    """A payload's meaning. `problem` says why one that should have a meaning has none."""

    body: EventBody
    remarks: tuple[str, ...] = ()
    problem: str = ""
    text_digest: str = ""
    """Digest of a comment's text."""
    unheard: tuple[Unheard, ...] = ()
    """Commands that stand in a comment which is not read."""


def understand(event: str, payload: Payload, account: str = "") -> Understood:
    """What a delivery of kind `event` means. Never raises; `account` is our own login."""
    reader = _READERS.get(event)
    action = payload.get("action")
    label = shown(event) + (f" {shown(action)}" if isinstance(action, str) else "")
    repo = _repo_or_none(payload)
    if reader is None:
        return Understood(Unhandled(what=f"nothing to do for {label}", repo=repo))
    try:
        understood = reader(payload, account)
    except BadEvent as error:
        reason = f"{label}: {error}"
        return Understood(Unhandled(what=reason, repo=repo), problem=reason)
    wrong = misfit(understood.body)
    if wrong is not None:
        reason = f"{label}: {wrong[0]} {wrong[1]}"
        return Understood(Unhandled(what=reason, repo=None), problem=reason)
    return understood


def _pull_request(payload: Payload, _account: str) -> Understood:
    action = payload.get("action")
    if action not in get_args(Action):
        return _nothing(payload, f"nothing to do for pull_request {shown(str(action))}")
    pull = _dict(payload, "pull_request")
    head, base = _dict(pull, "head", "pull_request"), _dict(pull, "base", "pull_request")
    repo = _repo(payload)
    head_repo = head.get("repo")
    merged = pull.get("merged") is True
    return Understood(
        PullRequestChanged(
            action=cast(Action, action),
            merged=merged,
            repo=repo,
            number=_number(pull, "number", "pull_request"),
            title=_text(pull.get("title")),
            author=_actor(pull.get("user")),
            head_sha=_string(head, "sha", "pull_request.head"),
            head_ref=_string(head, "ref", "pull_request.head"),
            base_sha=_string(base, "sha", "pull_request.base"),
            base_ref=_string(base, "ref", "pull_request.base"),
            default_branch=_default_branch(payload),
            # before the merge this names a trial merge that is on no branch
            merge_sha=_text(pull.get("merge_commit_sha")) or None if merged else None,
            # a deleted fork leaves null: not ours is the safe reading
            from_fork=not isinstance(head_repo, dict) or head_repo.get("full_name") != repo,
            merged_by=_actor(pull["merged_by"]) if pull.get("merged_by") else None,
            lines=_lines(pull),
        )
    )


def _lines(pull: Payload) -> int | None:
    """Lines added and removed, when both are told as counts."""
    counts = [pull.get("additions"), pull.get("deletions")]
    known = [one for one in counts if isinstance(one, int) and not isinstance(one, bool)]
    return sum(known) if len(known) == 2 and min(known) >= 0 else None


def _push(payload: Payload, _account: str) -> Understood:
    ref = _string(payload, "ref")
    repo, author = _repo(payload), _actor(payload.get("sender") or payload.get("pusher"))
    after = _string(payload, "after")
    deleted = payload.get("deleted") is True
    if ref.startswith("refs/tags/"):
        # an annotated tag's `after` is the tag object; the commit stands in head_commit
        commit = payload.get("head_commit")
        sha = _text(commit.get("id")) if isinstance(commit, dict) else ""
        return Understood(
            Tagged(
                repo=repo,
                tag=ref.removeprefix("refs/tags/"),
                sha=sha or after,
                author=author,
                deleted=deleted,
            )
        )
    if not ref.startswith("refs/heads/"):
        return _nothing(payload, f"nothing to do for a push to {shown(ref)}")
    return Understood(
        Pushed(
            repo=repo,
            branch=ref.removeprefix("refs/heads/"),
            default_branch=_default_branch(payload),
            sha=after,
            before=_text(payload.get("before")) or NULL_SHA,
            author=author,
            paths=_pushed_paths(payload),
            deleted=deleted,
            forced=payload.get("forced") is True,
        )
    )


def _pushed_paths(payload: Payload) -> tuple[str, ...] | None:
    """Paths that a push touched, sorted; None when the payload cannot tell them all."""
    commits = payload.get("commits")
    before = payload.get("before")
    if not isinstance(commits, list) or len(commits) >= MAX_COMMITS:
        return None
    if payload.get("forced") or payload.get("created") or before in (None, NULL_SHA):
        return None
    size = payload.get("size")
    if size is not None and size != len(commits):
        return None
    head = payload.get("head_commit")
    if not commits and isinstance(head, dict) and payload.get("after") != before:
        # the branch moved over commits that the forge knew already, and does not list
        return None
    paths: set[str] = set()
    for commit in commits:
        for change in ("added", "modified", "removed"):
            listed = commit.get(change) if isinstance(commit, dict) else None
            if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
                return None
            paths.update(listed)
    return tuple(sorted(paths))


def _check_run(payload: Payload, _account: str) -> Understood:
    run = _dict(payload, "check_run")
    return Understood(
        CheckResult(
            source="check_run",
            repo=_repo(payload),
            sha=_string(run, "head_sha", "check_run"),
            name=_name(run.get("name"), "check run"),
            conclusion=_conclusion(run),
            url=_text(run.get("html_url") or run.get("details_url")),
        )
    )


def _check_suite(payload: Payload, _account: str) -> Understood:
    suite = _dict(payload, "check_suite")
    app = suite.get("app")
    return Understood(
        CheckResult(
            source="check_suite",
            repo=_repo(payload),
            sha=_string(suite, "head_sha", "check_suite"),
            name=_name(app.get("name") if isinstance(app, dict) else None, "check suite"),
            conclusion=_conclusion(suite),
            url=_text(suite.get("url")),
        )
    )


def _workflow_run(payload: Payload, _account: str) -> Understood:
    run = _dict(payload, "workflow_run")
    return Understood(
        CheckResult(
            source="workflow_run",
            repo=_repo(payload),
            sha=_string(run, "head_sha", "workflow_run"),
            name=_name(run.get("name") or run.get("path"), "workflow"),
            conclusion=_conclusion(run),
            url=_text(run.get("html_url")),
        )
    )


def _status(payload: Payload, _account: str) -> Understood:
    state = _string(payload, "state")
    conclusion: Conclusion | None = None
    if state != "pending":
        conclusion = cast(Conclusion, state) if state in ("success", "failure") else "error"
    return Understood(
        CheckResult(
            source="status",
            repo=_repo(payload),
            sha=_string(payload, "sha"),
            name=_name(payload.get("context"), "default"),
            conclusion=conclusion,
            url=_text(payload.get("target_url")),
        )
    )


def _conclusion(check: Payload) -> Conclusion | None:
    """How a check ended. None while it runs; a word that we do not know counts as an error."""
    conclusion = check.get("conclusion")
    if check.get("status") != "completed" or conclusion is None:
        return None
    return cast(Conclusion, conclusion) if conclusion in get_args(Conclusion) else "error"


def _issue_comment(payload: Payload, account: str) -> Understood:
    action = payload.get("action")
    if action == "edited":
        return _refused(payload, "edited", "a comment was edited; only new ones are read")
    if action != "created":
        return _nothing(payload, f"a comment was {shown(str(action))}; only new ones are read")
    issue, comment = _dict(payload, "issue"), _dict(payload, "comment")
    if not isinstance(issue.get("pull_request"), dict):
        return _nothing(payload, "a comment on an issue, not on a pull request")
    author = _actor(comment.get("user"))
    if author.is_bot or not author.login:
        return _refused(payload, "bot", "a comment by a bot; commands are for people")
    text = comment.get("body")
    ours = isinstance(text, str) and OUR_MARK in text
    if ours or (account and author.login.lower() == account.lower()):
        return _nothing(payload, "a comment of our own account")
    found = parse_comment(text) if isinstance(text, str) else []
    commands = tuple(one for one in found if isinstance(one, Command))
    misread = [one for one in found if not isinstance(one, Command)]
    # other bots have commands of their own: what resembles none of ours is not ours to correct
    ours = bool(commands) or any(one.suggestion is not None for one in misread)
    errors = tuple(f"line {one.line}: {one.error}" for one in misread)
    if not ours:
        return _nothing(payload, "; ".join(errors) or "a comment without commands")
    return Understood(
        Commanded(
            commands=commands,
            author=author,
            repo=_repo(payload),
            number=_number(issue, "number", "issue"),
            comment_id=_number(comment, "id", "comment"),
            association=_text(comment.get("author_association")),
            said_at=_time(comment.get("created_at")),
            misread=errors,
        ),
        remarks=errors,
        text_digest=digest_of_bytes(str(text).encode("utf-8", "replace")),
    )


def _refused(payload: Payload, kind: RefusalKind, reason: str) -> Understood:
    """A comment that is not read, with the commands that it would have given."""
    comment, issue = payload.get("comment"), payload.get("issue")
    text = comment.get("body") if isinstance(comment, dict) else None
    found = parse_comment(text) if isinstance(text, str) else []
    names = [one.name.value for one in found if isinstance(one, Command)]
    ids = [_id(comment, "id"), _id(issue, "number")]
    sender = payload.get("sender") if kind == "edited" else None
    user = sender or (comment.get("user") if isinstance(comment, dict) else None)
    unheard = tuple(
        Unheard(
            kind=kind,
            command=name,
            principal=_actor(user).login[:MAX_NAME],
            reason=f"{reason[0].upper()}{reason[1:]}.",
            repo=_repo_or_none(payload),
            number=ids[1],
            comment_id=ids[0],
        )
        for name in dict.fromkeys(names)
    )
    return Understood(Unhandled(what=reason, repo=_repo_or_none(payload)), unheard=unheard)


def _id(part: object, key: str) -> int | None:
    value = part.get(key) if isinstance(part, dict) else None
    most = 2**31 if key == "number" else 2**63
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 < value < most else None


def _time(value: object) -> datetime | None:
    """A time as the forge writes it; None when there is none, or it cannot be read."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


_READERS: dict[str, Callable[[Payload, str], Understood]] = {
    "pull_request": _pull_request,
    "push": _push,
    "check_run": _check_run,
    "check_suite": _check_suite,
    "workflow_run": _workflow_run,
    "status": _status,
    "issue_comment": _issue_comment,
}


def _nothing(payload: Payload, what: str) -> Understood:
    return Understood(Unhandled(what=what, repo=_repo_or_none(payload)))


def _repo(payload: Payload) -> str:
    return _string(_dict(payload, "repository"), "full_name", "repository")


def _repo_or_none(payload: Payload) -> str | None:
    repository = payload.get("repository")
    name = repository.get("full_name") if isinstance(repository, dict) else None
    return name if isinstance(name, str) and 0 < len(name) <= MAX_NAME else None


def _default_branch(payload: Payload) -> str:
    return _string(_dict(payload, "repository"), "default_branch", "repository")


def _actor(user: object) -> Actor:
    """An account; one that was deleted is GitHub's `ghost`. A pusher has a name for a login."""
    if not isinstance(user, dict):
        return Actor(login="ghost")
    login = user.get("login") or user.get("name")
    if not isinstance(login, str) or not login:
        return Actor(login="ghost")
    return Actor(login=login, is_bot=user.get("type") == "Bot" or login.endswith("[bot]"))


def _dict(payload: Payload, key: str, inside: str = "") -> Payload:
    value = payload.get(key)
    if not isinstance(value, dict):
        raise BadEvent(f"{_path(inside, key)} is missing")
    return value


def _string(payload: Payload, key: str, inside: str = "") -> str:
    value = payload.get(key)
    if not isinstance(value, str) or not value:
        raise BadEvent(f"{_path(inside, key)} is missing")
    return value


def _number(payload: Payload, key: str, inside: str = "") -> int:
    value = payload.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**63:
        raise BadEvent(f"{_path(inside, key)} is missing")
    return value


def _path(inside: str, key: str) -> str:
    return f"{inside}.{key}" if inside else key


def _text(value: object) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _name(value: object, otherwise: str) -> str:
    return (value[:MAX_NAME] if isinstance(value, str) else "") or otherwise
