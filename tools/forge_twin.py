"""The forge without credentials: renders what would be posted, and knows nothing of the forge."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.action import Action, GitCommentPr, GitReact
from domain.effect import Applied, Stamp
from domain.errors import Permanent
from domain.repository import RepoFile
from domain.secret import FilePatch
from tools.ports import Guard
from tools.sticky_comment import Sticky, stamp_words, understood, written


@dataclass
class ForgeTwin:
    """A dry run that keeps comments in memory and treats them by the same rules as GitHub's.

    Readers answer None (unknown) except for what is put into the tables here.
    """

    paths: dict[tuple[str, int], tuple[str, ...]] = field(default_factory=dict)
    diffs: dict[tuple[str, int], tuple[FilePatch, ...]] = field(default_factory=dict)
    heads: dict[tuple[str, int], str] = field(default_factory=dict)
    files: dict[tuple[str, str, str | None], str | None] = field(default_factory=dict)
    """By repository, path and commit; None: it is known that there is none."""
    openers: dict[tuple[str, int], str] = field(default_factory=dict)
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    roles: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    teams: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Members of each team; a team that is not in it cannot be looked up."""
    can_look: bool = False
    comments: dict[tuple[str, int, str], str] = field(default_factory=dict)
    """By repository, number and marker: the whole text as GitHub would store it."""
    reactions: set[tuple[str, int, str]] = field(default_factory=set)
    """Repository, comment and what was put under it."""

    async def changed_paths(self, repo: str, number: int) -> tuple[str, ...] | None:
        """What a test or demo has put in."""
        return self.paths.get((repo, number))

    async def patches(self, repo: str, number: int) -> tuple[FilePatch, ...] | None:
        """What a test or demo has put in."""
        return self.diffs.get((repo, number))

    async def patches_between(
        self, repo: str, base: str, head: str
    ) -> tuple[FilePatch, ...] | None:
        """Nothing is known of commits here."""
        return None

    async def head_sha(self, repo: str, number: int) -> str | None:
        """What a test or demo has put in."""
        return self.heads.get((repo, number))

    async def file_text(self, repo: str, path: str, ref: str | None) -> RepoFile | None:
        """What a test or demo has put in."""
        key = repo, path, ref
        return RepoFile(text=self.files[key]) if key in self.files else None

    async def opener(self, repo: str, number: int) -> str | None:
        """What a test or demo has put in."""
        return self.openers.get((repo, number))

    async def branch_sha(self, repo: str, branch: str) -> str | None:
        """What a test or demo has put in."""
        return self.branches.get((repo, branch))

    async def roles_of(self, repo: str, login: str) -> tuple[str, ...] | None:
        """What a test or demo has put in."""
        return self.roles.get((repo, login))

    async def teams_of(self, login: str, teams: tuple[str, ...]) -> tuple[str, ...] | None:
        """What a test or demo has put in."""
        if any(team not in self.teams for team in teams):
            return None
        return tuple(team for team in teams if login in self.teams[team])

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Render and remember; nothing leaves the house."""
        if isinstance(action, GitReact):
            await guard()
            self.reactions.add((action.repo, action.comment_id, action.content))
            return _reacted(action)
        comment = _comment_action(action)
        text = written(comment, stamp)
        await guard()
        self.comments[_place(comment)] = text
        return _rendered(comment, text)

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Whether this very action was rendered by this process."""
        if isinstance(action, GitReact):
            done = (action.repo, action.comment_id, action.content) in self.reactions
            return _reacted(action) if done else None
        comment = _comment_action(action)
        text = self.comments.get(_place(comment), "")
        sticky = understood(text)
        if sticky is None or sticky.stamp != stamp_words(stamp):
            return None
        return _rendered(comment, text)


def _reacted(action: GitReact) -> Applied:
    return Applied(
        summary=f"dry run: {action.content} under comment {action.comment_id} of {action.repo}",
        data={"content": action.content},
        simulated=True,
    )


def _comment_action(action: Action) -> GitCommentPr:
    if not isinstance(action, GitCommentPr):
        raise Permanent(f"the forge cannot do {action.kind}", "see the settings in the README")
    return action


def _place(comment: GitCommentPr) -> tuple[str, int, str]:
    return comment.repo, comment.number, comment.marker


def _rendered(comment: GitCommentPr, text: str) -> Applied:
    sticky: Sticky | None = understood(text)
    return Applied(
        summary=f"dry run: comment on {comment.repo}#{comment.number} rendered",
        data={"body": sticky.visible if sticky else text},
        simulated=True,
    )
