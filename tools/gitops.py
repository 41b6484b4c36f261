"""`WritePort` for clusters that take changes from Git alone: a step is a commit or a pull request.

| action | in Git |
|---|---|
| `k8s_deploy` stable | the image's line is changed, in a commit or through a pull request |
| `k8s_rollback` | the same line goes back, in a commit that says which one it reverts |
| `k8s_deploy` canary, `k8s_traffic`, `k8s_retire` | refused: Git knows no weights |

The cluster is never written to. Doing a step twice finds the line as it should be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from domain.action import Action, K8sDeploy, K8sRollback
from domain.effect import Applied, Stamp
from domain.errors import Permanent, Temporary
from domain.service import Target
from tools.github_errors import Conflicted, Refused
from tools.gitops_git import (
    ENDED,
    Commit,
    File,
    GitSide,
    Pull,
    bears,
    branch_of,
    filled,
    settings_of,
    trailers,
    until_unconflicted,
    where_of,
)
from tools.image_line import value_at, value_for, with_image
from tools.ports import Guard

MERGE_AGAIN_SECONDS = 30.0
"""Checks that the branch requires take their time."""
_PROTECTED = re.compile(
    r"rule violation|protected branch|pull request|approving review|status check", re.IGNORECASE
)
"""GitHub answers 409 to a push that a protected branch does not take, as to one that is late."""


@dataclass(frozen=True)
class GitOpsWriter:
    """Writes the image into Git, by GitHub's API."""

    git: GitSide

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Do it; nothing is committed where the file names the image already."""
        ours = _ours(action)
        if isinstance(ours, K8sRollback):
            return await self._roll_back(ours, stamp, guard)
        return await self._write(ours.target, ours.image, stamp, guard, undoes=False)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """The commit, or the pull request, that carries this very stamp."""
        target = _ours(action).target
        of = settings_of(target)
        for one in await self.git.commits(target, of.branch):
            if bears(one.message, stamp):
                return _committed(target, one)
        if of.through == "pull-request":
            pull = await self.git.latest_pull(target)
            # One that we are to merge ourselves is not done while it is open.
            waits = pull is not None and pull.is_open and not of.merge
            if pull is not None and waits and bears(pull.body, stamp):
                return _asked(target, pull)
        return None

    async def _roll_back(self, action: K8sRollback, stamp: Stamp, guard: Guard) -> Applied:
        """What nobody has merged is taken back; then the line is what it was."""
        target = action.target
        if settings_of(target).through == "pull-request":
            pull = await self.git.latest_pull(target)
            if pull is not None and pull.is_pending and not bears(pull.body, stamp):
                await self._take_back(target, pull, guard)
        if action.image is None:
            summary = f"{target.key}: Git names what is to run already"
            return Applied(summary=summary, data={"changed": False})
        return await self._write(target, action.image, stamp, guard, undoes=True)

    async def _take_back(self, target: Target, pull: Pull, guard: Guard) -> None:
        """Close a pull request that nobody has merged, and mark it as given up."""
        ended = f"{pull.body}\n\nTaken back by a rollback.\n{ENDED}"
        change = {"state": "closed", "body": ended}
        try:
            await self.git.change_pull(target, pull, change, guard)
        except Refused:
            now = await self.git.latest_pull(target)
            if now is None or not now.is_merged:
                raise
            # Merged while we looked: the line itself goes back then.

    async def _write(
        self, target: Target, image: str, stamp: Stamp, guard: Guard, *, undoes: bool
    ) -> Applied:
        of, where = settings_of(target), where_of(target)
        is_asking = of.through == "pull-request"

        async def once() -> Applied:
            file = await self.git.present_file(target, of.branch)
            before, after = value_at(file.text, where), value_for(image, where)
            if before == after:
                return Applied(
                    summary=f"{of.repo}/{filled(of.file, target)} names {image} already",
                    data={"changed": False, "repo": of.repo},
                )
            text = with_image(file.text, where, image)
            undone = await self._undone(target, file, image) if undoes else None
            title, told = _words(target, before, after, image, undone, undoes=undoes)
            message = f"{title}\n\n{told}\n\n{trailers(stamp)}\n"
            if is_asking:
                return await self._ask(target, text, title, message, stamp, guard)
            try:
                made = await self.git.put(target, of.branch, text, file.sha, message, guard)
            except Conflicted as error:
                if not _PROTECTED.search(str(error)):
                    raise
                raise Permanent(
                    str(error),
                    f"let Fermata's account pass the protection of {of.branch}, or write "
                    "`through: pull-request` under `gitops:` in services.yaml",
                ) from None
            return _committed(target, made)

        applied = await until_unconflicted(once)
        assert isinstance(applied, Applied)
        return applied

    async def _ask(
        self, target: Target, text: str, title: str, message: str, stamp: Stamp, guard: Guard
    ) -> Applied:
        """One pull request from the target's branch, with the file as it should be."""
        branch = branch_of(target)
        pull = await self.git.latest_pull(target)
        if pull is None or not pull.is_open:
            await self.git.branch_at_base(target, guard)
            pull = None
        file = await self.git.present_file(target, branch)
        head = ""
        if file.text != text:
            head = (await self.git.put(target, branch, text, file.sha, message, guard)).sha
        body = message.partition("\n\n")[2]
        if pull is None:
            pull = await self.git.open_pull(target, title, body, guard)
        elif not bears(pull.body, stamp):
            await self.git.change_pull(target, pull, {"title": title, "body": body}, guard)
        if not settings_of(target).merge:
            return _asked(target, pull)
        await self.git.check_alone(target, pull)
        try:
            made = await self.git.merge(target, pull, head or pull.head, title, body, guard)
        except (Refused, Conflicted) as error:
            if isinstance(error, Refused) and error.status not in (405, 422):
                raise
            raise Temporary(f"{error}; it is tried again", MERGE_AGAIN_SECONDS) from None
        return _committed(target, made)

    async def _undone(self, target: Target, file: File, image: str) -> Commit | None:
        """The last commit of the file, when taking it back is what this rollback comes to."""
        of, where = settings_of(target), where_of(target)
        commits = await self.git.commits(target, of.branch)
        if not commits or not commits[0].parent:
            return None
        before = await self.git.file(target, commits[0].parent)
        if before is None or value_at(before.text, where) != value_for(image, where):
            return None
        return commits[0]


def _words(
    target: Target, before: str, after: str, image: str, undone: Commit | None, *, undoes: bool
) -> tuple[str, str]:
    """First line and text of a commit."""
    if undone is not None:
        first = undone.message.partition("\n")[0]
        told = f"This reverts commit {undone.sha}."
        return f'Revert "{first}"', f"{told}\n\n{target.key} goes back from {before} to {after}."
    verb = "Roll back" if undoes else "Release"
    return f"{verb} {target.key} to {image}", f"It was {before}."


def _ours(action: Action) -> K8sDeploy | K8sRollback:
    if isinstance(action, K8sRollback) or (
        isinstance(action, K8sDeploy) and action.track == "stable"
    ):
        return action
    raise Permanent(
        f"{action.kind} needs weights, and a release through Git has none",
        "leave `canary:` out for services that are released by gitops, or release them by "
        "another executor (docs/executors.md)",
    )


def _committed(target: Target, commit: Commit) -> Applied:
    of = settings_of(target)
    return Applied(
        summary=f"committed {commit.sha[:12]} to {of.branch} of {of.repo} for {target.key}",
        data={"changed": True, "repo": of.repo, "commit": commit.sha},
        url=commit.url,
    )


def _asked(target: Target, pull: Pull) -> Applied:
    of = settings_of(target)
    return Applied(
        summary=f"pull request {of.repo}#{pull.number} asks for {target.key} to be changed",
        data={"changed": True, "repo": of.repo, "pull": pull.number},
        url=pull.url,
    )
