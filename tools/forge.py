"""GitHub as a forge: reads pull requests, branches and permissions, and keeps sticky comments."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog

from domain.action import Action, GitCommentPr, GitReact
from domain.effect import Applied, Stamp
from domain.errors import AdapterError, Permanent
from domain.repository import RepoFile
from domain.secret import FilePatch
from tools.github_client import GitHubClient
from tools.github_errors import Refused
from tools.github_reactions import react, reacted
from tools.github_teams import Memberships
from tools.ports import Guard
from tools.sticky_comment import Sticky, says_the_same, stamp_words, understood, written

log = structlog.get_logger(__name__)

MAX_FILES = 3000
"""GitHub lists no more files of a pull request than this, without saying that there are more."""
MAX_COMPARED = 300
"""The same for a comparison of two commits."""
MAX_COMMENTS = 3000
ROLES: dict[str, tuple[str, ...]] = {
    "admin": ("admin", "release-manager", "developer"),
    "maintain": ("release-manager", "developer"),
    "write": ("developer",),
    "triage": (),
    "read": (),
    "none": (),
}
"""What a permission on the repository is worth here."""


@dataclass(frozen=True)
class _Found:
    """A comment of ours with a marker."""

    id: int
    body: str
    url: str
    sticky: Sticky


class GitHubForge:
    """A `ForgeReader`, and the `WritePort` for `git_comment_pr`.

    A comment is upserted: what our own account wrote under the marker before is listed first. The
    oldest one is brought up to date, others (made by a person's hand, or by an earlier accident)
    are removed, and where nothing would change nothing is sent.
    """

    def __init__(self, client: GitHubClient) -> None:
        self._client = client
        self._memberships = Memberships(client)

    @property
    def can_look(self) -> bool:
        """It has credentials."""
        return True

    # --- reading ---------------------------------------------------------------------------------

    async def changed_paths(self, repo: str, number: int) -> tuple[str, ...] | None:
        """Paths that a pull request changes, both names of a renamed file; None when unknown.

        Unknown also means: more than GitHub lists, or fewer than it counts.
        """
        files = await self._files(repo, number, "changed_paths")
        if files is None:
            return None
        names = {file.get(key) for file in files for key in ("filename", "previous_filename")}
        return tuple(sorted(name for name in names if isinstance(name, str)))

    async def patches(self, repo: str, number: int) -> tuple[FilePatch, ...] | None:
        """What a pull request does to each file; None when unknown, as for `changed_paths`."""
        files = await self._files(repo, number, "patches")
        return None if files is None else _patches(files)

    async def patches_between(
        self, repo: str, base: str, head: str
    ) -> tuple[FilePatch, ...] | None:
        """What came between two commits does to each file.

        None when unknown, or when there are as many files as GitHub shows at most.
        """
        try:
            told = await self._client.get(f"/compare/{base}...{head}", repo=repo)
        except AdapterError as error:
            _unknown("patches_between", error)
            return None
        files = told.get("files") if isinstance(told, dict) else None
        if not isinstance(files, list) or len(files) >= MAX_COMPARED:
            return None
        return _patches(files)

    async def _files(self, repo: str, number: int, what: str) -> list[Any] | None:
        """The files of a pull request, all of them or None."""
        try:
            pull = await self._client.get(f"/pulls/{number}", repo=repo)
            files, ended = await self._client.pages(
                f"/pulls/{number}/files", repo=repo, most=MAX_FILES
            )
        except AdapterError as error:
            _unknown(what, error)
            return None
        counted = pull.get("changed_files") if isinstance(pull, dict) else None
        if not ended or len(files) >= MAX_FILES or not isinstance(counted, int):
            return None
        return None if len(files) < counted else list(files)

    async def head_sha(self, repo: str, number: int) -> str | None:
        """The pull request's head right now; None when unknown."""
        return await self._sha(f"/pulls/{number}", repo, "head")

    async def file_text(self, repo: str, path: str, ref: str | None) -> RepoFile | None:
        """A file at a commit (None: at the tip of the default branch); None when unknown.

        GitHub answers 404 for a file that is not there, and as well for a repository or a commit
        that cannot be seen: only where the commit can be read is the file known to be missing.
        """
        params = {"ref": ref} if ref else None
        try:
            told = await self._client.get(f"/contents/{quote(path)}", repo=repo, params=params)
        except Refused as error:
            if error.status == 404 and await self._commit_is_there(repo, ref or "HEAD"):
                return RepoFile(text=None)
            _unknown("file_text", error)
            return None
        except AdapterError as error:
            _unknown("file_text", error)
            return None
        return _content(told)

    async def _commit_is_there(self, repo: str, ref: str) -> bool:
        try:
            told = await self._client.get(f"/commits/{quote(ref, safe='')}", repo=repo)
        except AdapterError as error:
            _unknown("commit", error)
            return False
        return isinstance(told, dict) and isinstance(told.get("sha"), str)

    async def opener(self, repo: str, number: int) -> str | None:
        """Login of whoever opened the pull request; None when unknown."""
        try:
            told = await self._client.get(f"/pulls/{number}", repo=repo)
        except AdapterError as error:
            _unknown("opener", error)
            return None
        user = told.get("user") if isinstance(told, dict) else None
        login = user.get("login") if isinstance(user, dict) else None
        return login if isinstance(login, str) and login else None

    async def branch_sha(self, repo: str, branch: str) -> str | None:
        """The commit a branch points at right now; None when unknown."""
        return await self._sha(f"/branches/{quote(branch, safe='')}", repo, "commit")

    async def roles_of(self, repo: str, login: str) -> tuple[str, ...] | None:
        """Roles that the login's permission on the repository gives; None when unknown.

        A custom role counts as the permission it is built on.
        """
        path = f"/collaborators/{quote(login, safe='')}/permission"
        try:
            told = await self._client.get(path, repo=repo)
        except AdapterError as error:
            _unknown("roles_of", error)
            return None
        if not isinstance(told, dict):
            return None
        role = ROLES.get(str(told.get("role_name")))
        return role if role is not None else ROLES.get(str(told.get("permission")))

    async def teams_of(self, login: str, teams: tuple[str, ...]) -> tuple[str, ...] | None:
        """Those of the teams that the login is an active member of; None when unknown."""
        return await self._memberships.of(login, teams)

    async def _sha(self, path: str, repo: str, key: str) -> str | None:
        try:
            told = await self._client.get(path, repo=repo)
        except AdapterError as error:
            _unknown(key, error)
            return None
        part = told.get(key) if isinstance(told, dict) else None
        sha = part.get("sha") if isinstance(part, dict) else None
        return sha if isinstance(sha, str) and sha else None

    # --- writing ---------------------------------------------------------------------------------

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Bring the one sticky comment of the action's marker up to date."""
        if isinstance(action, GitReact):
            return await react(self._client, action, guard)
        comment = _comment_action(action)
        text = written(comment, stamp)
        found = await self._ours(comment)
        if not found:
            return await self._create(comment, text, guard)
        keeper, *extra = found
        try:
            applied = await self._update(comment, keeper, text, guard)
        except Refused as error:
            if error.status not in (404, 410):
                raise
            # Somebody deleted it while we looked.
            applied = await self._create(comment, text, guard)
        for one in extra:
            await self._delete(comment.repo, one.id, guard)
        if not extra:
            return applied
        summary = f"{applied.summary}; {len(extra)} more under the same marker removed"
        return applied.model_copy(update={"summary": summary})

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """The comment that carries this very stamp, or None."""
        if isinstance(action, GitReact):
            return await reacted(self._client, action)
        comment = _comment_action(action)
        for one in await self._ours(comment):
            if one.sticky.stamp == stamp_words(stamp):
                return Applied(
                    summary=f"comment on {comment.repo}#{comment.number} was there already",
                    data={"comment_id": one.id},
                    url=one.url,
                )
        return None

    async def _update(
        self, comment: GitCommentPr, keeper: _Found, text: str, guard: Guard
    ) -> Applied:
        where, data = f"{comment.repo}#{comment.number}", {"comment_id": keeper.id}
        if says_the_same(keeper.body, text):
            summary = f"the comment on {where} is up to date already"
            return Applied(summary=summary, data=data, url=keeper.url)
        path = f"/issues/comments/{keeper.id}"
        told = await self._client.write(
            "PATCH", path, repo=comment.repo, guard=guard, body={"body": text}
        )
        summary = f"updated the comment on {where}"
        return Applied(summary=summary, data=data, url=_url(told) or keeper.url)

    async def _create(self, comment: GitCommentPr, text: str, guard: Guard) -> Applied:
        told = await self._client.write(
            "POST",
            f"/issues/{comment.number}/comments",
            repo=comment.repo,
            guard=guard,
            body={"body": text},
        )
        data = {"comment_id": told["id"]} if isinstance(told, dict) and "id" in told else {}
        return Applied(
            summary=f"commented on {comment.repo}#{comment.number}", data=data, url=_url(told)
        )

    async def _delete(self, repo: str, comment_id: int, guard: Guard) -> None:
        try:
            await self._client.write(
                "DELETE", f"/issues/comments/{comment_id}", repo=repo, guard=guard
            )
        except Refused as error:
            # Gone already, or not ours to remove: the comment that counts is up to date.
            log.info("forge.duplicate_kept", comment=comment_id, reason=str(error))

    async def _ours(self, comment: GitCommentPr) -> list[_Found]:
        """Comments of our own account under the marker, oldest first."""
        login = await self._client.login()
        items, _ = await self._client.pages(
            f"/issues/{comment.number}/comments", repo=comment.repo, most=MAX_COMMENTS
        )
        found = []
        for item in items:
            sticky = understood(str(item.get("body") or ""))
            user = item.get("user") or {}
            if (
                sticky is not None
                and sticky.marker == comment.marker
                and str(user.get("login", "")).lower() == login.lower()
            ):
                found.append(_Found(int(item["id"]), str(item["body"]), _url(item), sticky))
        return sorted(found, key=lambda one: one.id)


def _content(told: Any) -> RepoFile | None:
    """The text in an answer of the contents API; None for a folder, a link, or what is not text."""
    if not isinstance(told, dict) or told.get("type") != "file" or told.get("encoding") != "base64":
        return None
    try:
        return RepoFile(text=base64.b64decode(str(told.get("content"))).decode("utf-8"))
    except ValueError:
        return None


def _comment_action(action: Action) -> GitCommentPr:
    if not isinstance(action, GitCommentPr):
        raise Permanent(f"the forge cannot do {action.kind}", "see the settings in the README")
    return action


def _patches(files: list[Any]) -> tuple[FilePatch, ...]:
    """A file that only moved or went away adds nothing; one without a diff is unread."""
    found = []
    for file in files:
        patch = file.get("patch")
        adds_nothing = file.get("status") in ("removed", "renamed") and not file.get("additions")
        if not isinstance(patch, str):
            patch = "" if adds_nothing else None
        found.append(FilePatch(path=str(file.get("filename")), patch=patch))
    return tuple(found)


def _url(told: Any) -> str:
    return str(told.get("html_url") or "") if isinstance(told, dict) else ""


def _unknown(what: str, error: AdapterError) -> None:
    """Unknown is an answer of its own; what made it so is in the log."""
    log.warning("forge.unknown", what=what, reason=str(error))
