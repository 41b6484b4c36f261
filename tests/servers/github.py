"""The part of GitHub's REST API that the forge uses, on loopback, checked against its shape.

After https://docs.github.com/en/rest (version 2022-11-28): issue comments, pulls and their files,
branches, collaborator permission, Apps and their installations, the authenticated user; and the
`viewer` of GraphQL. Lists are paged with `per_page` and `Link`; GET answers carry an ETag.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from aiohttp import web

from tests.servers.local import LocalServer

VERSIONS = {"2022-11-28", "2026-03-10"}
MAX_BODY = 65_536
REACTIONS = {"+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"}
MAX_LISTED_FILES = 3000
NOT_FOUND = {
    "message": "Not Found",
    "documentation_url": "https://docs.github.com/rest",
    "status": "404",
}


@dataclass
class Comment:
    """One comment of the conversation."""

    id: int
    login: str
    body: str
    reactions: list[tuple[str, str]] = field(default_factory=list)
    """(login, content) of each."""


@dataclass
class Pull:
    """A pull request. `files` are (name, previous name or None), `patches` diffs by name."""

    head: str = "a" * 40
    files: list[tuple[str, str | None]] = field(default_factory=list)
    patches: dict[str, str] = field(default_factory=dict)
    comments: list[Comment] = field(default_factory=list)
    counted: int | None = None
    opener: str = "ada"
    locked: bool = False


@dataclass
class Repo:
    """A repository that the token can see. `permissions`: login to (permission, role_name)."""

    pulls: dict[int, Pull] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    every_commit: bool = False
    """Whether any commit that is asked for is there; none has a file in it."""
    permissions: dict[str, tuple[str, str]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes | list[str]]] = field(default_factory=dict)
    """Contents by commit and path, `HEAD` for the default branch; a list: names in a folder."""


class GitHubServer(LocalServer):
    """GitHub with one token, and an App when `app_id` and `app_public_key` (PEM) are given."""

    def __init__(
        self, *, token: str = "ghp_local", app_id: str = "", app_public_key: str = ""
    ) -> None:
        super().__init__()
        self.token = token
        self.login = "fermata-bot"
        self.actions_token = False
        """Whether the token is one that may not read /user, as in GitHub Actions."""
        self.app_id, self.app_public_key = app_id, app_public_key
        self.app_slug = "fermata"
        self.installation_tokens: dict[str, int] = {}
        self.repos: dict[str, Repo] = {}
        self.teams: dict[str, dict[str, str]] = {}
        """Members of `organisation/team`, each `active` or `pending`."""
        self.not_modified = 0
        self._ids = itertools.count(1001)

    def add_comment(self, repo: str, number: int, login: str, body: str) -> Comment:
        """Someone comments."""
        comment = Comment(next(self._ids), login, body)
        self.repos[repo].pulls[number].comments.append(comment)
        return comment

    async def handle(self, request: web.Request, body: Any) -> web.Response:
        self._check_headers(request, body)
        who = self._who(request)
        if who is None:
            return _json({"message": "Bad credentials", "status": "401"}, 401)
        answer = self._route(request, body, who)
        return self._conditional(request, answer)

    # --- shape -----------------------------------------------------------------------------------

    def _check_headers(self, request: web.Request, body: Any) -> None:
        where = f"{request.method} {request.path}"
        if not request.headers.get("User-Agent"):
            self.wrong(f"{where}: no User-Agent, GitHub answers 403")
        if "application/vnd.github+json" not in request.headers.get("Accept", ""):
            self.wrong(f"{where}: Accept is {request.headers.get('Accept')!r}")
        plain = not request.path.endswith(("/access_tokens", "/graphql"))
        if plain and request.headers.get("X-GitHub-Api-Version") not in VERSIONS:
            self.wrong(f"{where}: X-GitHub-Api-Version is missing or unknown")
        typed = request.headers.get("Content-Type", "").startswith("application/json")
        if body is not None and not typed:
            self.wrong(f"{where}: a body that is not application/json")
        if request.method in ("GET", "DELETE") and body is not None:
            self.wrong(f"{where}: has a body")

    def _who(self, request: web.Request) -> str | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            return None
        if secrets.compare_digest(secret, self.token):
            return self.login
        if secret in self.installation_tokens:
            return f"{self.app_slug}[bot]"
        return "app" if self._is_app(secret) else None

    def _is_app(self, secret: str) -> bool:
        if not self.app_public_key:
            return False
        try:
            claims = jwt.decode(
                secret,
                self.app_public_key,
                algorithms=["RS256"],
                options={"require": ["iat", "exp", "iss"]},
            )
        except jwt.PyJWTError:
            return False
        lasts = claims["exp"] - claims["iat"]
        if lasts > 600:
            self.wrong(f"an App's token of {lasts} s, GitHub allows 600")
        return str(claims["iss"]) == self.app_id

    # --- routes ----------------------------------------------------------------------------------

    def _route(self, request: web.Request, body: Any, who: str) -> web.Response:
        method, path = request.method, request.path
        if (method, path) == ("POST", "/graphql"):
            return self._viewer(body, who)
        if (method, path) == ("GET", "/user"):
            refused = self.actions_token or who.endswith("[bot]")
            if refused:
                return _json({"message": "Resource not accessible by integration"}, 403)
            return _json({"login": self.login, "id": 1, "type": "User"})
        if (method, path) == ("GET", "/app") and who == "app":
            return _json({"id": int(self.app_id), "slug": self.app_slug})
        token_for = re.fullmatch(r"/app/installations/(\d+)/access_tokens", path)
        if method == "POST" and token_for and who == "app":
            return self._installation_token(int(token_for[1]))
        member = re.fullmatch(r"/orgs/([^/]+)/teams/([^/]+)/memberships/([^/]+)", path)
        if method == "GET" and member and who != "app":
            return self._membership(f"{member[1]}/{member[2]}", member[3])
        if method == "GET" and re.fullmatch(r"/orgs/[^/]+/installation", path) and who == "app":
            return _json({"id": 77, "app_slug": self.app_slug})
        below = re.fullmatch(r"/repos/([^/]+/[^/]+)(/.*)?", path)
        repo = self.repos.get(below[1]) if below else None
        if below is None or repo is None:
            return _json(NOT_FOUND, 404)
        if (method, below[2]) == ("GET", "/installation") and who == "app":
            return _json({"id": 77, "app_slug": self.app_slug})
        if who == "app":
            return _json({"message": "A JSON web token could not be decoded"}, 401)
        return self._of_repo(request, repo, below[2] or "", body, who)

    def _of_repo(
        self, request: web.Request, repo: Repo, path: str, body: Any, who: str
    ) -> web.Response:
        for method, pattern, handler in (
            ("GET", r"/issues/(\d+)/comments", self._list_comments),
            ("POST", r"/issues/(\d+)/comments", self._create_comment),
            ("PATCH", r"/issues/comments/(\d+)", self._update_comment),
            ("DELETE", r"/issues/comments/(\d+)", self._delete_comment),
            ("GET", r"/issues/comments/(\d+)/reactions", self._list_reactions),
            ("POST", r"/issues/comments/(\d+)/reactions", self._react),
            ("GET", r"/pulls/(\d+)", self._pull),
            ("GET", r"/pulls/(\d+)/files", self._files),
            ("GET", r"/compare/(.+\.\.\..+)", self._compare),
            ("GET", r"/branches/(.+)", self._branch),
            ("GET", r"/contents/(.+)", self._contents),
            ("GET", r"/commits/(.+)", self._commit),
            ("GET", r"/collaborators/([^/]+)/permission", self._permission),
        ):
            found = re.fullmatch(pattern, path)
            if found and request.method == method:
                return handler(request, repo, found[1], body, who)
        self.wrong(f"{request.method} {request.path}: no such endpoint")
        return _json(NOT_FOUND, 404)

    def _list_comments(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        pull = repo.pulls.get(int(number))
        if pull is None:
            return _json(NOT_FOUND, 404)
        return self._paged(request, [_comment(one) for one in pull.comments])

    def _create_comment(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        pull = repo.pulls.get(int(number))
        if pull is None:
            return _json(NOT_FOUND, 404)
        if pull.locked:
            return _json({"message": "Unable to create comment because issue is locked."}, 403)
        refused = self._refused(request, body)
        if refused is not None:
            return refused
        comment = Comment(next(self._ids), who, body["body"])
        pull.comments.append(comment)
        return _json(_comment(comment), 201)

    def _update_comment(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        comment = _find(repo, int(number))
        if comment is None:
            return _json(NOT_FOUND, 404)
        if comment.login != who:
            self.wrong(f"comment {number} of {comment.login} was edited by {who}")
        refused = self._refused(request, body)
        if refused is not None:
            return refused
        comment.body = body["body"]
        return _json(_comment(comment))

    def _list_reactions(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        comment = _find(repo, int(number))
        if comment is None:
            return _json(NOT_FOUND, 404)
        return self._paged(
            request,
            [
                {"content": content, "user": {"login": login}}
                for login, content in comment.reactions
            ],
        )

    def _react(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        comment = _find(repo, int(number))
        if comment is None:
            return _json(NOT_FOUND, 404)
        content = body.get("content") if isinstance(body, dict) else None
        if content not in REACTIONS or set(body) != {"content"}:
            self.wrong(f"POST {request.path}: {body!r} is not a reaction")
            return _json({"message": "Validation Failed"}, 422)
        there = (who, content) in comment.reactions
        if not there:
            comment.reactions.append((who, content))
        return _json({"content": content, "user": {"login": who}}, 200 if there else 201)

    def _delete_comment(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        comment = _find(repo, int(number))
        if comment is None:
            return _json(NOT_FOUND, 404)
        if comment.login != who:
            self.wrong(f"comment {number} of {comment.login} was deleted by {who}")
        for pull in repo.pulls.values():
            pull.comments = [one for one in pull.comments if one.id != comment.id]
        return web.Response(status=204)

    def _refused(self, request: web.Request, body: Any) -> web.Response | None:
        if not isinstance(body, dict) or set(body) != {"body"} or not isinstance(body["body"], str):
            self.wrong(f"{request.method} {request.path}: the fields are not exactly `body`")
            return _json({"message": "Invalid request."}, 422)
        if not body["body"].strip() or len(body["body"]) > MAX_BODY:
            told = f"body is too long (maximum is {MAX_BODY} characters)"
            error = {"resource": "IssueComment", "field": "body", "code": "custom", "message": told}
            return _json({"message": "Validation Failed", "errors": [error]}, 422)
        return None

    def _pull(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        pull = repo.pulls.get(int(number))
        if pull is None:
            return _json(NOT_FOUND, 404)
        counted = len(pull.files) if pull.counted is None else pull.counted
        return _json(
            {
                "number": int(number),
                "head": {"sha": pull.head},
                "user": {"login": pull.opener, "type": "User"},
                "changed_files": counted,
            }
        )

    def _files(
        self, request: web.Request, repo: Repo, number: str, body: Any, who: str
    ) -> web.Response:
        pull = repo.pulls.get(int(number))
        if pull is None:
            return _json(NOT_FOUND, 404)
        return self._paged(
            request, [_file(one, pull.patches) for one in pull.files[:MAX_LISTED_FILES]]
        )

    def _compare(
        self, request: web.Request, repo: Repo, span: str, body: Any, who: str
    ) -> web.Response:
        pull = next((one for one in repo.pulls.values() if span.endswith(f"...{one.head}")), None)
        if pull is None:
            return _json(NOT_FOUND, 404)
        return _json({"files": [_file(one, pull.patches) for one in pull.files[:300]]})

    def _branch(
        self, request: web.Request, repo: Repo, name: str, body: Any, who: str
    ) -> web.Response:
        sha = repo.branches.get(name)
        if sha is None:
            return _json({**NOT_FOUND, "message": "Branch not found"}, 404)
        return _json({"name": name, "commit": {"sha": sha}})

    def _contents(
        self, request: web.Request, repo: Repo, path: str, body: Any, who: str
    ) -> web.Response:
        ref = request.query.get("ref", "HEAD")
        if ref not in repo.files:
            return _json({**NOT_FOUND, "message": f"No commit found for the ref {ref}"}, 404)
        data = repo.files[ref].get(path)
        if data is None:
            return _json(NOT_FOUND, 404)
        if isinstance(data, list):
            return _json([{"type": "file", "path": f"{path}/{one}"} for one in data])
        told = {"type": "file", "encoding": "base64", "path": path, "sha": "e" * 40}
        return _json({**told, "content": base64.encodebytes(data).decode()})

    def _commit(
        self, request: web.Request, repo: Repo, ref: str, body: Any, who: str
    ) -> web.Response:
        if ref not in repo.files and not repo.every_commit:
            return _json({"message": f"No commit found for SHA: {ref}"}, 422)
        return _json({"sha": "a" * 40 if ref == "HEAD" else ref})

    def _permission(
        self, request: web.Request, repo: Repo, login: str, body: Any, who: str
    ) -> web.Response:
        permission, role = repo.permissions.get(login, ("none", "none"))
        return _json({"permission": permission, "role_name": role, "user": {"login": login}})

    def _membership(self, team: str, login: str) -> web.Response:
        state = self.teams.get(team.lower(), {}).get(login)
        if state is None:
            return _json(NOT_FOUND, 404)
        return _json({"url": f"{self.url}/x", "role": "member", "state": state})

    # --- Apps and GraphQL ------------------------------------------------------------------------

    def _installation_token(self, number: int) -> web.Response:
        token = f"ghs_{secrets.token_hex(12)}"
        self.installation_tokens[token] = number
        expires = datetime.now(UTC) + timedelta(hours=1)
        return _json(
            {
                "token": token,
                "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "permissions": {"issues": "write", "pull_requests": "write"},
                "repository_selection": "all",
            },
            201,
        )

    def _viewer(self, body: Any, who: str) -> web.Response:
        if not isinstance(body, dict) or "viewer" not in str(body.get("query")):
            self.wrong("POST /graphql: not the query for the viewer")
        return _json({"data": {"viewer": {"login": who}}})

    # --- lists and conditional requests ----------------------------------------------------------

    def _paged(self, request: web.Request, items: list[dict[str, Any]]) -> web.Response:
        size, page = int(request.query.get("per_page", 30)), int(request.query.get("page", 1))
        if not 1 <= size <= 100 or page < 1:
            self.wrong(f"{request.path}: per_page={size}, page={page}")
        part = items[(page - 1) * size : page * size]
        answer = _json(part)
        if page * size < len(items):
            url = request.url.update_query(page=page + 1)
            answer.headers["Link"] = f'<{url}>; rel="next"'
        return answer

    def _conditional(self, request: web.Request, answer: web.Response) -> web.Response:
        answer.headers["x-ratelimit-limit"] = "5000"
        answer.headers["x-ratelimit-remaining"] = "4990"
        if request.method != "GET" or answer.status != 200 or not isinstance(answer.body, bytes):
            return answer
        tag = f'W/"{hashlib.sha256(answer.body).hexdigest()}"'
        headers = {
            "ETag": tag,
            "Cache-Control": "private, max-age=60, s-maxage=60",
            "Vary": "Accept, Authorization, Cookie, X-GitHub-OTP",
        }
        if request.headers.get("If-None-Match") == tag:
            self.not_modified += 1
            return web.Response(status=304, headers=headers)
        answer.headers.update(headers)
        return answer


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=json.dumps(content).encode(),
        status=status,
        content_type="application/json",
        charset="utf-8",
    )


def _comment(one: Comment) -> dict[str, Any]:
    return {
        "id": one.id,
        "body": one.body,
        "user": {"login": one.login},
        "html_url": f"https://forge.example/comment/{one.id}",
    }


def _file(one: tuple[str, str | None], patches: dict[str, str]) -> dict[str, Any]:
    name, previous = one
    plain = {"filename": name, "status": "renamed" if previous else "modified", "additions": 0}
    if name in patches:
        plain |= {"patch": patches[name], "additions": patches[name].count("\n+")}
    return {**plain, "previous_filename": previous} if previous else plain


def _find(repo: Repo, number: int) -> Comment | None:
    return next(
        (one for pull in repo.pulls.values() for one in pull.comments if one.id == number), None
    )
