"""Webhook bodies as GitHub sends them, cut down to the fields that matter here."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
_IDS = itertools.count(1)


def sha_of(text: str) -> str:
    """A commit id that is always the same for the same words."""
    return hashlib.sha1(text.encode()).hexdigest()  # commit ids are SHA-1


def _repository(repo: str) -> Json:
    owner, _, name = repo.partition("/")
    return {
        "full_name": repo,
        "name": name,
        "default_branch": "main",
        "fork": False,
        "owner": {"login": owner},
    }


def merged(
    repo: str, number: int, version: str, *, author: str = "ada", merger: str = "grace"
) -> Json:
    """`pull_request`, closed and merged as commit `version`."""
    return {
        "action": "closed",
        "number": number,
        "pull_request": {
            "number": number,
            "title": f"Change {number}",
            "state": "closed",
            "merged": True,
            "merge_commit_sha": version,
            "html_url": f"https://github.com/{repo}/pull/{number}",
            "user": {"login": author, "type": "User"},
            "merged_by": {"login": merger, "type": "User"},
            "head": {"ref": f"change-{number}", "sha": sha_of(version), "repo": _repository(repo)},
            "base": {"ref": "main", "sha": sha_of(repo), "repo": _repository(repo)},
        },
        "repository": _repository(repo),
        "sender": {"login": merger, "type": "User"},
    }


def comment(
    repo: str,
    number: int,
    body: str,
    *,
    by: str,
    association: str,
    kind: str = "User",
    action: str = "created",
    id: int | None = None,
    at: datetime | None = None,
) -> Json:
    """`issue_comment` on a pull request, written now or `at`."""
    written = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "action": action,
        "issue": {"number": number, "pull_request": {"url": "https://api.github.com/x"}},
        "comment": {
            "id": next(_IDS) if id is None else id,
            "created_at": written,
            "updated_at": written,
            "body": body,
            "user": {"login": by, "type": kind},
            "author_association": association,
        },
        "repository": _repository(repo),
        "sender": {"login": by, "type": kind},
    }
