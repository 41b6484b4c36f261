"""The Git side of GitOps, on GitHub: the file that names the image, commits, pull requests.

A commit of ours ends with three lines that say which run and step made it and the digest of what
was decided; by them it is found again. With pull requests, each target has one branch,
`fermata/<service>-<environment>`, and at most one open pull request from it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import tenacity

from domain.effect import Stamp
from domain.errors import Permanent
from domain.service import GitOps, Target
from tools.github_client import GitHubClient
from tools.github_errors import Conflicted, Refused
from tools.image_line import Field, Kustomize, Manifest, Where
from tools.ports import Guard

CONFLICT_TRIES = 5
"""Others push to the same branch: that many conflicts in a row are not ordinary."""
LOOKED_BACK = 30
"""Commits of the file, and pull requests of the branch, among which ours are looked for."""
ENDED = "Fermata-Ended: true"
"""In a pull request that we have given up: it no longer says anything about the target."""
RUN, STEP, DIGEST = "Fermata-Run", "Fermata-Step", "Fermata-Digest"


@dataclass(frozen=True)
class File:
    """A file on a branch; `sha` is the blob's."""

    text: str
    sha: str


@dataclass(frozen=True)
class Commit:
    """A commit, with its whole message."""

    sha: str
    message: str
    url: str
    parent: str = ""


@dataclass(frozen=True)
class Pull:
    """A pull request from a target's branch."""

    number: int
    is_open: bool
    is_merged: bool
    body: str
    url: str
    head: str

    @property
    def is_pending(self) -> bool:
        """Whether what it asks for has not come about, and we have not given it up ourselves."""
        return not self.is_merged and ENDED not in self.body


def settings_of(target: Target) -> GitOps:
    """Where a target's image stands. Raises Permanent for a service that does not say."""
    found = target.workload.gitops
    if found is None:
        raise Permanent(
            f"{target.service} does not say where its image stands in Git",
            "add `gitops:` to its workload in services.yaml (docs/executors.md)",
        )
    return found


def filled(template: str, target: Target) -> str:
    """A template of the catalogue with environment and service in it."""
    return template.replace("{environment}", target.environment).replace(
        "{service}", target.service
    )


def where_of(target: Target) -> Where:
    """The place of the image in the file."""
    of = settings_of(target)
    if of.kustomize:
        return Kustomize(filled(of.kustomize, target))
    if of.field:
        return Field(of.field, is_tag=of.writes == "tag")
    return Manifest(target.workload.deployment, target.workload.container)


def branch_of(target: Target) -> str:
    """The branch that pull requests for a target come from."""
    return f"fermata/{target.service}-{target.environment}"


def trailers(stamp: Stamp) -> str:
    """The last lines of a commit's message, or of a pull request's text."""
    return f"{RUN}: {stamp.run_id}\n{STEP}: {stamp.step_id}\n{DIGEST}: {stamp.digest}"


def bears(message: str, stamp: Stamp) -> bool:
    """Whether a message carries this very stamp, whatever a merge has put around it."""
    lines = {line.strip() for line in message.splitlines()}
    return set(trailers(stamp).splitlines()) <= lines


@dataclass(frozen=True)
class GitSide:
    """Reads and writes of one GitHub connection, in a target's terms."""

    client: GitHubClient

    async def file(self, target: Target, ref: str) -> File | None:
        """The target's file at a branch or commit; None when it is not there."""
        of = settings_of(target)
        path = quote(filled(of.file, target))
        try:
            told = await self.client.get(f"/contents/{path}", repo=of.repo, params={"ref": ref})
        except Refused as error:
            if error.status == 404:
                return None
            raise
        if not isinstance(told, dict) or told.get("encoding") != "base64":
            raise Permanent(
                f"{of.repo}/{filled(of.file, target)} is not a text file of at most 1 MB",
                "correct `file` under `gitops:` in services.yaml",
            )
        try:
            text = base64.b64decode(str(told.get("content"))).decode("utf-8")
        except ValueError:
            raise Permanent(
                f"{of.repo}/{filled(of.file, target)} is not UTF-8", "correct the file"
            ) from None
        return File(text, str(told.get("sha")))

    async def present_file(self, target: Target, ref: str) -> File:
        """The file; raises Permanent when it is not there."""
        found = await self.file(target, ref)
        if found is not None:
            return found
        of = settings_of(target)
        raise Permanent(
            f"{of.repo} has no {filled(of.file, target)} on {ref}, or it cannot be seen",
            "correct repo, branch and file under `gitops:` in services.yaml, and let the token or "
            "App read and write contents there",
        )

    async def put(
        self, target: Target, branch: str, text: str, sha: str, message: str, guard: Guard
    ) -> Commit:
        """Commit the file. Raises `Conflicted` unless the file still is the blob `sha`."""
        of = settings_of(target)
        told = await self.client.write(
            "PUT",
            f"/contents/{quote(filled(of.file, target))}",
            repo=of.repo,
            guard=guard,
            body={
                "message": message,
                "content": base64.b64encode(text.encode()).decode(),
                "sha": sha,
                "branch": branch,
            },
        )
        made = told.get("commit") if isinstance(told, dict) else None
        made = made if isinstance(made, dict) else {}
        return Commit(str(made.get("sha") or ""), message, str(made.get("html_url") or ""))

    async def commits(self, target: Target, branch: str) -> list[Commit]:
        """The latest commits that touched the file, newest first."""
        of = settings_of(target)
        told = await self.client.get(
            "/commits",
            repo=of.repo,
            params={"sha": branch, "path": filled(of.file, target), "per_page": LOOKED_BACK},
        )
        return [_commit(one) for one in told if isinstance(one, dict)] if told else []

    # --- pull requests ---

    async def latest_pull(self, target: Target) -> Pull | None:
        """The newest pull request from the target's branch, open or not."""
        of = settings_of(target)
        owner = of.repo.partition("/")[0]
        told = await self.client.get(
            "/pulls",
            repo=of.repo,
            params={
                "head": f"{owner}:{branch_of(target)}",
                "base": of.branch,
                "state": "all",
                "sort": "created",
                "direction": "desc",
                "per_page": 1,
            },
        )
        return _pull(told[0]) if isinstance(told, list) and told else None

    async def branch_at_base(self, target: Target, guard: Guard) -> None:
        """Let the target's branch begin where the base branch stands now."""
        of, name = settings_of(target), branch_of(target)
        base = await self._branch_sha(of, of.branch)
        if base is None:
            raise Permanent(
                f"{of.repo} has no branch {of.branch}",
                "correct `branch` under `gitops:` in services.yaml",
            )
        if await self._branch_sha(of, name) is None:
            made = {"ref": f"refs/heads/{name}", "sha": base}
            await self.client.write("POST", "/git/refs", repo=of.repo, guard=guard, body=made)
        else:
            moved = {"sha": base, "force": True}
            path = f"/git/refs/heads/{quote(name)}"
            await self.client.write("PATCH", path, repo=of.repo, guard=guard, body=moved)

    async def _branch_sha(self, of: GitOps, name: str) -> str | None:
        try:
            told = await self.client.get(f"/branches/{quote(name, safe='')}", repo=of.repo)
        except Refused as error:
            if error.status == 404:
                return None
            raise
        commit = told.get("commit") if isinstance(told, dict) else None
        return str(commit["sha"]) if isinstance(commit, dict) and "sha" in commit else None

    async def open_pull(self, target: Target, title: str, body: str, guard: Guard) -> Pull:
        """Ask for the target's branch to be merged."""
        of = settings_of(target)
        asked = {"title": title, "head": branch_of(target), "base": of.branch, "body": body}
        told = await self.client.write("POST", "/pulls", repo=of.repo, guard=guard, body=asked)
        if not isinstance(told, dict):
            raise Permanent("GitHub's answer names no pull request", "check GITHUB_API_URL")
        return _pull(told)

    async def check_alone(self, target: Target, pull: Pull) -> None:
        """Raises Permanent when a pull request of ours changes more than the target's file."""
        of = settings_of(target)
        listed, _ = await self.client.pages(f"/pulls/{pull.number}/files", repo=of.repo, most=100)
        found = {str(one.get("filename")) for one in listed} - {filled(of.file, target)}
        if found:
            others = ", ".join(sorted(found))[:200]
            raise Permanent(
                f"pull request {of.repo}#{pull.number} changes {others} as well: somebody else has "
                f"pushed to {branch_of(target)}",
                "close it and delete its branch, then retry, or merge it by hand",
            )

    async def merge(
        self, target: Target, pull: Pull, head: str, title: str, body: str, guard: Guard
    ) -> Commit:
        """Merge exactly `head` of a pull request, as one commit with this message."""
        of = settings_of(target)
        asked = {
            "sha": head,
            "merge_method": "squash",
            "commit_title": f"{title} (#{pull.number})",
            "commit_message": body,
        }
        path = f"/pulls/{pull.number}/merge"
        told = await self.client.write("PUT", path, repo=of.repo, guard=guard, body=asked)
        return Commit(str(told.get("sha") or "") if isinstance(told, dict) else "", body, pull.url)

    async def change_pull(
        self, target: Target, pull: Pull, change: dict[str, Any], guard: Guard
    ) -> None:
        """Change title, text or state of a pull request."""
        of = settings_of(target)
        path = f"/pulls/{pull.number}"
        await self.client.write("PATCH", path, repo=of.repo, guard=guard, body=change)


async def until_unconflicted(once: Any) -> Any:
    """Call anew while others' pushes come in between. Raises Temporary when it does not end."""
    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Conflicted),
        stop=tenacity.stop_after_attempt(CONFLICT_TRIES),
        wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
        reraise=True,
    ):
        with attempt:
            result = await once()
    return result


def _commit(told: dict[str, Any]) -> Commit:
    parents = told.get("parents") or [{}]
    return Commit(
        sha=str(told.get("sha") or ""),
        message=str((told.get("commit") or {}).get("message") or ""),
        url=str(told.get("html_url") or ""),
        parent=str(parents[0].get("sha") or ""),
    )


def _pull(told: dict[str, Any]) -> Pull:
    return Pull(
        number=int(told.get("number") or 0),
        is_open=told.get("state") == "open",
        is_merged=bool(told.get("merged_at")),
        body=str(told.get("body") or ""),
        url=str(told.get("html_url") or ""),
        head=str((told.get("head") or {}).get("sha") or ""),
    )
