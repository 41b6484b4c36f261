"""GitHub with Git behind it: contents, commits, refs and pull requests, as the REST API shows them.

After https://docs.github.com/en/rest (version 2022-11-28). Commits are whole trees of text files.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.github import NOT_FOUND, GitHubServer, Repo, _json


@dataclass(frozen=True)
class Snapshot:
    """A commit."""

    sha: str
    parent: str
    message: str
    files: dict[str, str]


@dataclass
class Request:
    """A pull request between two branches of the repository."""

    number: int
    head: str
    base: str
    title: str
    body: str
    state: str = "open"
    merged_at: str | None = None


@dataclass
class GitRepo(Repo):
    """A repository with history; `branches` name its heads."""

    commits: dict[str, Snapshot] = field(default_factory=dict)
    requests: dict[int, Request] = field(default_factory=dict)

    def commit(self, branch: str, changes: dict[str, str], message: str) -> str:
        """Somebody pushes a commit."""
        parent = self.branches.get(branch, "")
        files = {**(self.commits[parent].files if parent else {}), **changes}
        salt = f"{parent}\n{message}\n{sorted(files.items())}"
        sha = hashlib.sha1(salt.encode()).hexdigest()
        self.commits[sha] = Snapshot(sha, parent, message, files)
        self.branches[branch] = sha
        return sha

    def log(self, branch: str) -> list[Snapshot]:
        """The commits of a branch, newest first."""
        found, sha = [], self.branches.get(branch, branch)
        while sha in self.commits:
            found.append(self.commits[sha])
            sha = self.commits[sha].parent
        return found

    def merge(self, number: int, message: str = "") -> None:
        """A pull request is merged, squashed: its title and text become the message."""
        asked = self.requests[number]
        files = self.commits[self.branches[asked.head]].files
        self.commit(asked.base, files, message or f"{asked.title} (#{number})\n\n{asked.body}")
        asked.state, asked.merged_at = "closed", "2026-01-05T10:00:00Z"

    def files_at(self, ref: str) -> dict[str, str] | None:
        """The tree of a branch or commit."""
        found = self.commits.get(self.branches.get(ref, ref))
        return found.files if found else None


class GitHubGitServer(GitHubServer):
    """A GitHub whose repositories are `GitRepo`s."""

    def __init__(self, *, token: str = "ghp_local") -> None:
        super().__init__(token=token)
        self._numbers = itertools.count(1)

    def _of_repo(
        self, request: web.Request, repo: Repo, path: str, body: Any, who: str
    ) -> web.Response:
        assert isinstance(repo, GitRepo)
        for method, pattern, handler in (
            ("GET", r"/contents/(.+)", self._file_at),
            ("PUT", r"/contents/(.+)", self._put),
            ("GET", r"/commits()", self._commits),
            ("POST", r"/git/refs()", self._new_ref),
            ("PATCH", r"/git/refs/heads/(.+)", self._move_ref),
            ("GET", r"/pulls()", self._pulls),
            ("POST", r"/pulls()", self._new_pull),
            ("PATCH", r"/pulls/(\d+)", self._change_pull),
            ("PUT", r"/pulls/(\d+)/merge", self._merge),
            ("GET", r"/pulls/(\d+)/files", self._changed),
        ):
            found = re.fullmatch(pattern, path)
            if found and request.method == method:
                return handler(request, repo, found[1], body)
        return super()._of_repo(request, repo, path, body, who)

    def _file_at(self, request: web.Request, repo: GitRepo, path: str, body: Any) -> web.Response:
        files = repo.files_at(request.query.get("ref", "main"))
        if files is None or path not in files:
            return _json(NOT_FOUND, 404)
        content = base64.encodebytes(files[path].encode()).decode()
        told = {"type": "file", "encoding": "base64", "content": content, "path": path}
        return _json({**told, "sha": blob(files[path])})

    def _put(self, request: web.Request, repo: GitRepo, path: str, body: Any) -> web.Response:
        self._fields(request, body, {"message", "content", "sha", "branch"})
        files = repo.files_at(body["branch"])
        if body["branch"] not in repo.branches or files is None:
            return _json({**NOT_FOUND, "message": f"Branch {body['branch']} not found"}, 404)
        if body["sha"] != blob(files.get(path, "")):
            return _json({"message": f"{path} does not match {body['sha']}"}, 409)
        text = base64.b64decode(body["content"], validate=True).decode()
        sha = repo.commit(body["branch"], {path: text}, body["message"])
        return _json({"content": {"path": path}, "commit": {"sha": sha, "html_url": _url(sha)}})

    def _commits(self, request: web.Request, repo: GitRepo, _: str, body: Any) -> web.Response:
        path, size = request.query.get("path", ""), int(request.query.get("per_page", 30))
        touching = [
            one
            for one in repo.log(request.query["sha"])
            if one.files.get(path) != getattr(repo.commits.get(one.parent), "files", {}).get(path)
        ]
        return _json(
            [
                {
                    "sha": one.sha,
                    "html_url": _url(one.sha),
                    "commit": {"message": one.message},
                    "parents": [{"sha": one.parent}] if one.parent else [],
                }
                for one in touching[:size]
            ]
        )

    def _new_ref(self, request: web.Request, repo: GitRepo, _: str, body: Any) -> web.Response:
        self._fields(request, body, {"ref", "sha"})
        name = body["ref"].removeprefix("refs/heads/")
        if name in repo.branches or name == body["ref"]:
            return _json({"message": "Reference already exists"}, 422)
        repo.branches[name] = body["sha"]
        return _json({"ref": body["ref"], "object": {"sha": body["sha"]}}, 201)

    def _move_ref(self, request: web.Request, repo: GitRepo, name: str, body: Any) -> web.Response:
        self._fields(request, body, {"sha", "force"})
        if name not in repo.branches:
            return _json({"message": "Reference does not exist"}, 422)
        if any(one.head == name and one.state == "open" for one in repo.requests.values()):
            self.wrong(f"{name} was moved under an open pull request, which GitHub closes then")
        repo.branches[name] = body["sha"]
        return _json({"ref": f"refs/heads/{name}", "object": {"sha": body["sha"]}})

    def _pulls(self, request: web.Request, repo: GitRepo, _: str, body: Any) -> web.Response:
        head = request.query["head"].partition(":")[2]
        found = [
            one
            for one in repo.requests.values()
            if one.head == head
            and one.base == request.query["base"]
            and request.query["state"] in ("all", one.state)
        ]
        found.sort(key=lambda one: one.number, reverse=request.query["direction"] == "desc")
        return self._paged(request, [_asked(repo, one) for one in found])

    def _new_pull(self, request: web.Request, repo: GitRepo, _: str, body: Any) -> web.Response:
        self._fields(request, body, {"title", "head", "base", "body"})
        for one in repo.requests.values():
            if one.head == body["head"] and one.state == "open":
                return _json({"message": "A pull request already exists"}, 422)
        if repo.branches.get(body["head"]) in (None, repo.branches.get(body["base"])):
            return _json({"message": "Validation Failed: no commits between them"}, 422)
        number = next(self._numbers)
        repo.requests[number] = Request(
            number, body["head"], body["base"], body["title"], body["body"]
        )
        return _json(_asked(repo, repo.requests[number]), 201)

    def _change_pull(
        self, request: web.Request, repo: GitRepo, number: str, body: Any
    ) -> web.Response:
        asked = repo.requests[int(number)]
        if set(body) - {"title", "body", "state"}:
            self.wrong(f"PATCH {request.path}: unknown fields")
        if asked.merged_at and body.get("state") == "closed":
            return _json({"message": "Validation Failed: already merged"}, 422)
        for key, value in body.items():
            setattr(asked, key, value)
        return _json(_asked(repo, asked))

    def _changed(self, request: web.Request, repo: GitRepo, number: str, body: Any) -> web.Response:
        asked = repo.requests.get(int(number))
        if asked is None:
            return self._files(request, repo, number, body, "")
        known = {one.sha for one in repo.log(asked.base)}
        before = next(one.files for one in repo.log(asked.head) if one.sha in known)
        after = repo.commits[repo.branches[asked.head]].files
        names = [name for name in after if after[name] != before.get(name)]
        return self._paged(request, [{"filename": name, "status": "modified"} for name in names])

    def _merge(self, request: web.Request, repo: GitRepo, number: str, body: Any) -> web.Response:
        self._fields(request, body, {"sha", "merge_method", "commit_title", "commit_message"})
        asked = repo.requests[int(number)]
        if body["sha"] != repo.branches[asked.head]:
            return _json(
                {"message": "Head branch was modified. Review and try the merge again."}, 409
            )
        if asked.state != "open":
            return _json({"message": "Pull Request is not mergeable"}, 405)
        repo.merge(int(number), f"{body['commit_title']}\n\n{body['commit_message']}")
        return _json({"sha": repo.branches[asked.base], "merged": True, "message": "merged"})

    def _fields(self, request: web.Request, body: Any, wanted: set[str]) -> None:
        if not isinstance(body, dict) or set(body) != wanted:
            self.wrong(f"{request.method} {request.path}: the fields are not {sorted(wanted)}")


def blob(text: str) -> str:
    """Git's own name for a file's content."""
    data = text.encode()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _url(sha: str) -> str:
    return f"https://forge.example/commit/{sha}"


def _asked(repo: GitRepo, one: Request) -> dict[str, Any]:
    return {
        "number": one.number,
        "state": one.state,
        "title": one.title,
        "body": one.body,
        "merged_at": one.merged_at,
        "html_url": f"https://forge.example/pull/{one.number}",
        "head": {"ref": one.head, "sha": repo.branches.get(one.head)},
        "base": {"ref": one.base},
    }
