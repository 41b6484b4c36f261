"""The token file of a running server: a change counts in a second, a mistake changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from domain.errors import SourceError
from web.token_file import TokenFile
from web.tokens import hash_token


@dataclass
class Watch:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def entry(token: str, name: str) -> str:
    return f"- {{hash: {hash_token(token)}, principal: {name}, roles: [developer]}}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    path.write_text(entry("one", "ada"))
    return path


def opened(path: Path) -> tuple[TokenFile, Watch]:
    watch = Watch()
    file = TokenFile.open(path)
    file.now = watch
    assert file.find("one") is not None
    return file, watch


def test_a_new_token_counts_and_one_that_is_gone_does_not(path: Path) -> None:
    file, watch = opened(path)
    path.write_text(entry("two", "bob"))
    assert file.find("two") is None, "the file is looked at once a second at most"
    watch.now += 1
    assert file.find("two") is not None
    assert file.find("one") is None
    assert file.problem == ""


@pytest.mark.parametrize(
    "bad",
    [
        "- {hash: short, principal: ada}\n",
        "- {hash: [\n",
        "just words",
        entry("one", "ada") + entry("one", "eve"),
        "- {token: in-clear, principal: ada, roles: [admin]}\n",
        "\x00",
    ],
)
def test_a_bad_file_keeps_the_old_tokens_whole_and_says_so(path: Path, bad: str) -> None:
    file, watch = opened(path)
    path.write_text(bad)
    watch.now += 1
    assert file.find("one") is not None
    assert "not in force" in file.problem
    assert "in-clear" not in file.problem
    # mended, it counts again
    path.write_text(entry("three", "cleo"))
    watch.now += 1
    assert file.find("three") is not None
    assert file.find("one") is None
    assert file.problem == ""


def test_a_file_that_is_gone_or_is_no_text_keeps_the_old_tokens(path: Path) -> None:
    file, watch = opened(path)
    path.unlink()
    watch.now += 1
    assert file.find("one") is not None
    assert "cannot be read" in file.problem
    path.write_bytes(b"\xff\xfe\xff")
    watch.now += 1
    assert file.find("one") is not None
    assert file.problem


def test_a_bad_file_stops_the_start(path: Path) -> None:
    path.write_text("- {hash: short, principal: ada}\n")
    with pytest.raises(SourceError):
        TokenFile.open(path)
    with pytest.raises(SourceError, match="FERMATA_TOKENS"):
        TokenFile.open(path.with_name("none"))


def test_a_token_may_name_its_owners_login_on_the_forge(path: Path) -> None:
    mark = hash_token("t")
    path.write_text(f"- {{hash: {mark}, principal: Ada L, login: ada-l, roles: [admin]}}")
    found = TokenFile.open(path).find("t")
    assert found is not None
    assert (found.principal.name, found.principal.person) == ("Ada L", "ada-l")
    path.write_text(f"- {{hash: {mark}, principal: ada, login: 'a/b', roles: [admin]}}")
    with pytest.raises(SourceError, match="login"):
        TokenFile.open(path)
