"""GitHub payloads cut down to the fields that exist in each real one."""

from __future__ import annotations

from typing import Any

HEAD = "a" * 40
BASE = "b" * 40
MERGE = "c" * 40

REPOSITORY = {"full_name": "acme/shop", "default_branch": "main"}


def user(login: str = "alice", kind: str = "User") -> dict[str, Any]:
    """An account."""
    return {"login": login, "type": kind}


def pull_request(action: str = "opened", **changes: Any) -> dict[str, Any]:
    """A `pull_request` delivery; `changes` go into the pull request."""
    return {
        "action": action,
        "number": 7,
        "pull_request": {
            "number": 7,
            "title": "Add coupons",
            "user": user(),
            "head": {"sha": HEAD, "ref": "coupons", "repo": {"full_name": "acme/shop"}},
            "base": {"sha": BASE, "ref": "main", "repo": {"full_name": "acme/shop"}},
            "merged": False,
            "merge_commit_sha": MERGE,
            "merged_by": None,
            **changes,
        },
        "repository": REPOSITORY,
        "sender": user(),
    }


def commit(*paths: str, **changes: list[str]) -> dict[str, Any]:
    """A commit of a push that modified these paths."""
    return {"id": HEAD, "added": [], "modified": list(paths), "removed": [], **changes}


def push(*commits: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A `push` delivery to the default branch."""
    return {
        "ref": "refs/heads/main",
        "before": BASE,
        "after": HEAD,
        "created": False,
        "deleted": False,
        "forced": False,
        "commits": list(commits),
        "head_commit": commits[-1] if commits else None,
        "repository": REPOSITORY,
        "sender": user(),
        **changes,
    }


def comment(body: str, **changes: Any) -> dict[str, Any]:
    """An `issue_comment` delivery on a pull request; `changes` go into the comment."""
    return {
        "action": "created",
        "issue": {"number": 7, "pull_request": {"url": "https://api.github.com/x"}},
        "comment": {
            "id": 99,
            "body": body,
            "user": user(),
            "author_association": "MEMBER",
            **changes,
        },
        "repository": REPOSITORY,
        "sender": user(),
    }
