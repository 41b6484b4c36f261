"""Where passwords without a shape of their own stand."""

from __future__ import annotations

import pytest

from tests.policy.redaction.making import redactor


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token=hunter2secret may", "hunter2"),
        ('{"password":"correct horse"}', "horse"),
        ("password: swordfish\n", "swordfish"),
        ("login with password 'swordfish9' ok", "swordfish9"),
        ("  DB_PASS: aHVudGVyMg==\n", "aHVud"),
        ("password: |\n  swordfish\n", "swordfish"),
        ("curl -u admin:hunter2pass https://example.com", "hunter2pass"),
        ("Set-Cookie: session=abcdef0123456789; Path=/", "abcdef01"),
        ("jdbc:postgresql://db/x?user=app&password=s3cr3tpw", "s3cr3tpw"),
        ("mysql -h db -u root -ps3cr3tpw", "s3cr3tpw"),
        ("Server=db;User Id=sa;Password=s3cr3t;", "s3cr3t"),
        ("machine example.com\nlogin ada\npassword s3cr3tpw\n", "s3cr3tpw"),
        ("//registry.example.com/:_authToken=abcdef0123456789abcdef", "abcdef01"),
        ('{"auths":{"r.io":{"auth":"YWRhOnMzY3IzdHB3"}}}', "YWRhOnMz"),
        ("redis://:s3cr3tpw@cache:6379/0", "s3cr3tpw"),
        ("mongodb+srv://app:p%40ssw0rd@db.example.com/x", "p%40ssw0rd"),
        ('{\n  "value": "Sup3r",\n  "type": "string",\n  "sensitive": true\n}', "Sup3r"),
        ("curl -H 'X-Api-Key: abcdef0123456789' https://example.com", "abcdef01"),
        ("Authorization: token abcdef0123456789", "abcdef01"),
        ("tool --password=s3cr3tpw --verbose", "s3cr3tpw"),
        ("sshpass -p s3cr3tpw ssh host", "s3cr3tpw"),
        ("docker login -u ada -p S3cr3tpw r.example.com", "S3cr3tpw"),
        ("- name: DB_PASSWORD\n  value: blue-Horse-77\n", "blue-Horse-77"),
        ('{"name":"DB_PASSWORD","value":"blue-Horse-77"}', "blue-Horse-77"),
        ("<password>blue-Horse-77</password>", "blue-Horse-77"),
    ],
)
def test_a_password_is_known_by_its_place(text: str, secret: str) -> None:
    out = redactor().redact(text)
    assert secret not in out
    assert "[redacted:" in out
    assert redactor().redact(out) == out


@pytest.mark.parametrize(
    "text",
    [
        "Send `Authorization: Bearer TOKEN` or `x-api-key: TOKEN`.",
        "- name: API_TOKEN\n  valueFrom:\n    secretKeyRef: {name: api, key: token}\n",
        "docker login -u $USER -p $TOKEN",
        "<secretName>db-creds</secretName><token>${TOKEN}</token>",
        '{"name":"token","value":"count"}',
    ],
)
def test_a_place_that_only_speaks_of_a_secret_is_left(text: str) -> None:
    assert redactor().redact(text) == text


def test_what_is_glued_to_a_secret_does_not_hide_it() -> None:
    token = "ghp_" + "k3J9xQ2mZ7vB1nR8tY4wL6pD0sF5hG3cA9eU"
    assert token not in redactor().redact("x" * 50 + token + "y" * 100)
