"""Policy files: the shipped one is good, and a broken one is told where and what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from domain.decision import Outcome
from domain.errors import SourceError
from policy.evaluate import evaluate
from policy.rules import load_policy
from policy.schema import policy_schema
from tests.policy.making import (
    SHIPPED,
    SMALL,
    WEDNESDAY,
    deploy,
    facts,
    policy_with,
    shipped,
    small_with,
)

DENY_LINE = "  deny: []"


def window(text: str) -> tuple[str, str]:
    return DENY_LINE, f"  deny:\n    - {{{text}}}"


GOOD_WINDOW = 'id: w, from: "Fri 18:00", to: "Mon 08:00", environments: [prod]'


def problems(text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(SourceError) as caught:
        load_policy(text, "broken.yaml")
    assert all(one.file == "broken.yaml" for one in caught.value.problems)
    return [(one.line, one.column, one.message, one.hint) for one in caught.value.problems]


def place_of(text: str, part: str) -> tuple[int, int]:
    """Line and column of a piece that stands in the text once."""
    assert text.count(part) == 1
    index = text.index(part)
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def test_the_shipped_policy_loads_with_all_its_samples() -> None:
    assert shipped().override_roles == ("sre-lead", "release-manager", "admin")
    assert shipped().override_seconds == 7200
    assert shipped().override_reason_letters == 10
    assert shipped().roles == {"admin", "release-manager", "sre-lead"}


def test_the_shipped_policy_shows_an_allowed_a_denied_and_an_asked_case() -> None:
    samples = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["samples"]
    assert {"allow", "deny", "needs_approval"} <= {one["expect"] for one in samples}


BROKEN: list[tuple[tuple[str, str], str, str, str]] = [
    # (what is changed, the piece the finger points at, message, hint)
    (("max_first_weight: 10", "max_frist_weight: 10"), "max_frist", "unknown key", "did you mean"),
    (("manual: allow", "manual: alow"), "alow", "'allow' or 'approve'", "did you mean 'allow'?"),
    (("{risk: medium}", "{risk: severe}"), "severe", "'severe'", "low, medium, high, critical"),
    (("expires: 24h", "expires: 24"), "24\n", "not a duration", "1h30m"),
    (("Europe/Berlin", "Europe/Berln"), "Europe/Berln", "time zone", "tzdata"),
    (window(GOOD_WINDOW.replace("Fri 18", "Fry 18")), '"Fry', "weekday and a time", "Fri 18:00"),
    (window(GOOD_WINDOW.replace("Mon 08", "Fri 18")), '"Fri 18:00", env', "same time", "`environ"),
    (window(GOOD_WINDOW.replace("prod", "prd")), "prd", "no environment", "did you mean 'prod'?"),
    (window("id: w, environments: [prod]"), "{id: w", "never applies", "`holidays`"),
    (window('id: w, from: "Fri 18:00", environments: [prod]'), "{id: w", "needs both", "Mon 08"),
    (window("id: w, holidays: XX, environments: [prod]"), "XX", "no public holidays", "DE-BE"),
    (window("id: w, holidays: DE-ZZ, environments: [prod]"), "DE-ZZ", "no subdivision", "BE"),
    (window(GOOD_WINDOW.replace("id: w", "id: No Weekend")), "No Week", "pattern", "small letters"),
    (("nodata: approve, error: approve}\n  canary", "nodata: allow, error: approve}\n  canary"),
     "allow, error", "'approve' or 'deny'", "approve, deny"),
    (("count: 1, roles: [release-manager]}", "count: 1}"), "{environments: [prod], c", "of nobody",
     "add `roles"),
    (("max_first_weight: 10", "max_first_weight: 110"), "110", "less than or equal to 100",
     "percent"),
    (("max_duration: 2h", "max_duration: 8d"), "8d", "7 days", "2h"),
    (("author_may_approve: false", "author_may_approve: never"), "never", "true or false", "write"),
    (("version: 1\n", "version: 2\n"), "2\nenv", "expected 1", "1"),
    (("max_first_weight: 10", "max_first_weight: true"), "true, req", "valid integer", "percent"),
    (("count: 1, roles: [release-manager]}", "count: '1', roles: [release-manager]}"), "'1'",
     "valid integer", "approvals needed"),
    (("most_monthly: 5000", "most_monthly: inf"), "inf", "valid number", "a month"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "at", "message", "hint"), BROKEN)
def test_a_mistake_is_named_at_its_place_with_a_hint(
    change: tuple[str, str], at: str, message: str, hint: str
) -> None:
    text = small_with(change)
    found = problems(text)
    assert len(found) == 1, found
    line, column, said, helped = found[0]
    assert (line, column) == place_of(text, at)
    assert message in said
    assert hint in helped


@pytest.mark.parametrize("text", ["- a\n", "text\n", SMALL.replace("canary: {", "canary: 5 #")])
def test_what_is_no_mapping_is_told_which_keys_belong_there(text: str) -> None:
    assert "keys here: " in problems(text)[0][3]


def test_every_section_has_to_be_there() -> None:
    sections = [line.split(":")[0] for line in SMALL.splitlines() if line[0].isalpha()]
    for section in sections:
        document = yaml.safe_load(SMALL)
        del document[section]
        found = problems(yaml.safe_dump(document))
        assert f"the key {section!r} is missing" in found[0][2]


def test_an_environment_without_an_approval_row_is_refused_not_waved_through() -> None:
    row = "    - {environments: [prod], count: 1, roles: [release-manager]}"
    found = problems(small_with((row, row.replace("[prod]", "[prod], risk: [low, high]"))))
    assert "prod needs at risk medium, critical" in found[0][2]
    assert "roles" in found[0][3]


def test_a_row_that_is_never_reached_is_refused() -> None:
    row = "    - {environments: [staging], count: 0}"
    found = problems(small_with((row, '    - {environments: ["*"], count: 0}')))
    assert [one[2] for one in found] == ["this row is never reached"]


def test_ids_of_windows_are_used_once() -> None:
    twice = f"  deny:\n    - {{{GOOD_WINDOW}}}\n    - {{{GOOD_WINDOW}}}"
    found = problems(small_with((DENY_LINE, twice)))
    assert "the id 'w' is used twice" in found[0][2]


def test_several_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = small_with(("manual: allow", "manual: alow"), ("count: 0}", "count: x}"))
    assert [one[0] for one in problems(text)] == [6, 17]


SAMPLE = """\
samples:
  - name: fine
    at: "2026-03-25T12:00+01:00"
    facts: {environment: staging}
    expect: allow
    rule: policy.clear
  - name: wrong
    at: "2026-03-25T12:00+01:00"
    facts: {environment: prod, first_weight: 10}
    expect: allow
    rule: policy.clear
"""


def test_a_sample_that_comes_out_otherwise_is_refused_at_its_line() -> None:
    text = SMALL + SAMPLE
    found = problems(text)
    assert len(found) == 1
    line, column, message, hint = found[0]
    assert (line, column) == place_of(text, "name: wrong")
    assert "'wrong' should come out as allow by policy.clear" in message
    assert "it is needs_approval by approval.required" in message
    assert "sample" in hint


def test_a_sample_must_come_out_by_the_rule_it_names() -> None:
    right_for_the_wrong_reason = SAMPLE.replace("expect: allow\n    rule: policy.clear\n", "", 0)
    text = SMALL + right_for_the_wrong_reason.replace(
        "first_weight: 10}\n    expect: allow", "first_weight: 50}\n    expect: deny"
    )
    assert "should come out as deny by policy.clear" in problems(text)[0][2]


def test_words_change_nothing_and_meaning_changes_the_digest() -> None:
    assert load_policy("# words\n" + SMALL, "f").digest == policy_with().digest
    assert load_policy(SMALL + SAMPLE.split("  - name: wrong")[0], "f").digest == (
        policy_with().digest
    )
    assert policy_with(("manual: allow", "manual: approve")).digest != policy_with().digest


def test_a_listed_pattern_stands_for_its_environments() -> None:
    rules = policy_with(("  staging: {risk: low}", '  "preview-*": {risk: low}'),
                        ("[staging]", '["preview-*"]'))  # fmt: skip
    assert evaluate(rules, facts(deploy("preview-7")), WEDNESDAY).outcome is Outcome.ALLOW
    assert evaluate(rules, facts(deploy("preview")), WEDNESDAY).outcome is Outcome.DENY


def test_a_section_counts_where_one_of_its_patterns_fits_a_listed_environment() -> None:
    section = "checks: {environments: [prod], required: []}"
    rules = policy_with((section, 'checks: {environments: ["p*"], required: []}'),
                        ("  staging: {risk: low}", '  "preview-*": {risk: low}'),
                        ("[staging]", '["preview-*"]'))  # fmt: skip
    assert rules.checks.environments == {"prod", "preview-*"}


# --- schema and explanation ---


def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(policy_schema())
    return Draft202012Validator(policy_schema())


def test_the_schema_accepts_the_shipped_policy() -> None:
    document = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    assert list(validator().iter_errors(document)) == []
    json.dumps(policy_schema())


@pytest.mark.parametrize(
    "change",
    [
        ("manual: allow", "manual: alow"),
        ("max_first_weight: 10", "max_frist_weight: 10"),
        ("expires: 24h", "expires: soon"),
        window(GOOD_WINDOW.replace("Fri 18:00", "Fry 18:00")),
    ],
)
def test_the_schema_finds_what_an_editor_can_find(change: tuple[str, str]) -> None:
    document: Any = yaml.safe_load(small_with(change))
    assert list(validator().iter_errors(document))
