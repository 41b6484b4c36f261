"""Rule files in the gitleaks format: the shipped one, a user's, and ones that are wrong."""

from __future__ import annotations

import random
import re

import pytest

from domain.errors import SourceError
from policy.redaction.engine import Redactor
from policy.redaction.prefilter import hyperscan_or_none
from policy.redaction.rulefile import load_rules
from tests.policy.redaction.making import KEY, RULES, credentials, letters, redactor

DEFAULT = RULES.read_text(encoding="utf-8")


def with_rules(text: str, engine: str | None = None) -> Redactor:
    return Redactor(load_rules(text, "mine.toml", default=DEFAULT), key=KEY, engine=engine)


def test_the_shipped_rules_are_many_and_each_says_how_to_rotate() -> None:
    rules = redactor().rules.rules
    assert len(rules) >= 100
    assert len({one.id for one in rules}) == len(rules)
    assert all(len(one.advice) > 15 and one.keywords for one in rules)


SCHEMES = ("SSWS", "GenieKey", "Api-Key", "Splunk", "Bot", "DPoP", "OAuth", "My.Own-Scheme")
NAMES = (
    "app.credentials.admin.token",
    "credentials.session.token",
    "secret.login.key",
    "token_admin_key",
)


@pytest.mark.parametrize(
    "written",
    [
        *(f"Authorization: {one} {{}}" for one in SCHEMES),
        '{{"authorization": "SSWS {}"}}',
        'headers["Authorization"] = "Custom token={}"',
        *(f"{one}={{}}" for one in NAMES),
    ],
)
@pytest.mark.parametrize(
    "secret",
    ["8fK2mQ9xZ4vT7bN1cR5w", "5c9303d567ab4984aae699830fdfd226", "ac9832ab-d460-4984-aae6-9983"],
)
def test_schemes_and_names_that_are_not_in_any_list_give_nothing_away(
    written: str, secret: str
) -> None:
    assert secret not in redactor().redact(written.format(secret))


@pytest.mark.parametrize(
    "text",
    [
        "Authorization failed: user bob.smith-jones has no permission",
        "authorization: granted request_id=6f1c9a52-7b1e-4a3c-9d0e-2f4b5c6d7e8f",
        '"key": "uploads/6f1c9a52-7b1e-4a3c-9d0e-2f4b5c6d7e8f/photo.jpg"',
        "Cache restored from key: Linux-node-" + "0a1b2c3d4e5f6789" * 4,
    ],
)
def test_what_only_resembles_them_stays(text: str) -> None:
    assert redactor().redact(text) == text


@pytest.mark.parametrize(
    "shape",
    ["EAAC{110}", "123456789012345|{27}", "AAAAAAAAAAAAAAAAAAAAA{90}", "sl.u.{140}",
     "tskey-auth-{12}-{32}", "sha256~{43}", "p8e-{32}",
     "bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t",
     "4b1d{38}", "dnkey-{26}-{52}", "{6}_{29}_mmk", "tk-us-{48}", "AQVN{36}",
     "sm_pat_{16}", "eyJrIjoi{70}",
     "scauth_{10}.{4}.acc-{12}.{40}", "sat.{22}.{24}.{20}"],
)  # fmt: skip
def test_credentials_are_known_by_their_shape_alone(shape: str) -> None:
    rng = random.Random(9)
    token = re.sub(r"\{(\d+)\}", lambda m: letters(rng, int(m[1])), shape)
    out = redactor().redact(f"got {token} here")
    assert re.fullmatch(r"got \[redacted:[\w-]+:\w{6}\] here", out), out


def test_a_rule_of_the_users_finds_its_group_by_keyword_and_entropy() -> None:
    mine = with_rules(
        """
[[rules]]
id = "acme-token"
regex = '''acme-(\\w+)-([0-9a-z]{12})'''
secretGroup = 2
entropy = 2.5
keywords = ["acme"]
[[rules.allowlists]]
stopwords = ["example"]
"""
    )
    assert (
        mine.redact("acme-prod-k3j9x0q7m2ba")
        == f"acme-prod-{mine.redact('acme-prod-k3j9x0q7m2ba')[10:]}"
    )
    assert "k3j9x0q7m2ba" not in mine.redact("acme-prod-k3j9x0q7m2ba")
    assert mine.redact("acme-prod-aaaaaaaaaaaa") == "acme-prod-aaaaaaaaaaaa"
    assert mine.redact("acme-prod-example4k3j9") == "acme-prod-example4k3j9"


def test_the_shipped_rules_can_be_extended_changed_and_disabled() -> None:
    text = """
[extend]
useDefault = true
disabledRules = ["jwt", "jwe"]
[[allowlists]]
targetRules = ["github-pat"]
regexes = ['''^ghp_0{36}$''']
[[rules]]
id = "acme"
regex = '''(?i)acme[[:digit:]]{6}\\z'''
"""
    mine = with_rules(text)
    assert len(mine.rules.rules) == len(redactor().rules.rules) - 1
    jwt, _ = credentials()["web token"]
    assert mine.redact(jwt) == jwt
    assert mine.redact("is ACME123456").startswith("is [redacted:acme:")
    token, _ = credentials()["personal access token"]
    assert token not in mine.redact(token)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("[[rules]]\nid = 'a'\nregex = '''(?<=a)b'''\n", "mine.toml:3:12", "look-around"),
        ("[[rules]\n", "mine.toml:1:8", "TOML"),
        ("title = 'x'\n", "mine.toml:1:1", "no rules"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nregexp = 'c'\n", "mine.toml:4:1", "not understood"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nsecretGroup = 2\n", "mine.toml:4:1", "groups"),
        (
            "[[rules]]\nid = 'a'\nregex = 'b'\n[[rules]]\nid = 'a'\nregex = 'c'\n",
            "mine.toml:4",
            "taken",
        ),
        ("[extend]\nurl = 'https://x'\n", "mine.toml:2:1", "address"),
        ("[extend]\npath = 'other.toml'\n", "mine.toml:2:1", "cannot be brought in"),
        ("[[rules]]\nid = 'a'\nregex = 'b'\nentropy = 'high'\n", "mine.toml:4:1", "entropy"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place_and_a_hint(
    text: str, place: str, words: str
) -> None:
    with pytest.raises(SourceError) as refused:
        with_rules(text)
    said = str(refused.value)
    assert place in said
    assert words in said
    assert "hint: " in said


def test_without_hyperscan_the_same_is_found() -> None:
    if hyperscan_or_none() is None:
        pytest.skip("hyperscan is missing: pip install hyperscan, where it has a wheel")
    plain = redactor("re2")
    assert plain.engine == "re2"
    rng = random.Random(1)
    for text, _ in credentials().values():
        for data in (text, f"a {text} b", text.encode().hex(), f"{text[:9]}\n{text[9:]}"):
            data += rng.choice(("", "\n", " end\n"))
            assert plain.redact(data) == redactor().redact(data)
