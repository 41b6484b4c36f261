"""The forge against a local GitHub that checks the shape of every request."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest
from pydantic import SecretStr

from domain.action import GitCommentPr
from domain.errors import LeaseLost, OutcomeUnknown, Permanent, Temporary
from domain.repository import RepoFile
from domain.secret import FilePatch
from tests.servers.github import GitHubServer, Pull, Repo
from tests.servers.local import Fault
from tests.tools.forge_cases import QUICK, RUN, SECRET, Asked, comment, stamp
from tools.forge import GitHubForge
from tools.github_client import GitHubClient, Token
from tools.sticky_comment import MAX_CHARACTERS, understood

COMMENTS = r"/issues/7/comments$"


@pytest.fixture
async def github() -> AsyncIterator[GitHubServer]:
    async with GitHubServer(token=SECRET) as server:
        server.repos["acme/shop"] = Repo(pulls={7: Pull()})
        yield server


@pytest.fixture
async def client(github: GitHubServer) -> AsyncIterator[GitHubClient]:
    client = GitHubClient(Token(SecretStr(SECRET)), base_url=github.url, pace=QUICK)
    yield client
    await client.aclose()


@pytest.fixture
def forge(client: GitHubClient) -> GitHubForge:
    return GitHubForge(client)


def conversation(github: GitHubServer) -> list[str]:
    return [one.body for one in github.repos["acme/shop"].pulls[7].comments]


# --- one sticky comment --------------------------------------------------------------------------


async def test_the_first_comment_is_posted_with_marker_and_stamp(
    github: GitHubServer, forge: GitHubForge
) -> None:
    action, guard = comment(), Asked()
    applied = await forge.apply(action, stamp(action), guard)
    (body,) = conversation(github)
    assert body.startswith("<!-- fermata:release -->\n<!-- fermata-stamp run=")
    assert body.endswith("Deploying **checkout**.")
    assert applied.url.startswith("https://forge.example/comment/")
    assert not applied.simulated
    assert guard.times == 1


async def test_a_second_comment_of_the_marker_updates_the_first(
    github: GitHubServer, forge: GitHubForge
) -> None:
    for text in ("one", "two"):
        await forge.apply(comment(text), stamp(comment(text)), Asked())
    (body,) = conversation(github)
    assert body.endswith("two")


async def test_markers_have_a_comment_each(github: GitHubServer, forge: GitHubForge) -> None:
    for marker in ("release", "preview"):
        action = comment(marker=marker)
        await forge.apply(action, stamp(action), Asked())
    assert len(conversation(github)) == 2


async def test_nothing_is_sent_where_nothing_would_change(
    github: GitHubServer, forge: GitHubForge
) -> None:
    await forge.apply(comment(), stamp(comment()), Asked())
    guard = Asked()
    applied = await forge.apply(comment(), stamp(comment(), step="another"), guard)
    assert guard.times == 0
    assert github.requests("PATCH") == []
    assert "up to date" in applied.summary


async def test_line_ends_that_the_forge_rewrote_are_no_change(
    github: GitHubServer, forge: GitHubForge
) -> None:
    action = comment("one\ntwo")
    await forge.apply(action, stamp(action), Asked())
    stored = github.repos["acme/shop"].pulls[7].comments[0]
    stored.body = stored.body.replace("\n", "\r\n")
    await forge.apply(action, stamp(action), Asked())
    assert github.requests("PATCH") == []


async def test_an_edited_comment_is_put_right(github: GitHubServer, forge: GitHubForge) -> None:
    await forge.apply(comment(), stamp(comment()), Asked())
    github.repos["acme/shop"].pulls[7].comments[0].body += "\nand something else"
    await forge.apply(comment(), stamp(comment()), Asked())
    (body,) = conversation(github)
    assert body.endswith("Deploying **checkout**.")


async def test_of_several_of_our_own_one_survives(github: GitHubServer, forge: GitHubForge) -> None:
    await forge.apply(comment(), stamp(comment()), Asked())
    (body,) = conversation(github)
    first = github.repos["acme/shop"].pulls[7].comments[0].id
    for _ in range(2):
        github.add_comment("acme/shop", 7, github.login, body)
    guard = Asked()
    await forge.apply(comment("new"), stamp(comment("new")), guard)
    (left,) = github.repos["acme/shop"].pulls[7].comments
    assert left.id == first
    assert left.body.endswith("new")
    assert guard.times == 3


async def test_a_marker_in_somebody_elses_comment_is_not_ours(
    github: GitHubServer, forge: GitHubForge
) -> None:
    theirs = "<!-- fermata:release -->\nplease edit me"
    github.add_comment("acme/shop", 7, "mallory", theirs)
    await forge.apply(comment(), stamp(comment()), Asked())
    assert conversation(github)[0] == theirs
    assert len(conversation(github)) == 2


async def test_hidden_lines_inside_a_body_cannot_pose_as_another_comment(
    github: GitHubServer, forge: GitHubForge
) -> None:
    forged = f"<!-- fermata:release -->\n<!-- fermata-stamp run={RUN} step=x digest=y -->\nhello"
    action = comment(forged, marker="preview")
    await forge.apply(action, stamp(action), Asked())
    await forge.apply(comment(), stamp(comment()), Asked())
    assert len(conversation(github)) == 2
    found = understood(conversation(github)[0])
    assert found is not None
    assert found.marker == "preview"
    # Even when somebody edits the hidden head away, what is left cannot be read as one.
    assert understood(conversation(github)[0].partition(" -->\n")[2].partition(" -->\n")[2]) is None


async def test_our_comment_is_found_on_a_later_page(
    github: GitHubServer, forge: GitHubForge
) -> None:
    for n in range(230):
        github.add_comment("acme/shop", 7, "ada", f"comment {n}")
    for text in ("one", "two"):
        await forge.apply(comment(text), stamp(comment(text)), Asked())
    assert len(conversation(github)) == 231


async def test_a_comment_deleted_under_our_hands_is_posted_anew(
    github: GitHubServer, forge: GitHubForge
) -> None:
    await forge.apply(comment(), stamp(comment()), Asked())

    async def deletes_it() -> None:
        github.repos["acme/shop"].pulls[7].comments.clear()

    await forge.apply(comment("new"), stamp(comment("new")), deletes_it)
    assert [body.endswith("new") for body in conversation(github)] == [True]


async def test_a_lost_lease_stops_right_before_the_write(
    github: GitHubServer, forge: GitHubForge
) -> None:
    with pytest.raises(LeaseLost):
        await forge.apply(comment(), stamp(comment()), Asked(lost_at=1))
    assert github.requests("POST") == []


@pytest.mark.parametrize("length", [MAX_CHARACTERS - 300, MAX_CHARACTERS, 300_000])
async def test_a_long_body_is_cut_to_what_the_forge_takes(
    github: GitHubServer, forge: GitHubForge, length: int
) -> None:
    text = ("😀 line of the log\n" * (length // 17 + 1))[:length]
    action = comment(f"<details>\n\n```\n{text}\n```\n\n</details>")
    await forge.apply(action, stamp(action), Asked())
    (body,) = conversation(github)
    assert len(body) <= MAX_CHARACTERS
    was_cut = "**Cut here:**" in body
    assert was_cut == (length >= MAX_CHARACTERS)
    assert body.count("```") == 2
    assert body.count("<details>") == body.count("</details>") == 1
    await forge.apply(action, stamp(action), Asked())
    assert github.requests("PATCH") == []


async def test_a_body_with_half_characters_is_posted_without_them(
    github: GitHubServer, forge: GitHubForge
) -> None:
    action = comment("a\x00b\ud83dc")
    await forge.apply(action, stamp(comment()), Asked())
    assert conversation(github)[0].endswith("ab?c")


@pytest.mark.parametrize("marker", ["", "a b", "x-->", "a--b", "é", "m" * 65])
async def test_a_marker_that_could_end_its_line_is_refused(
    github: GitHubServer, forge: GitHubForge, marker: str
) -> None:
    action = comment(marker=marker)
    with pytest.raises(Permanent, match="cannot mark"):
        await forge.apply(action, stamp(comment()), Asked())
    assert github.seen == []


# --- reading back --------------------------------------------------------------------------------


async def test_what_was_done_is_found_again_by_its_stamp(
    github: GitHubServer, forge: GitHubForge
) -> None:
    action = comment()
    assert await forge.read_back(action, stamp(action)) is None
    await forge.apply(action, stamp(action, "a step -->/1"), Asked())
    assert await forge.read_back(action, stamp(action)) is None
    found = await forge.read_back(action, stamp(action, "a step -->/1"))
    assert found is not None
    assert found.url


async def test_a_post_whose_answer_was_lost_is_unknown_and_found_again(
    github: GitHubServer, forge: GitHubForge
) -> None:
    action = comment()
    github.faults.append(Fault("POST", COMMENTS, cut="after"))
    with pytest.raises(OutcomeUnknown):
        await forge.apply(action, stamp(action), Asked())
    assert len(github.requests("POST")) == 1
    assert await forge.read_back(action, stamp(action)) is not None


async def test_a_post_that_never_arrived_is_unknown_and_not_found(
    github: GitHubServer, forge: GitHubForge
) -> None:
    action = comment()
    github.faults.append(Fault("POST", COMMENTS, cut="before"))
    with pytest.raises(OutcomeUnknown):
        await forge.apply(action, stamp(action), Asked())
    assert await forge.read_back(action, stamp(action)) is None
    await forge.apply(action, stamp(action), Asked())
    assert len(conversation(github)) == 1


async def test_a_write_that_hangs_is_unknown(github: GitHubServer, forge: GitHubForge) -> None:
    github.faults.append(Fault("POST", COMMENTS, hang=True))
    with pytest.raises(OutcomeUnknown):
        await forge.apply(comment(), stamp(comment()), Asked())
    assert len(github.requests("POST")) == 1


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_server_error_on_a_write_is_temporary_and_not_repeated(
    github: GitHubServer, forge: GitHubForge, status: int
) -> None:
    github.faults.append(Fault("POST", COMMENTS, status=status, headers={"Retry-After": "7"}))
    with pytest.raises(Temporary, match=str(status)) as caught:
        await forge.apply(comment(), stamp(comment()), Asked())
    assert caught.value.retry_after == 7
    assert len(github.requests("POST")) == 1


LIMITS = [
    (403, {"Retry-After": "30"}, None, 30.0),
    (429, {"Retry-After": "30"}, None, 30.0),
    (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "RESET"}, None, 90.0),
    (429, {}, None, 60.0),
    (403, {}, {"message": "You have exceeded a secondary rate limit."}, 60.0),
    (429, {"Retry-After": "DATE"}, None, 90.0),
    (429, {"Retry-After": "99999999"}, None, 3600.0),
    (403, {"Retry-After": "soon"}, None, 60.0),
]


@pytest.mark.parametrize(("status", "headers", "body", "wait"), LIMITS)
async def test_a_rate_limit_is_temporary_and_says_how_long(
    github: GitHubServer,
    forge: GitHubForge,
    status: int,
    headers: dict[str, str],
    body: dict[str, str] | None,
    wait: float,
) -> None:
    later = {"RESET": str(int(time.time() + 90)), "DATE": formatdate(time.time() + 90, usegmt=True)}
    sent = {name: later.get(value, value) for name, value in headers.items()}
    github.faults.append(Fault("POST", COMMENTS, status=status, headers=sent, body=body))
    with pytest.raises(Temporary) as caught:
        await forge.apply(comment(), stamp(comment()), Asked())
    assert caught.value.retry_after == pytest.approx(wait, abs=3)


async def test_while_a_limit_lasts_nothing_more_is_asked(
    github: GitHubServer, forge: GitHubForge
) -> None:
    github.faults.append(Fault("GET", COMMENTS, status=429, headers={"Retry-After": "60"}))
    with pytest.raises(Temporary):
        await forge.apply(comment(), stamp(comment()), Asked())
    before = len(github.seen)
    with pytest.raises(Temporary) as caught:
        await forge.apply(comment(), stamp(comment()), Asked())
    assert await forge.head_sha("acme/shop", 7) is None
    assert len(github.seen) == before
    assert caught.value.retry_after == pytest.approx(60, abs=2)


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(401, "GITHUB_TOKEN"), (403, "write access"), (404, "services.yaml"), (410, "switched off"),
     (422, "refuses")],
)  # fmt: skip
async def test_a_refusal_is_permanent_and_says_what_would_help(
    github: GitHubServer, forge: GitHubForge, status: int, remedy: str
) -> None:
    told = {"message": "No.", "errors": [{"field": "body", "code": "invalid"}, "odd"]}
    github.faults.append(Fault("POST", COMMENTS, status=status, body=told))
    with pytest.raises(Permanent, match=r"No\.: body invalid") as caught:
        await forge.apply(comment(), stamp(comment()), Asked())
    assert remedy in caught.value.remedy


async def test_a_locked_conversation_is_permanent(github: GitHubServer, forge: GitHubForge) -> None:
    github.repos["acme/shop"].pulls[7].locked = True
    with pytest.raises(Permanent, match="locked"):
        await forge.apply(comment(), stamp(comment()), Asked())


async def test_a_server_that_is_not_there_is_temporary() -> None:
    async with GitHubServer() as gone:
        url = gone.url
    client = GitHubClient(Token(SecretStr(SECRET)), base_url=url, pace=QUICK)
    with pytest.raises(Temporary, match="cannot be reached"):
        await GitHubForge(client).apply(comment(), stamp(comment()), Asked())
    await client.aclose()


@pytest.mark.parametrize("url", ["ftp://forge.example", "forge.example/api"])
async def test_an_address_that_is_none_is_permanent(url: str) -> None:
    client = GitHubClient(Token(SecretStr(SECRET)), base_url=url, pace=QUICK)
    with pytest.raises(Permanent) as caught:
        await GitHubForge(client).apply(comment(), stamp(comment()), Asked())
    assert "GITHUB_API_URL" in caught.value.remedy
    await client.aclose()


async def test_a_page_that_is_not_json_is_permanent(
    github: GitHubServer, forge: GitHubForge
) -> None:
    github.faults.append(Fault("GET", "/user", status=200, body=["a", "list"], times=9))
    with pytest.raises(Permanent):
        await forge.apply(comment(), stamp(comment()), Asked())


async def test_a_read_that_fails_for_a_moment_is_repeated(
    github: GitHubServer, forge: GitHubForge
) -> None:
    github.faults += [Fault("GET", COMMENTS, status=502), Fault("GET", COMMENTS, cut="before")]
    await forge.apply(comment(), stamp(comment()), Asked())
    assert len(conversation(github)) == 1


async def test_no_error_and_no_representation_holds_the_token(
    github: GitHubServer, client: GitHubClient, forge: GitHubForge
) -> None:
    said = [repr(client), repr(forge), client.detail]
    for fault in (
        Fault("POST", COMMENTS, status=401, body={"message": "Bad credentials"}),
        Fault("POST", COMMENTS, status=500),
        Fault("POST", COMMENTS, cut="after"),
    ):
        github.faults.append(fault)
        with pytest.raises((Temporary, Permanent, OutcomeUnknown)) as caught:
            await forge.apply(comment(), stamp(comment()), Asked())
        said += [str(caught.value), repr(caught.value), getattr(caught.value, "remedy", "")]
        assert caught.value.__suppress_context__
        github.repos["acme/shop"].pulls[7].comments.clear()
    assert SECRET not in " ".join(said)


@pytest.mark.parametrize("repo", ["acme", "acme/shop/../..", "../x", "acme/..", "a b/c", ""])
async def test_a_name_that_is_no_repository_never_becomes_a_path(
    github: GitHubServer, forge: GitHubForge, repo: str
) -> None:
    action = GitCommentPr(repo=repo, number=7, marker="release", body="x")
    with pytest.raises(Permanent, match="is not a repository") as caught:
        await forge.apply(action, stamp(comment()), Asked())
    assert "owner/name" in caught.value.remedy
    assert github.requests("GET", "/repos") == []


# --- reading -------------------------------------------------------------------------------------


async def test_changed_paths_hold_both_names_of_a_renamed_file(
    github: GitHubServer, forge: GitHubForge
) -> None:
    github.repos["acme/shop"].pulls[7].files = [("b.py", None), ("new.py", "old.py")]
    assert await forge.changed_paths("acme/shop", 7) == ("b.py", "new.py", "old.py")


async def test_changed_paths_come_from_all_pages(github: GitHubServer, forge: GitHubForge) -> None:
    github.repos["acme/shop"].pulls[7].files = [(f"f{n:04}", None) for n in range(2999)]
    paths = await forge.changed_paths("acme/shop", 7)
    assert paths is not None
    assert len(paths) == 2999


@pytest.mark.parametrize("count", [3000, 3500])
async def test_more_files_than_the_forge_lists_are_unknown(
    github: GitHubServer, forge: GitHubForge, count: int
) -> None:
    github.repos["acme/shop"].pulls[7].files = [(f"f{n:04}", None) for n in range(count)]
    assert await forge.changed_paths("acme/shop", 7) is None


async def test_fewer_files_than_the_forge_counts_are_unknown(
    github: GitHubServer, forge: GitHubForge
) -> None:
    pull = github.repos["acme/shop"].pulls[7]
    pull.counted = 3
    assert await forge.changed_paths("acme/shop", 7) is None
    pull.counted = 0
    assert await forge.changed_paths("acme/shop", 7) == ()


async def test_diffs_are_read_and_a_file_without_one_is_unread(
    github: GitHubServer, forge: GitHubForge
) -> None:
    pull = github.repos["acme/shop"].pulls[7]
    pull.files = [("a.py", None), ("logo.png", None), ("moved.py", "old.py")]
    pull.patches = {"a.py": "@@ -1 +1,2 @@\n x\n+y"}
    wanted = (
        FilePatch(path="a.py", patch="@@ -1 +1,2 @@\n x\n+y"),
        FilePatch(path="logo.png", patch=None),
        FilePatch(path="moved.py", patch=""),
    )
    assert await forge.patches("acme/shop", 7) == wanted
    assert await forge.patches_between("acme/shop", "b" * 40, pull.head) == wanted


async def test_a_comparison_of_too_many_files_or_of_unknown_commits_is_unknown(
    github: GitHubServer, forge: GitHubForge
) -> None:
    pull = github.repos["acme/shop"].pulls[7]
    pull.files = [(f"f{n:04}", None) for n in range(300)]
    assert await forge.patches_between("acme/shop", "b" * 40, pull.head) is None
    assert await forge.patches_between("acme/shop", "b" * 40, "c" * 40) is None
    pull.counted = 301
    assert await forge.patches("acme/shop", 7) is None


async def test_a_file_is_read_at_a_commit_or_at_the_default_branch(
    github: GitHubServer, forge: GitHubForge
) -> None:
    path, base = ".fermata/policy.yaml", "d" * 40
    repo = github.repos["acme/shop"]
    repo.files = {base: {path: "version: 1 # ü\n".encode()}, "HEAD": {path: b"version: 1\n"}}
    assert await forge.file_text("acme/shop", path, base) == RepoFile(text="version: 1 # ü\n")
    assert await forge.file_text("acme/shop", path, None) == RepoFile(text="version: 1\n")


async def test_a_file_is_only_known_to_be_missing_where_the_commit_can_be_read(
    github: GitHubServer, forge: GitHubForge
) -> None:
    github.repos["acme/shop"].files = {"d" * 40: {"docs": ["a.md"], "bin": b"\xff\xfe"}}
    assert await forge.file_text("acme/shop", "CODEOWNERS", "d" * 40) == RepoFile(text=None)
    assert await forge.file_text("acme/shop", "CODEOWNERS", "e" * 40) is None
    assert await forge.file_text("acme/hidden", "CODEOWNERS", "d" * 40) is None
    assert await forge.file_text("acme/shop", "docs", "d" * 40) is None
    assert await forge.file_text("acme/shop", "bin", "d" * 40) is None


async def test_head_and_branch_are_read(github: GitHubServer, forge: GitHubForge) -> None:
    repo = github.repos["acme/shop"]
    repo.pulls[7].head = "b" * 40
    repo.branches["feature/a b"] = "c" * 40
    assert await forge.head_sha("acme/shop", 7) == "b" * 40
    assert await forge.branch_sha("acme/shop", "feature/a b") == "c" * 40
    assert await forge.branch_sha("acme/shop", "gone") is None


@pytest.mark.parametrize(
    ("permission", "role", "roles"),
    [
        ("admin", "admin", ("admin", "release-manager", "developer")),
        ("write", "maintain", ("release-manager", "developer")),
        ("write", "write", ("developer",)),
        ("write", "our-own-role", ("developer",)),
        ("read", "triage", ()),
        ("read", "read", ()),
        ("none", "none", ()),
        ("odd", "odd", None),
    ],
)
async def test_a_permission_on_the_repository_gives_roles(
    github: GitHubServer,
    forge: GitHubForge,
    permission: str,
    role: str,
    roles: tuple[str, ...] | None,
) -> None:
    github.repos["acme/shop"].permissions["ada"] = (permission, role)
    assert await forge.roles_of("acme/shop", "ada") == roles


async def test_what_cannot_be_read_is_unknown(github: GitHubServer, forge: GitHubForge) -> None:
    assert await forge.changed_paths("acme/other", 7) is None
    assert await forge.head_sha("acme/shop", 99) is None
    github.faults.append(Fault("GET", "/permission$", status=403))
    assert await forge.roles_of("acme/shop", "ada") is None
    github.faults.append(Fault("GET", "/pulls/7$", status=500, times=3))
    assert await forge.head_sha("acme/shop", 7) is None


async def test_an_unchanged_answer_is_not_sent_twice(
    github: GitHubServer, forge: GitHubForge
) -> None:
    assert await forge.head_sha("acme/shop", 7) == "a" * 40
    assert await forge.head_sha("acme/shop", 7) == "a" * 40
    assert github.not_modified == 1
    github.repos["acme/shop"].pulls[7].head = "d" * 40
    assert await forge.head_sha("acme/shop", 7) == "d" * 40
