"""The policy file in force: only a good one replaces it, whole; a bad one is told and changes
nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from domain.errors import SourceError
from policy.rules import Rules
from tests.policy.making import SMALL, small_with
from web.policy_file import PolicyInForce, read_policy

STRICTER = small_with(("max_first_weight: 10", "max_first_weight: 5"))


def anything(_: Rules) -> None:
    return None


def opened(path: Path) -> PolicyInForce:
    return PolicyInForce.open(path, anything)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(SMALL)
    return path


def test_a_file_that_does_not_load_stops_the_start(file: Path) -> None:
    file.write_text("version: 1\n")
    with pytest.raises(SourceError):
        opened(file)
    with pytest.raises(SourceError) as caught:
        opened(file.with_name("missing.yaml"))
    assert "cannot be read" in caught.value.problems[0].message


def test_a_good_change_is_taken_over(file: Path) -> None:
    policy = opened(file)
    before = policy.rules().digest
    assert not policy.look()
    file.write_text(STRICTER)
    assert policy.look()
    assert policy.rules().digest != before
    assert policy.rules().canary.max_first_weight == 5
    assert not policy.warnings


@pytest.mark.parametrize(
    "bad",
    [
        SMALL.replace("count: 1", "count: many").encode(),
        b"",
        SMALL.encode() + b"\xff",
        SMALL.encode() + b"#\x00",
        b"\xef\xbb\xbf" + SMALL.replace("version: 1", "version: 2").encode(),
        SMALL.replace("releases:", "releases: {}\nreleases:").encode(),
        b"- a\n- b\n",
        b"a: " + b"x" * 10_000_000,
    ],
)
def test_a_bad_change_keeps_the_policy_before_it_in_force_and_is_told(
    file: Path, bad: bytes
) -> None:
    policy = opened(file)
    before = policy.rules()
    file.write_bytes(bad)
    assert not policy.look()
    assert policy.rules() is before
    (warning,) = policy.warnings
    assert str(file) in warning
    assert before.digest[:12] in warning
    assert not policy.look()  # it is looked at anew only when it changes
    file.write_text(STRICTER)
    assert policy.look()
    assert not policy.warnings


def test_a_file_that_is_gone_for_a_moment_changes_nothing(file: Path) -> None:
    policy = opened(file)
    file.rename(file.with_suffix(".away"))
    assert not policy.look()
    assert policy.warnings
    file.with_suffix(".away").rename(file)
    assert not policy.look()
    assert not policy.warnings


def test_a_changed_calendar_is_a_changed_policy(file: Path) -> None:
    event = "BEGIN:VEVENT\nDTSTART:20260105T100000Z\nDURATION:PT1H\nSUMMARY:{}\nEND:VEVENT\n"
    frame = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:t\n{}END:VCALENDAR\n"
    calendar = file.with_name("freeze.ics")
    calendar.write_text(frame.format(event.format("one")))
    deny = "  deny:\n    - {id: freeze, calendar: freeze.ics, environments: [prod]}"
    file.write_text(small_with(("  deny: []", deny)))
    policy = opened(file)
    calendar.write_text(frame.format(event.format("two")))
    assert policy.look()
    calendar.write_text("gone wrong")
    before = policy.rules()
    assert not policy.look()
    assert policy.rules() is before
    assert "freeze.ics" in policy.warnings[0]


def test_changed_constraints_are_a_changed_policy(file: Path) -> None:
    folder = file.with_name("constraints")
    folder.mkdir()
    (folder / "one.yaml").write_text("kind: One\n")
    file.write_text(small_with(("manifests:\n", "manifests:\n  constraints: [constraints]\n")))
    policy = opened(file)
    first = policy.rules()
    assert not policy.look()
    (folder / "two.yaml").write_text("kind: Two\n")
    assert policy.look()
    assert policy.rules().digest != first.digest
    assert [name for name, _ in policy.rules().manifests.texts][1].endswith("two.yaml")
    (folder / "two.yaml").unlink()
    assert policy.look()
    assert policy.rules().digest == first.digest
    (folder / "one.yaml").unlink()
    assert not policy.look()  # an empty folder is a mistake, and the policy before it stays
    assert "constraints" in policy.warnings[0]


def test_what_is_saved_while_the_policy_is_being_loaded_is_taken_over_next(file: Path) -> None:
    constraint = file.with_name("constraints") / "one.yaml"
    constraint.parent.mkdir()
    constraint.write_text("kind: One\n")
    named = ("manifests:\n", "manifests:\n  constraints: [constraints]\n")
    file.write_text(small_with(named))
    meanwhile: list[tuple[Path, str]] = [
        (file, small_with(named, ("max_first_weight: 10", "max_first_weight: 5"))),
        (constraint, "kind: Two\n"),
    ]

    def saved(_: Rules) -> None:
        if meanwhile:
            path, text = meanwhile.pop(0)
            path.write_text(text)

    policy = PolicyInForce.open(file, saved)
    assert policy.rules().canary.max_first_weight == 10
    assert policy.look()
    assert policy.rules().canary.max_first_weight == 5
    assert policy.look()
    assert [text for _, text in policy.rules().manifests.texts] == ["kind: Two\n"]
    assert not policy.look()


def test_a_folder_where_a_calendar_should_be_is_told_once(file: Path) -> None:
    policy = opened(file)
    (file.with_name("freeze.ics")).mkdir()
    deny = "  deny:\n    - {id: freeze, calendar: freeze.ics, environments: [prod]}"
    file.write_text(small_with(("  deny: []", deny)))
    assert not policy.look()
    assert "freeze.ics" in policy.warnings[0]
    told = policy.problems
    assert not policy.look()
    assert policy.problems is told


async def test_a_folder_that_vanishes_while_it_is_read_does_not_end_the_watch(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, look = opened(file), PolicyInForce.candidate
    tries, told = 0, asyncio.Event()

    def candidate(self: PolicyInForce) -> Rules | None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise FileNotFoundError("..2026_11_27")
        return look(self)

    async def announce(_rules: Rules, _source: str) -> None:
        told.set()

    monkeypatch.setattr(PolicyInForce, "candidate", candidate)
    await asyncio.to_thread(file.write_text, STRICTER)
    async with policy.watched(announce, seconds=0.01):
        await asyncio.wait_for(told.wait(), 20)


async def test_while_watched_new_rules_are_announced_before_they_are_in_force(file: Path) -> None:
    policy = opened(file)
    before = policy.rules().digest
    seen: list[tuple[str, str]] = []
    tries, told = 0, asyncio.Event()

    async def announce(rules: Rules, source: str) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ConnectionError("the database is away")
        seen.append((rules.digest, policy.rules().digest))
        told.set()

    await asyncio.to_thread(file.write_text, STRICTER)
    async with policy.watched(announce, seconds=0.01):
        await asyncio.wait_for(told.wait(), 20)
        await asyncio.sleep(0)
    assert seen == [(policy.rules().digest, before)]
    assert read_policy(file).digest == policy.rules().digest
