"""The laws, row by row: each row is held against everything that was recorded before it.

Each check raises `Broken` with the row at which a law was broken, in the order of the record. Rows
that were carried over from before the record existed are only asked for what was known then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.audit import Broken
from policy.proof.ballot import Ballot, settled_by
from policy.proof.chain import Row
from policy.proof.tables import Mirror
from policy.votes import is_bot

MAY_BECOME = {
    "pending": {"approval.granted", "approval.rejected", "approval.expired", "approval.dismissed"},
    "approved": {"approval.spent", "approval.dismissed", "approval.expired"},
}
"""What may become of a request, by its state; other states are final."""
STATE_OF = {
    "approval.granted": "approved",
    "approval.rejected": "rejected",
    "approval.expired": "expired",
    "approval.dismissed": "dismissed",
    "approval.spent": "spent",
}


@dataclass
class Effect:
    """An effect as its rows so far tell it."""

    id: str
    state: str
    tries: int


@dataclass
class Course:
    """What has been recorded of one run."""

    change: str | None = None
    plans: set[str] = field(default_factory=set)
    plan: str | None = None
    fence: int = 0
    decisions: dict[str, Row] = field(default_factory=dict)
    number: int = 0
    effects: dict[tuple[str, str], Effect] = field(default_factory=dict)


@dataclass
class Laws:
    """Takes proven rows in order; raises `Broken` at the first that breaks a law.

    `partial`: the dump is a selection, so that runs may be named that are not in it.
    """

    partial: bool = False
    kinds: Counter[str] = field(default_factory=Counter)
    runs: dict[str, Course] = field(default_factory=dict)
    ballots: dict[str, Ballot] = field(default_factory=dict)
    mirror: Mirror = field(default_factory=Mirror)
    _events: set[str] = field(default_factory=set)
    _ahead: dict[str, list[Row]] = field(default_factory=dict)
    """Commands by the delivery that has to follow, as it began the run that they are for."""
    _deliveries: set[tuple[str, str]] = field(default_factory=set)
    _policies: dict[str, list[str] | None] = field(default_factory=dict)
    _overrides: dict[str, list[Row]] = field(default_factory=dict)
    _effect_ids: set[str] = field(default_factory=set)

    def take(self, row: Row) -> None:
        """Hold one row against the laws."""
        check = CHECKS.get(row.kind)
        if check is None:
            raise row.broken("rows of this kind are not known here; a newer version may know them")
        try:
            if moment(row.at) > moment(row.linked):
                raise row.broken(f"it was linked at {row.linked}, before it was written ({row.at})")
            check(self, row)
            self.mirror.note(row.kind, row.data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"it does not say what such a row has to say ({type(error).__name__}: {error})"
            raise row.broken(what) from error
        self.kinds[row.kind] += 1

    def event(self, row: Row) -> None:
        """Every delivery is taken in once."""
        data = row.data
        delivery = (data["source"], data["delivery"])
        if data["id"] in self._events or delivery in self._deliveries:
            raise row.broken(f"delivery {delivery[1]} of {delivery[0]} was taken in before")
        self._events.add(data["id"])
        self._deliveries.add(delivery)
        for run in data["runs"]:
            self.runs.setdefault(run, Course())
        for command in self._ahead.pop(data["id"], ()):
            self._known(command)

    def plan(self, row: Row) -> None:
        """A plan belongs to a run that an event began, or answers a comment that is on record."""
        if row.data.get("goal") == "answer" and row.data["event"] in self._events:
            # Begun once it is known what a comment came to: after the event was written down.
            self.runs.setdefault(row.run or "", Course())
        course = self._course(row)
        if row.data["event"] not in self._events:
            raise row.broken(f"event {row.data['event']}, which began its run, has no row")
        course.change = row.data["change"]
        course.plan = row.data["digest"]
        course.plans.add(row.data["digest"])

    def policy(self, row: Row) -> None:
        """A policy that decides from here on."""
        roles = row.data["override_roles"]
        if roles is not None or row.data["digest"] not in self._policies:
            self._policies[row.data["digest"]] = roles

    def command(self, row: Row) -> None:
        """A word of a person reaches a run that is known, or that its own delivery begins anew: one
        transaction writes both down, and the delivery last."""
        delivery = row.data["event"]
        if row.run in self.runs or delivery is None or delivery in self._events:
            self._known(row)
        else:
            self._ahead.setdefault(delivery, []).append(row)

    def end(self) -> None:
        """No command is left waiting for a delivery that never came."""
        for row, *_ in self._ahead.values() if not self.partial else ():
            raise row.broken(f"no event on record began run {row.run}")

    def noted(self, row: Row) -> None:
        """Rows that stand for themselves."""

    def override(self, row: Row) -> None:
        """An override says who, why and until when."""
        data = row.data
        if not data["principal"] or not data["reason"].strip():
            raise row.broken("an override without a name or without a reason")
        if moment(data["expires_at"]) <= moment(data["at"]):
            raise row.broken("it ends before it begins")
        self._overrides.setdefault(data["change_key"], []).append(row)

    def asked(self, row: Row) -> None:
        """A question is put once."""
        self._known(row)
        if row.data["id"] in self.ballots:
            raise row.broken(f"request {row.data['id']} was put before")
        self.ballots[row.data["id"]] = Ballot.of(row)

    def vote(self, row: Row) -> None:
        """A vote that counts comes from somebody who may vote, in time, once; law of approvals."""
        ballot = self._ballot(row, row.data["approval_id"])
        why = ballot.refusal(row)
        if why is not None:
            raise row.broken(f"a vote was counted that does not count: {why}")
        ballot.add(row)

    def refused(self, row: Row) -> None:
        """A refused vote says why."""
        self._ballot(row, row.data["approval_id"])
        if not row.data["refused"]:
            raise row.broken("a vote was refused without a reason")

    def settled(self, row: Row) -> None:
        """What becomes of a request follows from its state and its votes."""
        ballot = self._ballot(row, row.data["id"])
        if row.data["digest"] != ballot.digest:
            raise row.broken("it names another digest than was asked about")
        if row.kind not in MAY_BECOME.get(ballot.state, ()):
            raise row.broken(f"the request was {ballot.state} already")
        why = settled_by(ballot, row)
        if why is not None:
            raise row.broken(why)
        ballot.state = STATE_OF[row.kind]

    def changed(self, row: Row) -> None:
        """A request stays what it was when it was put: what was voted on must not be bent."""
        self._ballot(row, row.data["id"])
        raise row.broken("the request was changed after it had been put")

    def decision(self, row: Row) -> None:
        """A decision is the next of its run, on the plan of that time, under a known policy."""
        course, data = self._fenced(row), row.data
        made = data["decision"]
        if data["number"] != course.number + 1:
            raise row.broken(f"decision {course.number + 1} of the run is missing before it")
        course.number = data["number"]
        if data["outcome"] != made["outcome"]:
            raise row.broken(f"its outcome was {made['outcome']}, not {data['outcome']}")
        if not made["rules"]:
            raise row.broken("a decision without any rule that explains it")
        if made["policy_digest"] not in self._policies:
            raise row.broken(f"policy {made['policy_digest'][:12]} was never in force")
        if data["plan_digest"] not in course.plans and not _carried(row):
            raise row.broken("it is about a plan that the run never had")
        course.decisions[data["id"]] = row
        if data["outcome"] == "allow":
            self._allows(row, course)
        elif data["approval"] is not None:
            self._covers(row, data["approval"], data["scope_digest"])

    def _allows(self, row: Row, course: Course) -> None:
        made = row.data["decision"]
        rules = {one["rule"] for one in made["rules"]}
        against = [one["rule"] for one in made["rules"] if one["outcome"] != "allow"]
        if against:
            raise row.broken(f"it allows although {', '.join(against)} did not")
        approval = row.data["approval"]
        if approval is not None:
            ballot = self._covers(row, approval, row.data["scope_digest"])
            if ballot.state not in ("approved", "spent"):
                raise row.broken(f"it rests on a request that is {ballot.state}")
            if ballot.state == "approved" and moment(made["at"]) >= ballot.expires:
                raise row.broken("it rests on an approval that had expired")
        elif "approval.granted" in rules:
            raise row.broken("it needed an approval and names none")
        if "override.accepted" in rules and not _carried(row):
            self._overridden(row, course)

    def _overridden(self, row: Row, course: Course) -> None:
        """An override was on record, by somebody who may, and in its time."""
        made = row.data["decision"]
        roles = self._policies[made["policy_digest"]]
        if roles is None:
            raise row.broken("who may override under its policy is not on record")
        now = moment(made["at"])
        for one in self._overrides.get(course.change or "", ()):
            given = one.data
            if (
                set(given["roles"]) & set(roles)
                and not is_bot(given["principal"])
                and moment(given["at"]) <= now < moment(given["expires_at"])
            ):
                return
        raise row.broken("it rests on an override, and none on record held then by who may give it")

    def claimed(self, row: Row) -> None:
        """No effect without a decision that allows exactly it, nor without its approval."""
        course, data = self._fenced(row), row.data
        decision = course.decisions.get(data["decision"])
        if decision is None:
            raise row.broken(f"decision {data['decision']} of its run is not on record before it")
        said = decision.data
        if said["outcome"] != "allow":
            raise row.broken(f"its decision does not allow it: {said['outcome']}")
        if said["step"] != data["step"]:
            raise row.broken(f"its decision is about step {said['step']}")
        if (said["action_digest"], said["scope_digest"]) != (data["digest"], data["scope_digest"]):
            raise row.broken("its decision allows something else: the digests differ")
        if said["approval"] != data["approval"]:
            raise row.broken("its decision rests on another approval")
        if data["approval"] is not None:
            ballot = self._covers(row, data["approval"], data["scope_digest"])
            if ballot.state != "spent":
                raise row.broken(f"its approval is {ballot.state}, not spent")
        self._claim(row, course)

    def _claim(self, row: Row, course: Course) -> None:
        data = row.data
        known = course.effects.get((data["step"], data["digest"]))
        if known is None:
            if data["id"] in self._effect_ids:
                raise row.broken("another effect has its id")
            self._effect_ids.add(data["id"])
            course.effects[data["step"], data["digest"]] = Effect(
                data["id"], "started", data["tries"]
            )
            return
        if known.id != data["id"]:
            raise row.broken("the same action of the same step was begun a second time")
        if known.state == "applied":
            raise row.broken("it was applied already")
        if data["tries"] <= known.tries:
            raise row.broken(f"try {known.tries} of it was begun before")
        known.tries, known.state = data["tries"], "started"

    def outcome(self, row: Row) -> None:
        """What came of an effect that was claimed; applied once."""
        course, data = self._fenced(row), row.data
        known = course.effects.get((data["step"], data["digest"]))
        if known is None or known.id != data["id"]:
            raise row.broken("it was never claimed")
        if known.state == "applied":
            raise row.broken("it was applied already")
        known.state = row.kind.removeprefix("effect.")

    def _known(self, row: Row) -> Course:
        course = self.runs.get(row.run or "")
        if course is None:
            if not self.partial:
                raise row.broken(f"no event on record began run {row.run}")
            course = self.runs.setdefault(row.run or "", Course())
        return course

    def _course(self, row: Row) -> Course:
        course = self._known(row)
        if not _carried(row):
            if row.data["fence"] < course.fence:
                raise row.broken(
                    f"it was written under lease {row.data['fence']}, after lease {course.fence} "
                    "had begun"
                )
            course.fence = row.data["fence"]
        return course

    _fenced = _course

    def _ballot(self, row: Row, approval: str) -> Ballot:
        ballot = self.ballots.get(approval)
        if ballot is None:
            raise row.broken(f"request {approval} is not on record before it")
        if ballot.run != row.run:
            raise row.broken("the request belongs to another run")
        return ballot

    def _covers(self, row: Row, approval: str, digest: str) -> Ballot:
        ballot = self._ballot(row, approval)
        if ballot.digest != digest:
            raise row.broken(
                f"the approval is for {ballot.digest[:12]}, what is done is {digest[:12]}"
            )
        return ballot


def moment(text: str) -> datetime:
    """A time as it stands in a row."""
    return datetime.fromisoformat(text)


def _carried(row: Row) -> bool:
    return row.data.get("carried") is True


Check = Callable[[Laws, Row], Any]
CHECKS: dict[str, Check] = {
    "event": Laws.event,
    "plan": Laws.plan,
    "policy": Laws.policy,
    "command": Laws.command,
    "override": Laws.override,
    "override.changed": Laws.override,
    "approval.asked": Laws.asked,
    "approval.changed": Laws.changed,
    **dict.fromkeys(STATE_OF, Laws.settled),
    "vote.counted": Laws.vote,
    "vote.refused": Laws.refused,
    "decision": Laws.decision,
    "effect.claimed": Laws.claimed,
    **dict.fromkeys(("effect.applied", "effect.refused", "effect.unknown"), Laws.outcome),
    "lock.removed": Laws.noted,
    "refusal": Laws.noted,
}

__all__ = ["Broken", "Laws"]
