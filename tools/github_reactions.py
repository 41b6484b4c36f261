"""Reactions under comments on GitHub. The forge keeps one of a kind for each account."""

from __future__ import annotations

from domain.action import GitReact
from domain.effect import Applied
from tools.github_client import GitHubClient
from tools.ports import Guard

# https://docs.github.com/rest/reactions/reactions#create-reaction-for-an-issue-comment


async def react(client: GitHubClient, action: GitReact, guard: Guard) -> Applied:
    """Put the reaction there; one that is there already stays as it is."""
    await client.write(
        "POST", _path(action), repo=action.repo, guard=guard, body={"content": action.content}
    )
    return _applied(action)


async def reacted(client: GitHubClient, action: GitReact) -> Applied | None:
    """Whether our own account has put it there."""
    login = await client.login()
    items, _ = await client.pages(_path(action), repo=action.repo, most=1000)
    for item in items:
        user = item.get("user") or {}
        ours = str(user.get("login", "")).lower() == login.lower()
        if ours and item.get("content") == action.content:
            return _applied(action)
    return None


def _path(action: GitReact) -> str:
    return f"/issues/comments/{action.comment_id}/reactions"


def _applied(action: GitReact) -> Applied:
    return Applied(
        summary=f"{action.content} under comment {action.comment_id} of {action.repo}",
        data={"comment_id": action.comment_id, "content": action.content},
    )
