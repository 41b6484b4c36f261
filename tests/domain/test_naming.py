"""Which words in a command are names of runs and digests, and which are reasons."""

from __future__ import annotations

import pytest

from domain.naming import named

DIGEST = "7f7be1b63b467cb57b2f3a77ac10372c68e4ace941e26ff2082af63f26fa62b9"


@pytest.mark.parametrize(
    "word",
    [DIGEST, DIGEST.upper(), f"sha256:{DIGEST}", f"`{DIGEST}`", f"<{DIGEST}>", f"digest={DIGEST}",
     f"`sha256:{DIGEST}`.", f"#{DIGEST},"],
)  # fmt: skip
def test_a_name_is_read_in_whatever_it_is_wrapped(word: str) -> None:
    assert named(word) == DIGEST


def test_a_shortened_digest_is_a_name() -> None:
    assert named("7f7be1b6…") == "7f7be1b6"
    assert named("7f7be1b6...") == "7f7be1b6"


def test_what_calls_itself_a_digest_is_one_even_when_it_is_none() -> None:
    """It then names nothing that is asked, so that the vote does not count."""
    assert named("sha256:rubbish%") == "rubbish?"
    assert named("a" * 65) == "a" * 65


@pytest.mark.parametrize("word", ["looks", "good", "abc", "------", "->", "", "7f7b", "time:10"])
def test_ordinary_words_are_reasons(word: str) -> None:
    assert named(word) is None
