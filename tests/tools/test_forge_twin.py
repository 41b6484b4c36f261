"""The forge without credentials."""

from __future__ import annotations

from uuid import UUID

import pytest

from domain.action import GitCommentPr, Notify, action_digest
from domain.effect import Stamp
from domain.errors import LeaseLost, Permanent
from tools.forge_twin import ForgeTwin
from tools.sticky_comment import MAX_CHARACTERS

RUN = UUID("00000000-0000-4000-8000-000000000001")


def comment(body: str = "Deploying", marker: str = "release") -> GitCommentPr:
    return GitCommentPr(repo="acme/shop", number=7, marker=marker, body=body)


def stamp(action: GitCommentPr, step: str = "s") -> Stamp:
    return Stamp(run_id=RUN, step_id=step, digest=action_digest(action), decision_id=RUN)


async def allow() -> None:
    return None


async def test_a_comment_is_rendered_and_said_to_be_simulated() -> None:
    applied = await ForgeTwin().apply(comment(), stamp(comment()), allow)
    assert applied.simulated
    assert applied.summary == "dry run: comment on acme/shop#7 rendered"
    assert applied.data == {"body": "Deploying"}


async def test_one_comment_is_kept_per_marker_with_its_newest_words() -> None:
    twin = ForgeTwin()
    for body, marker in (("one", "release"), ("two", "release"), ("three", "preview")):
        await twin.apply(comment(body, marker), stamp(comment(body, marker)), allow)
    assert set(twin.comments) == {("acme/shop", 7, "release"), ("acme/shop", 7, "preview")}
    assert twin.comments["acme/shop", 7, "release"].endswith("two")


async def test_what_was_rendered_is_found_by_its_stamp() -> None:
    twin = ForgeTwin()
    assert await twin.read_back(comment(), stamp(comment())) is None
    await twin.apply(comment(), stamp(comment()), allow)
    assert await twin.read_back(comment(), stamp(comment())) is not None
    assert await twin.read_back(comment(), stamp(comment(), "another")) is None


async def test_the_rules_of_the_real_forge_hold() -> None:
    twin = ForgeTwin()
    with pytest.raises(Permanent, match="cannot mark"):
        await twin.apply(comment(marker="a b"), stamp(comment()), allow)
    await twin.apply(comment("x" * 100_000), stamp(comment()), allow)
    assert len(twin.comments["acme/shop", 7, "release"]) <= MAX_CHARACTERS
    with pytest.raises(Permanent, match="notify"):
        await twin.apply(Notify(channel="c", severity="info", title="t", text=""),
                         stamp(comment()), allow)  # fmt: skip


async def test_a_lost_lease_renders_nothing() -> None:
    async def lost() -> None:
        raise LeaseLost("another worker has it")

    twin = ForgeTwin()
    with pytest.raises(LeaseLost):
        await twin.apply(comment(), stamp(comment()), lost)
    assert twin.comments == {}


async def test_nothing_is_known_but_what_was_put_in() -> None:
    twin = ForgeTwin()
    assert await twin.changed_paths("acme/shop", 7) is None
    assert await twin.head_sha("acme/shop", 7) is None
    assert await twin.branch_sha("acme/shop", "main") is None
    assert await twin.roles_of("acme/shop", "ada") is None
    told = ForgeTwin(
        paths={("acme/shop", 7): ("a",)},
        heads={("acme/shop", 7): "h"},
        branches={("acme/shop", "main"): "b"},
        roles={("acme/shop", "ada"): ("admin",)},
    )
    assert await told.changed_paths("acme/shop", 7) == ("a",)
    assert await told.head_sha("acme/shop", 7) == "h"
    assert await told.branch_sha("acme/shop", "main") == "b"
    assert await told.roles_of("acme/shop", "ada") == ("admin",)
