"""Rule files in the gitleaks format: the shipped one, a user's, and ones that are wrong."""

from __future__ import annotations

import random

import pytest

from domain.errors import SourceError
from policy.redaction.engine import Redactor
from policy.redaction.prefilter import hyperscan_or_none
from policy.redaction.rulefile import load_rules
from tests.policy.redaction.making import KEY, RULES, credentials, redactor

DEFAULT = RULES.read_text(encoding="utf-8")


def with_rules(text: str, engine: str | None = None) -> Redactor:
    return Redactor(load_rules(text, "mine.toml", default=DEFAULT), key=KEY, engine=engine)


def test_the_shipped_rules_are_many_and_each_says_how_to_rotate() -> None:
    rules = redactor().rules.rules
    assert len(rules) >= 100
    assert len({one.id for one in rules}) == len(rules)
    assert all(len(one.advice) > 15 and one.keywords for one in rules)


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
