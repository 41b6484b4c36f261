"""The error tree. Adapters raise only the three below `AdapterError`; nothing else crosses a port.

FermataError
├── SourceError          a file a person wrote is wrong: file, line, column, hint
├── BadEvent             an event that cannot be understood (the sender's fault)
├── LeaseLost            this process no longer owns the run: stop, write nothing
└── AdapterError
    ├── Temporary        worth trying again, not before `retry_after` seconds
    ├── Permanent        trying again cannot help; says what would
    └── OutcomeUnknown   the effect may or may not have happened: read back first
"""

from __future__ import annotations


class FermataError(Exception):
    """Root of every error this project raises on purpose."""


class SourceError(FermataError):
    """A hand-written file (policy, catalogue, runbook) is wrong.

    `problems` holds one finding each: file, line and column (1-based), message, hint.
    """

    def __init__(self, problems: tuple[SourceProblem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class SourceProblem:
    """One place in a file and what is wrong there."""

    __slots__ = ("column", "file", "hint", "line", "message")

    def __init__(self, file: str, line: int, column: int, message: str, hint: str = "") -> None:
        self.file = file
        self.line = line
        self.column = column
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, str | int]:
        """For JSON."""
        return {name: getattr(self, name) for name in ("file", "line", "column", "message", "hint")}

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: {self.message}"
        return f"{place}\n    hint: {self.hint}" if self.hint else place


class BadEvent(FermataError):
    """The payload cannot be turned into an event; the message is safe to send back."""


class LeaseLost(FermataError):
    """Another process took the run over (its fencing token is higher than ours)."""


class AdapterError(FermataError):
    """What an adapter may raise. The message never carries a secret."""


class Temporary(AdapterError):
    """Nothing was changed; trying again later may work. `retry_after` is in seconds.

    `most_tries` is after how many it is no longer worth while; None: the caller knows.
    """

    def __init__(
        self, message: str, retry_after: float | None = None, *, most_tries: int | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.most_tries = most_tries


class Permanent(AdapterError):
    """Nothing was changed and trying again will not help. `remedy` says what would."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class OutcomeUnknown(AdapterError):
    """The connection was lost after the request left: the world must be read back first."""
