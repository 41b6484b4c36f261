"""The notifier without a webhook: renders what would be sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from domain.action import Action, Notify
from domain.effect import Applied, Stamp
from domain.errors import Permanent
from tools.ports import Guard
from tools.slack_message import slack_message


@dataclass
class NotifyTwin:
    """A dry run; the rendered message is kept in the effect's data, and here in order."""

    said: list[Notify] = field(default_factory=list)

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        """Render and remember; nothing leaves the house."""
        notice = _notification(action)
        await guard()
        self.said.append(notice)
        return Applied(
            summary=f"dry run: notification of {notice.channel} rendered: {notice.title}",
            data={"body": slack_message(notice)},
            simulated=True,
        )

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        """Always None, as for the real ones."""
        _notification(action)
        return None


def _notification(action: Action) -> Notify:
    if not isinstance(action, Notify):
        raise Permanent(f"a notifier cannot do {action.kind}", "see the settings in the README")
    return action
