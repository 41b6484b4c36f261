"""Announcement: an override that a step rested on is told to those who own the service.

It is one more step, right after the one that rested on it, so that it passes the gate, is kept in
the ledger and is said once, like everything else that leaves the house.
"""

from __future__ import annotations

from domain.action import Notify
from domain.service import Catalogue
from domain.state import State, Update
from nodes.planning import words_step

RULE = "override.accepted"


def announced(state: State, update: Update, catalogue: Catalogue) -> Update:
    """The update of a step, with the announcement put in after it where one is due.

    One a scope: the steps that follow there rest on the same override. It is put in as soon as the
    step was carried out, since later looks at it find a target that is being changed already and
    have no more need of the override.
    """
    ruling, proposal, finding = state["ruling"], state["proposal"], update.get("finding")
    if state["mode"] != "forward" or ruling is None or proposal is None or finding is None:
        return update
    rule = next((one for one in ruling.decision.rules if one.rule == RULE), None)
    scope = proposal.step.scope
    id, steps = f"{scope}.override", state["steps"]
    if rule is None or finding.kind not in ("done", "again"):
        return update
    if any(one.id == id for one in steps):
        return update
    service = catalogue.service(scope.partition("/")[0])
    notice = Notify(
        channel=service.owners[0] if service is not None and service.owners else "releases",
        severity="warning",
        title=f"Override in {scope}",
        text=rule.reason,
    )
    after = state["cursor"] + 1
    update["steps"] = (*steps[:after], words_step(id, notice), *steps[after:])
    return update
