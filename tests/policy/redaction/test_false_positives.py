"""What is no secret stays as it is."""

from __future__ import annotations

import pytest

from bench.log_text import ordinary
from tests.policy.redaction.making import redactor


@pytest.mark.parametrize("seed", [7, 2026])
def test_ordinary_text_is_covered_less_than_once_a_megabyte(seed: int) -> None:
    data = ordinary(seed, 2_500_000)
    found = redactor().find(data)
    assert len(found) / (len(data) / 1e6) < 1, [(one.rule, one.secret) for one in found[:20]]


@pytest.mark.parametrize(
    "text",
    [
        "password: ${DATABASE_PASSWORD}",
        'password = os.environ["DATABASE_PASSWORD"]',
        "secretName: checkout-tls",
        "max_tokens=4096 prompt_tokens: 12",
        "uid: 6f1c9a52-7b1e-4a3c-9d0e-2f4b5c6d7e8f",
        "image: ghcr.io/acme/shop@sha256:" + "0123456789abcdef" * 4,
        '"integrity": "sha512-' + "q" * 86 + '=="',
        "failed login: invalid password for user alice",
        "automountServiceAccountToken: false",
        "Authorization header is missing",
        "postgres://db.example.com:5432/app",
        "https://example.com:8443/path?page_token=3",
        "git@github.com:acme/shop.git",
        "Enter password: ",
        "[redacted:github-pat:3f9a1c]",
        'token = "[redacted:github-pat:3f9a1c]"',
    ],
)
def test_ordinary_words_pass(text: str) -> None:
    assert redactor().redact(text) == text
