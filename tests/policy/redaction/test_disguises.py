"""No disguise hides a credential, and what is left cannot be decoded to it."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.redaction.disguise import Mark, unescaped, unmasked
from policy.redaction.engine import COVER
from tests.policy.redaction.disguises import DISGUISES, NOT_FOR_NAMES
from tests.policy.redaction.making import KNOWN, credentials, private_key, redactor

_ESCAPES = ["%", "25", "41", "\\", "u0041", "U00000041", "u{41}", "x41", "101", "n", "/", "a"]
_ENTITIES = ["&", "#65", "#x41", ";", "amp", "lt", "colon", "q=blue", " "]
_NOISE = re.compile(r"\x1b\[[0-9;]*m|[^!-~]|[\\\"+]")


def leaks(out: str, secret: str) -> bool:
    """Whether the secret, or a long part of it, can be read in what is left."""
    flat = _NOISE.sub("", out)
    size = min(len(secret), 12)
    parts = {secret[n : n + size] for n in range(len(secret) - size + 1)}
    encoded = (base64.b64encode(secret.encode()).decode(), secret.encode().hex())
    return any(one in flat for one in parts) or any(
        one.rstrip("=")[:14].lower() in flat.lower() for one in encoded
    )


@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_credential_survives(disguise: str) -> None:
    survived = []
    for name, (text, secret) in credentials().items():
        if disguise in NOT_FOR_NAMES and text != secret:
            continue
        for around in ("{}", "before {} after\n", "line\n{}\nline\n"):
            data = around.format(DISGUISES[disguise](text)).encode("utf-8", "surrogatepass")
            out = redactor().redact_bytes(data)
            if not COVER.search(out) or leaks(out.decode("utf-8", "replace"), secret):
                survived.append((name, around))
            assert redactor().redact_bytes(out) == out
    assert survived == []


@pytest.mark.parametrize("disguise", sorted(DISGUISES.keys() - NOT_FOR_NAMES - {"letters apart"}))
def test_a_secret_of_the_settings_is_known_by_heart(disguise: str) -> None:
    secret = KNOWN[0].secret.decode()
    data = f"said {DISGUISES[disguise](secret)} to all".encode("utf-8", "surrogatepass")
    out = redactor().redact_bytes(data)
    assert b"[redacted:known-secret:" in out
    assert not leaks(out.decode("utf-8", "replace"), secret)


def test_the_same_secret_has_the_same_fingerprint_in_every_disguise() -> None:
    text, _ = credentials()["personal access token"]
    marks = {
        COVER.search(redactor().redact_bytes(hide(text).encode())).group(0)  # type: ignore[union-attr]
        for hide in DISGUISES.values()
    }
    assert len(marks) == 1


def test_private_keys_go_whole_in_all_their_forms() -> None:
    key = private_key()
    body = key.splitlines()[5]
    for text in (
        key,
        key.replace("\n", "\\n"),
        "\n".join(f"    {line}" for line in key.splitlines()),
        base64.b64encode(key.encode()).decode(),
        base64.encodebytes(key.encode()).decode(),
        key.encode().hex(),
        "".join(f'  "{line}\\n"\n' for line in key.splitlines()),
        f"client-key-data: {base64.b64encode(key.encode()).decode()}",
        key[: len(key) // 2],
        key.replace("RSA ", "").replace("PRIVATE", "RSA PRIVATE"),
    ):
        out = redactor().redact_bytes(text.encode())
        assert not leaks(out.decode(), body), text[:60]


def test_a_run_of_blanks_costs_no_more_than_its_length() -> None:
    for data in (
        b"token ghp_abc" + b" " * 60_000 + b"\nx",
        (b'" + ' + b" " * 50) * 1000,
        b"a=\n" * 9000,
    ):
        redactor().redact_bytes(data)  # the suite's time limit is the assertion


@given(st.lists(st.sampled_from(_ESCAPES + _ENTITIES), max_size=12).map("".join))
def test_the_first_look_at_escapes_misses_nothing(text: str) -> None:
    line = text.encode()
    view = next(unmasked(line, {Mark.ESCAPED: [1]}), None)
    first = unescaped(line)
    # What it resolves otherwise still shows an escape, which gets the line a closer look.
    assert first == (view.data if view else line) or re.search(rb"%[0-9a-fA-F]{2}", first)


def test_an_escape_in_an_access_line_hides_nothing_behind_parameters() -> None:
    text, secret = credentials()["personal access token"]
    for escape in (f"%{ord(text[4]):02x}", f"%25{ord(text[4]):02x}", f"&#{ord(text[4])};"):
        hidden = text[:4] + escape + text[5:]
        line = (
            f'10.0.0.7 "GET /login?page=45&q=blue%20shoes&t={hidden}&z=1 HTTP/1.1" (X11; Linux)\n'
        )
        out = redactor().redact_bytes(line.encode())
        assert COVER.search(out)
        assert not leaks(out.decode(), secret)
