"""What the forge's tests have in common: an action, its stamp, a guard, a hurried client."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from domain.action import GitCommentPr, action_digest
from domain.effect import Stamp
from domain.errors import LeaseLost
from tools.github_client import Pace

SECRET = "ghp_a-very-secret-token"
QUICK = Pace(reads_per_second=1000, writes_per_second=1000, timeout_seconds=0.5)
RUN = UUID("00000000-0000-4000-8000-000000000001")


def comment(body: str = "Deploying **checkout**.", marker: str = "release") -> GitCommentPr:
    return GitCommentPr(repo="acme/shop", number=7, marker=marker, body=body)


def stamp(action: GitCommentPr, step: str = "report.comment") -> Stamp:
    return Stamp(run_id=RUN, step_id=step, digest=action_digest(action), decision_id=RUN)


@dataclass
class Asked:
    """A guard that counts, and says no from the `lost_at`-th time on."""

    times: int = 0
    lost_at: int | None = None

    async def __call__(self) -> None:
        self.times += 1
        if self.lost_at is not None and self.times >= self.lost_at:
            raise LeaseLost("another worker has it")
