"""Structured values by field, and the leak gate's look at files and diffs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from domain.secret import FilePatch
from policy.redaction.scan import scan_file, scan_patches
from policy.redaction.structured import ValueRedactor
from tests.policy.redaction.making import credentials, redactor
from tests.policy.redaction.test_documents import leaked, shown, state

VALUES = ValueRedactor(redactor())
TOKEN, _ = credentials()["personal access token"]


@pytest.mark.parametrize(
    "value",
    [
        {"password": "plainword"},
        {"db": {"DB_PASSWORD": "plainword"}},
        {"headers": {"Authorization": "plainword", "Cookie": "a=plainword"}},
        {"apiVersion": "v1", "kind": "Secret", "data": {"whatever": "plainword"}},
        {"users": [{"name": "x", "user": {"client-key-data": "plainword"}}]},
        {"outputs": {"x": {"value": "plainword", "type": "string", "sensitive": True}}},
        {"env": [{"name": "API_TOKEN", "value": "plainword"}]},
        {"auths": {"registry.example.com": {"auth": "plainword"}}},
        {"clientSecret": "plainword"},
        {"headers": [["authorization", "plainword"], ("cookie", "plainword")]},
        {"values": {"a": ["x", "plainword"]}, "sensitive_values": {"a": [False, True]}},
        {"before": {"a": "plainword"}, "before_sensitive": True},
        {
            "attributes": {"a": {"b": ["x", "plainword"]}},
            "sensitive_attributes": [
                [*({"type": "get_attr", "value": v} for v in "ab"), {"value": 1}]
            ],
        },
        ["https://user:plainword@example.com/x"],
    ],
)
def test_a_field_says_what_its_value_is(value: Any) -> None:
    assert "plainword" not in str(VALUES.redact_value(value))


@pytest.mark.parametrize("value", [state(), shown(), {"event": "read", "state": state()}])
def test_a_state_of_terraform_gives_away_no_more_as_a_value_than_as_text(value: Any) -> None:
    raw = json.dumps(value).encode()
    for out in (VALUES.redact_value(value), VALUES.json(raw), redactor().redact_bytes(raw)):
        said = out.decode() if isinstance(out, bytes) else json.dumps(out)
        assert leaked(said) == []
        assert "eu-west-1" in said or "shop" in said


@pytest.mark.parametrize(
    "value",
    [
        {"max_tokens": 40, "tokens": 3, "secretName": "tls", "password": None},
        {"password": "${DB_PASSWORD}", "valueFrom": {"secretKeyRef": {"name": "db", "key": "p"}}},
        {"values": {"a": "open"}, "sensitive_values": {"a": False}},
        {"title": "Rotate the password policy", "sha": "0123456789abcdef" * 2},
    ],
)
def test_other_fields_stay_and_the_object_is_the_same(value: Any) -> None:
    assert VALUES.redact_value(value) is value


@pytest.mark.parametrize(
    "line",
    [
        {"event": "sent", "token": "plainword"},
        {"event": f"sent {TOKEN}"},
        {"event": "sent", "body": f"first line\n{TOKEN}"},
        {"event": "sent", "headers": {"Cookie": "a=plainword"}},
        {"event": "sent", "size": 2**70, "password": "plainword"},
        {"event": "half a pair \ud800", "secret": "plainword"},
    ],
)
def test_a_line_of_a_log_is_covered_as_any_mapping_is(line: dict[str, Any]) -> None:
    clean = VALUES.redact_line(line)
    assert clean == VALUES.redact_value(line)
    assert "plainword" not in str(clean)
    assert TOKEN not in str(clean)


def test_a_line_with_nothing_in_it_is_the_same_object() -> None:
    line = {
        "event": "event",
        "run_id": "3f2a91c0-0b0e-4a6c-8d2b-7f6f0d3f9a11",
        "count": 3,
        "x": None,
    }
    assert VALUES.redact_line(line) is line


def test_json_on_its_way_to_the_database_is_cleaned_or_left_byte_for_byte() -> None:
    raw = b'{"title": "Release 1.2", "note": "a \\"quoted\\" word"}'
    assert VALUES.json(raw) is raw
    clean = VALUES.json(b'{"title":"x","url":"https://user:plainword@example.com/x"}')
    assert b"plainword" not in clean
    assert b"[redacted:" in clean
    assert b"plainword" not in VALUES.json(b'{"a":"\\u0022","db":{"password":"plainword"}}')


def test_a_secret_in_a_diff_is_named_by_file_line_rule_and_advice() -> None:
    patch = f"@@ -1,2 +10,3 @@ def f():\n old\n+token = '{TOKEN}'\n-gone = '{TOKEN}'\n+fine = 1\n"
    scan = scan_patches(redactor(), [FilePatch(path="src/app.py", patch=patch)])
    assert scan.complete
    (hit,) = scan.hits
    assert (hit.file, hit.line, hit.rule) == ("src/app.py", 11, "github-pat")
    assert "Revoke" in hit.advice
    assert TOKEN not in scan.model_dump_json()


def test_what_a_change_takes_away_is_no_hit() -> None:
    patch = f"@@ -1 +0,0 @@\n-token = '{TOKEN}'\n"
    assert scan_patches(redactor(), [FilePatch(path="a", patch=patch)]).hits == ()


def test_a_diff_that_cannot_be_had_is_not_complete() -> None:
    assert not scan_patches(redactor(), None).complete
    scan = scan_patches(redactor(), [FilePatch(path="logo.png", patch=None)])
    assert scan.unread == ("logo.png",)
    assert not scan.complete


def test_lines_of_a_file_are_counted_from_one() -> None:
    content = f"a\nb\n{TOKEN}\n{TOKEN} # gitleaks:allow\n".encode()
    (hit,) = scan_file(redactor(), "notes.txt", content)
    assert hit.line == 3
