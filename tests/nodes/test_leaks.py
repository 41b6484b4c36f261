"""What a change adds is looked through before anybody is asked about it."""

from __future__ import annotations

from dataclasses import dataclass

from domain.event import Actor
from domain.plan import Change
from domain.repository import RepoFile
from domain.secret import FilePatch
from nodes.leaks import Leaks
from tests.policy.redaction.making import credentials, redactor
from tools.forge_twin import ForgeTwin

TOKEN, _ = credentials()["personal access token"]
ADDS = FilePatch(path="app.py", patch=f"@@ -3,0 +4 @@\n+token = '{TOKEN}'")
CHANGE = Change(
    key="pr", title="x", repo="acme/shop", number=7, sha="a" * 40, author=Actor(login="ada")
)


@dataclass
class Forge(ForgeTwin):
    """A forge that can look, with the whole of one file."""

    text: str | None = None

    can_look: bool = True

    async def file_text(self, repo: str, path: str, ref: str | None) -> RepoFile | None:
        return None if self.text is None else RepoFile(text=self.text)


async def test_a_secret_in_the_diff_is_a_fact_of_the_change() -> None:
    forge = Forge(diffs={("acme/shop", 7): (ADDS,)})
    scan = await Leaks(forge, redactor()).of(CHANGE)
    assert scan is not None
    assert scan.complete
    assert [(one.file, one.line, one.rule) for one in scan.hits] == [("app.py", 4, "github-pat")]
    assert TOKEN not in scan.model_dump_json()


async def test_a_file_without_a_diff_is_fetched_whole() -> None:
    big = FilePatch(path="big.sql", patch=None)
    diffs: dict[tuple[str, int], tuple[FilePatch, ...]] = {("acme/shop", 7): (big,)}
    scan = await Leaks(Forge(diffs=diffs, text=f"-- one\n{TOKEN}\n"), redactor()).of(CHANGE)
    assert scan is not None
    assert scan.complete
    assert [(one.file, one.line) for one in scan.hits] == [("big.sql", 2)]
    unread = await Leaks(Forge(diffs=diffs), redactor()).of(CHANGE)
    assert unread is not None
    assert unread.unread == ("big.sql",)
    assert not unread.complete


async def test_what_cannot_be_looked_through_is_unknown_and_never_clean() -> None:
    assert await Leaks(ForgeTwin(), redactor()).of(CHANGE) is None
    hidden = await Leaks(Forge(), redactor()).of(CHANGE)
    assert hidden is not None
    assert not hidden.complete
    tag = CHANGE.model_copy(update={"number": None, "base_sha": None})
    nothing_before = await Leaks(Forge(), redactor()).of(tag)
    assert nothing_before is not None
    assert not nothing_before.complete
