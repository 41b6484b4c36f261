"""The slash commands in words: how each is written, what it does, and who may give it."""

from __future__ import annotations

from typing import Literal

from domain.event import CommandName, Frozen

Group = Literal["answer", "command", "override", "everyone"]
"""`answer`: the roles that the question names. `command`: the roles that may begin and steer
changes. `override`: the roles that policy names for it."""


class Usage(Frozen):
    """One command. `form` is what follows its name: capitals are words to fill in, brackets may
    be left out, `…` goes on to the end of the line."""

    name: CommandName
    form: str
    does: str
    group: Group

    @property
    def usage(self) -> str:
        """The whole line, as it is written."""
        return f"/{self.name.value} {self.form}".rstrip()


USAGES: tuple[Usage, ...] = (
    Usage(
        name=CommandName.APPROVE,
        form="[RUN|DIGEST] [REASON…]",
        does="says yes to the pending question",
        group="answer",
    ),
    Usage(
        name=CommandName.REJECT,
        form="[RUN|DIGEST] [REASON…]",
        does="says no; what has begun goes back",
        group="answer",
    ),
    Usage(
        name=CommandName.DEPLOY,
        form="SERVICE ENVIRONMENT [COMMIT]",
        does="releases a commit (the pull request's head) to one environment",
        group="command",
    ),
    Usage(
        name=CommandName.ROLLBACK,
        form="SERVICE ENVIRONMENT [REASON…]",
        does="goes back to the last known good version",
        group="command",
    ),
    Usage(
        name=CommandName.HOLD,
        form="[RUN] [REASON…]",
        does="keeps a run where it is",
        group="command",
    ),
    Usage(
        name=CommandName.RESUME,
        form="[RUN] [REASON…]",
        does="lets a held run go on",
        group="command",
    ),
    Usage(
        name=CommandName.CANCEL,
        form="[RUN] [REASON…]",
        does="ends a run; what has begun goes back",
        group="command",
    ),
    Usage(
        name=CommandName.RETRY,
        form="[RUN] [REASON…]",
        does="begins a change anew that was denied, failed or went back",
        group="command",
    ),
    Usage(
        name=CommandName.UNLOCK,
        form="SERVICE ENVIRONMENT [REASON…]",
        does="frees a lock from a run that nobody advances; with authority, cancels a live one",
        group="command",
    ),
    Usage(
        name=CommandName.OVERRIDE,
        form="[RUN] REASON…",
        does="lifts a change window for this change, for a limited time",
        group="override",
    ),
    Usage(
        name=CommandName.EXPLAIN,
        form="[RUN]",
        does="answers with the last decision and every rule that matched",
        group="command",
    ),
    Usage(
        name=CommandName.HELP,
        form="",
        does="answers with this list, and what you may do",
        group="everyone",
    ),
)
