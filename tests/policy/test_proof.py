"""The proof of a dump: every byte counts, every law is checked, the first broken row is named."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.audit import chained, digest, omitted_line, parted
from policy.proof.proving import Proof, prove
from tests.policy.records import (
    ASKED,
    EVENT,
    FIRST,
    RUN,
    Change,
    Entry,
    at,
    bent,
    decision,
    dumped,
    effect,
    find,
    header,
    settled,
    story,
    vote,
)

GOOD = dumped(story())
WHOLE = b"".join(GOOD)


def proof_of(text: bytes) -> Proof:
    return prove(_lines(text))


def _lines(text: bytes) -> list[bytes]:
    """Lines as a binary file gives them: only a line feed ends one."""
    parts = text.split(b"\n")
    return [one + b"\n" for one in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def test_a_record_in_which_everything_was_right_holds() -> None:
    proof = prove(GOOD)
    assert proof.broken is None
    assert (proof.rows, proof.last) == (13, 13)
    assert proof.kinds["vote.refused"] == 1
    assert proof.head == parted(GOOD[-1])[2].hex()


@settings(max_examples=600, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_one_changed_byte_anywhere_breaks_exactly_its_line(place: int, by: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= by
    broken = proof_of(bytes(changed)).broken
    assert broken is not None
    assert broken.line == WHOLE[:place].count(b"\n") + 1


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.data())
def test_lines_removed_doubled_swapped_or_cut_are_named(line: int, data: st.DataObject) -> None:
    lines = list(GOOD)
    match data.draw(st.sampled_from(["remove", "double", "swap", "cut", "insert"])):
        case "remove":
            del lines[line]
            wanted = line + 1
        case "double":
            lines.insert(line, lines[line])
            wanted = line + 2
        case "swap":
            other = data.draw(st.integers(0, len(GOOD) - 1).filter(lambda one: one != line))
            lines[line], lines[other] = lines[other], lines[line]
            wanted = min(line, other) + 1
        case "cut":
            lines[line] = lines[line][: data.draw(st.integers(0, len(lines[line]) - 1))]
            wanted = line + 1
        case _:
            lines.insert(line, data.draw(st.binary(max_size=40)).replace(b"\n", b"") + b"\n")
            wanted = line + 1
    broken = proof_of(b"".join(lines)).broken
    assert broken is not None
    assert broken.line == wanted


def test_a_tail_that_was_cut_off_names_the_first_row_that_is_missing() -> None:
    broken = prove(GOOD[:-2]).broken
    assert broken is not None
    assert (broken.line, broken.seq) == (13, 12)
    assert "row 12 is missing: the header promises rows up to 13" in str(broken)


def test_a_record_that_was_rewritten_as_a_whole_shows_against_a_head_seen_before() -> None:
    seen = parted(GOOD[8])[2].hex()
    assert prove(GOOD, {8: seen}).holds
    rewritten = bent(lambda rows: rows[find(rows, "override")].data.update(reason="no reason"))
    assert prove(rewritten).holds
    broken = prove(rewritten, {8: seen[:16]}).broken
    assert broken is not None
    assert (broken.seq, "it was rewritten" in broken.what) == (8, True)
    short = dumped(story()[:7])
    cut = prove(short, {8: seen}).broken
    assert cut is not None
    assert "so it was cut" in cut.what


def test_rows_left_out_are_gone_through_by_their_digests() -> None:
    digests = [digest(parted(line)[0]) for line in GOOD[1:]]
    head = parted(GOOD[-1])[2]
    left_out = omitted_line(12, digests[11:], head)
    lines = [header(13, head, rows=11, selection={"run": RUN}), *GOOD[1:12], left_out]
    proof = prove(lines)
    assert proof.broken is None
    assert (proof.rows, proof.omitted, proof.head) == (11, 2, head.hex())
    wrong = omitted_line(12, [digests[12], digests[11]], head)
    broken = prove([*lines[:-1], wrong]).broken
    assert broken is not None
    assert broken.line == 13


def put(kind: str, **fields: Any) -> Change:
    """Change fields of the first row of a kind."""
    return lambda rows: rows[find(rows, kind)].data.update(fields)


def drop(kind: str) -> Change:
    """Leave the first row of a kind out."""

    def change(rows: list[Entry]) -> None:
        rows.pop(find(rows, kind))

    return change


def add(entry: Entry, after: str) -> Change:
    """Put a row behind the first one of a kind."""
    return lambda rows: rows.insert(find(rows, after) + 1, entry)


def ruled(kind_of_outcome: str, **fields: Any) -> Change:
    """Change what the decision with an outcome said."""

    def change(rows: list[Entry]) -> None:
        said = next(
            one for one in rows if one.kind == "decision" and one.data["outcome"] == kind_of_outcome
        )
        said.data["decision"].update(fields)

    return change


def allowed(**fields: Any) -> Change:
    """Change the decision that allows."""

    def change(rows: list[Entry]) -> None:
        rows[find(rows, "effect.claimed") - 2].data.update(fields)

    return change


def test_a_comment_is_answered_by_runs_that_its_event_did_not_begin() -> None:
    later = "00000000-0000-4000-8000-00000000abcd"

    def answered(goal: str) -> Change:
        def change(rows: list[Entry]) -> None:
            plan = rows[find(rows, "plan")]
            rows.append(Entry("plan", later, {**plan.data, "goal": goal}))

        return change

    assert prove(bent(answered("answer"))).holds
    broken = prove(bent(answered("release"))).broken
    assert broken is not None
    assert "no event on record" in broken.what


def test_a_comment_that_begins_a_change_anew_may_stand_before_its_delivery() -> None:
    """One transaction writes both down, the delivery last, as it names the runs that it began."""
    said = Entry("command", RUN, {"number": 1, "command": "override", "event": EVENT})

    def begun(runs: list[str]) -> Change:
        def change(rows: list[Entry]) -> None:
            rows.insert(1, said)
            rows[2].data["runs"] = runs

        return change

    assert prove(bent(begun([RUN]))).holds
    broken = prove(bent(begun([]))).broken
    assert broken is not None
    assert (broken.kind, broken.seq) == ("command", 2)
    assert "no event on record began run" in broken.what
    # nothing may be done in a run on the strength of a word alone
    wordy = prove(bent(lambda rows: rows.__setitem__(1, said))).broken
    assert wordy is not None
    assert (wordy.kind, wordy.what) == ("plan", f"no event on record began run {RUN}")


LAWS: list[tuple[str, str, Change, str]] = [
    ("decided later", "effect.claimed", lambda rows: rows.append(rows.pop(9)), "not on record"),
    ("no decision", "effect.claimed", put("effect.claimed", decision=FIRST), "does not allow"),
    ("another run's", "effect.claimed", put("effect.claimed", decision=EVENT), "not on record"),
    ("another action", "effect.claimed", put("effect.claimed", digest="9" * 64), "digests differ"),
    ("another scope", "decision", allowed(scope_digest="9" * 64), "what is done"),
    ("another step", "effect.claimed", put("effect.claimed", step="other"), "about step deploy"),
    ("approval left away", "effect.claimed", put("effect.claimed", approval=None), "another"),
    ("not needed", "decision", allowed(approval=None), "needed an approval and names none"),
    ("unspent", "effect.claimed", drop("approval.spent"), "approved, not spent"),
    ("spent twice", "approval.spent", add(settled("approval.spent", "approved"), "approval.spent"),
     "was spent already"),
    ("no votes", "approval.granted", drop("vote.counted"), "granted with 0 of 1"),
    ("too few", "approval.granted",
     lambda rows: rows[find(rows, "approval.asked")].data["requirement"].update(count=2), "1 of 2"),
    ("not granted", "decision", drop("approval.granted"), "rests on a request that is pending"),
    ("by its author", "vote.counted", put("vote.counted", principal="Ada"), "made this change"),
    ("by a bot", "vote.counted", put("vote.counted", principal="x[bot]"), "is a bot"),
    ("wrong role", "vote.counted", put("vote.counted", roles=["developer"]), "none of the roles"),
    ("too late", "vote.counted", put("vote.counted", at=at(51)), "expired"),
    ("twice", "vote.counted",
     add(vote("vote.counted", "grace", ["release-manager"]), "vote.counted"), "already voted"),
    ("another digest", "vote.counted", put("vote.counted", digest="9" * 64), "was given for"),
    ("another statement", "vote.counted",
     put("vote.counted", statement={"approver": "grace"}, statement_digest="9" * 64),
     "not the one that its digest"),
    ("refused after all", "vote.counted", put("vote.counted", refused="no"), "does not count"),
    ("refused for nothing", "vote.refused", put("vote.refused", refused=""), "without a reason"),
    ("forged digest", "approval.granted", put("approval.granted", digest="9" * 64),
     "another digest"),
    ("bent", "approval.changed",
     add(Entry("approval.changed", RUN, {"id": ASKED}), "vote.counted"), "was changed after"),
    ("expired approval", "decision", ruled("allow", at=at(55)), "had expired"),
    ("override over", "decision",
     lambda rows: rows[3].data.update(expires_at=at(5)), "none on record held"),
    ("override too early", "decision",
     lambda rows: rows[3].data.update(at=at(30)), "none on record held"),
    ("override by anybody", "decision", put("override", roles=["developer"]),
     "none on record held"),
    ("override unheard of", "decision", drop("override"), "none on record held"),
    ("override without reason", "override", put("override", reason=" "), "without a reason"),
    ("against its rules", "decision",
     ruled("allow", rules=[{"rule": "windows.closed", "outcome": "deny", "reason": ""}]),
     "although windows.closed did not"),
    ("unexplained", "decision", ruled("needs_approval", rules=[]), "without any rule"),
    ("another outcome", "decision", ruled("allow", outcome="deny"), "its outcome was deny"),
    ("unknown policy", "decision", drop("policy"), "was never in force"),
    ("decision missing", "decision", drop("decision"), "decision 1 of the run is missing"),
    ("another plan", "decision", allowed(plan_digest="9" * 64), "plan that the run never had"),
    ("applied twice", "effect.applied", add(effect("effect.applied"), "effect.applied"), "already"),
    ("done again", "effect.claimed",
     add(effect("effect.claimed", tries=2), "effect.applied"), "applied already"),
    ("begun twice", "effect.claimed",
     add(effect("effect.claimed", id=EVENT), "effect.claimed"), "begun a second time"),
    ("never claimed", "effect.applied", drop("effect.claimed"), "never claimed"),
    ("old lease", "effect.claimed", put("effect.claimed", fence=1), "after lease 2 had begun"),
    ("no event", "plan", drop("event"), "no event on record"),
    ("word to nobody's run", "command",
     add(Entry("command", EVENT, {"command": "cancel", "event": ASKED}), "plan"), "began run"),
    ("taken in twice", "event", lambda rows: rows.insert(2, rows[1]), "was taken in before"),
    ("strange kind", "wish", add(Entry("wish", RUN, {}), "plan"), "not known here"),
    ("half a row", "vote.counted", lambda rows: rows[7].data.pop("roles") and None, "has to say"),
    ("unasked", "decision", drop("approval.asked"), "not on record before it"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "change", "said"), [law[1:] for law in LAWS],
                         ids=[law[0] for law in LAWS])  # fmt: skip
def test_a_law_that_was_broken_is_named_with_its_row(kind: str, change: Change, said: str) -> None:
    broken = prove(bent(change)).broken
    assert broken is not None
    assert (broken.kind, said in broken.what) == (kind, True), str(broken)
    assert broken.line == (broken.seq or 0) + 1


def test_a_hundred_thousand_rows_are_proven_in_seconds() -> None:
    rows = story()
    space = UUID(int=0)
    event = rows[1]
    for number in range(100_000 - len(rows)):
        data = {**event.data, "id": str(uuid5(space, str(number))), "delivery": str(number)}
        rows.append(Entry("event", None, {**data, "runs": []}))
    lines = dumped(rows)
    began = time.perf_counter()
    proof = prove(lines)
    took = time.perf_counter() - began
    assert (proof.rows, proof.broken) == (100_000, None)
    assert took < 15


def test_a_hash_follows_from_the_hash_before_and_the_digest_of_the_row_alone() -> None:
    text, before, own = parted(GOOD[5])
    assert chained(before, digest(text)) == own
    assert before == parted(GOOD[4])[2]


def test_the_page_about_the_format_is_enough_to_check_a_dump(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    script = page.split("```python\n")[1].split("```")[0]
    dump = tmp_path / "dump.jsonl"

    def told(text: bytes) -> tuple[int, str]:
        dump.write_bytes(text)
        done = subprocess.run(
            [sys.executable, "-c", script, str(dump)], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    assert told(WHOLE) == (0, f"holds {parted(GOOD[-1])[2].hex()}\n")
    assert told(WHOLE.replace(b"lin", b"tom", 1))[0] == 1


def test_a_decision_that_waits_may_name_no_approval() -> None:
    waits = decision(3, EVENT, "wait", ["windows.closed"], approval=None)
    assert prove(bent(lambda rows: rows.append(waits))).holds
