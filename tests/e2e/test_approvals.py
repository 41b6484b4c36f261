"""Every way to bend an approval: each is refused with its reason, and each is on record.

Comments come as signed webhooks, votes through the API; roles, teams and heads are read from a
GitHub that can be told to fail.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from tests.e2e.api import Json, assert_every_effect_was_decided, changes_in
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.house import Town, open_town, slow_services
from tests.e2e.served import ROOT
from tests.servers.github import Comment, GitHubServer, Pull, Repo
from tests.servers.local import Fault

MONDAY_MORNING = datetime(2026, 3, 2, 9, 0, tzinfo=ZoneInfo("Europe/Berlin"))
REPO = "acme/checkout"
_NUMBERS = itertools.count(400)
_COMMENTS = itertools.count(70_001)


@dataclass(frozen=True)
class Place:
    """The town, and the GitHub that its people are on."""

    town: Town
    forge: GitHubServer

    def repo(self) -> Repo:
        return self.forge.repos[REPO]

    async def said(self, number: int, body: str, by: str, **changes: object) -> Json:
        """Somebody comments; what the webhook answers."""
        kind = str(changes.pop("kind", "User"))
        id_ = int(str(changes.pop("id", next(_COMMENTS))))
        self.repo().pulls.setdefault(number, Pull()).comments.append(Comment(id_, by, body))
        payload = comment(
            REPO, number, body, by=by, association="NONE", kind=kind, id=id_,
            **changes,  # type: ignore[arg-type]
        )  # fmt: skip
        answer = await self.town.admin.github("issue_comment", payload)
        assert answer.status_code == 202, answer.text
        return {**answer.json(), "comment": id_, "payload": payload}

    async def asking(self, *, opener: str = "ada") -> tuple[int, str, Json]:
        """(pull request, run, question) of a deployment of a head that waits for an approval."""
        number = next(_NUMBERS)
        self.repo().pulls[number] = Pull(
            head=sha_of(f"head {number}"), opener=opener, files=[("checkout/app.py", None)]
        )
        told = await self.said(number, "/deploy checkout prod", "dana")
        run = str(told["run_id"])
        return number, run, await self.town.admin.question(run)

    async def shown(self, question: Json) -> Json:
        """The request with everything that was refused."""
        return await self.town.admin.get(f"/api/approvals/{question['id']}")

    async def until(
        self, question: Json, what: str, there: Callable[[Json], bool], seconds: float = 40
    ) -> Json:
        """The request, once something is there."""

        async def look() -> Json:
            return await self.shown(question)

        return await self.town.admin.until_there(look, what, there, seconds)

    async def refused(self, question: Json, words: str) -> Json:
        """The refused vote or command whose reason holds the words."""

        def there(seen: Json) -> bool:
            return any(words in one for one in reasons(seen))

        seen = await self.until(question, f"a refusal with {words!r}", there)
        assert not seen["request"]["votes"]
        return seen

    def reactions(self, number: int, id: int) -> set[str]:
        """What was put under a comment."""
        found = next(one for one in self.repo().pulls[number].comments if one.id == id)
        return {content for _, content in found.reactions}

    def replies(self, number: int) -> str:
        """What we wrote on the pull request."""
        ours = self.forge.login
        return "\n".join(
            one.body for one in self.repo().pulls[number].comments if one.login == ours
        )


def reasons(seen: Json) -> list[str]:
    return [one["reason"] for one in (*seen["refused"], *seen["refusals"])]


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    data = tmp_path_factory.mktemp("approvals")
    policy = data / "policy.yaml"
    text = (ROOT / "policy.yaml").read_text()
    policy.write_text(
        text.replace("  teams: {}", "  teams: {acme/release-managers: [release-manager]}")
    )
    async with GitHubServer(token="ghp_local") as forge:
        forge.repos[REPO] = Repo(
            every_commit=True,
            permissions={
                "dana": ("write", "write"),
                "ada": ("admin", "admin"),
                "olga": ("admin", "admin"),
                "rita": ("read", "read"),
                "mallory": ("read", "read"),
                "wes": ("write", "write"),
            },
        )
        forge.teams["acme/release-managers"] = {"rita": "active"}
        async with open_town(
            data,
            MONDAY_MORNING,
            slow_services(data, "15m"),
            policy,
            github_token=SecretStr("ghp_local"),
            github_api_url=forge.url,
        ) as town:
            forge.repos[REPO].pulls[399] = Pull(files=[("checkout/app.py", None)])
            # production runs something, so that a change to it is an ordinary one
            run = await town.admin.started("pull_request", merged(REPO, 399, sha_of("first")))
            question = await town.admin.question(run)
            assert (await town.who("grace").vote(question)).status_code == 200
            await town.admin.until_over(run)
            yield Place(town, forge)


async def test_nobody_bends_an_approval(place: Place) -> None:
    number, run, question = await place.asking()
    head = place.repo().pulls[number].head
    request = (await place.shown(question))["request"]
    assert (request["head"], request["environment"]) == (head, "prod")
    assert len(request["plan_digest"]) == len(request["policy_digest"]) == 64

    # the person who asked for it, and the person whose code it is
    await place.said(number, "/approve", "dana")
    await place.refused(question, "dana made this change")
    told = await place.said(number, "/approve", "ada")
    await place.refused(question, "ada made this change")
    # too little of a role, on the forge and with a token
    await place.said(number, "/approve", "wes")
    await place.refused(question, "wes has none of the roles")
    await place.said(number, "/approve", "mallory")
    await place.refused(question, "mallory has none of the roles")
    answer = await place.town.who("vic").vote(question)
    assert answer.status_code == 403, answer.text
    await place.refused(question, "vic has none of the roles")
    # a digest that is made up, and one that is cut short
    await place.said(number, f"/approve {'deadbeef' * 8}", "olga")
    await place.refused(question, "The vote is for deadbeef")
    await place.said(number, f"/approve `sha256:{'cafebabe' * 8}` as agreed", "olga")
    await place.refused(question, "The vote is for cafebabe")
    forged = await place.town.who("grace").vote({**question, "digest": "f" * 64})
    assert forged.status_code == 409, forged.text
    await place.refused(question, "The vote is for ffff")
    short = await place.town.who("grace").vote({**question, "digest": question["digest"][:12]})
    assert short.status_code == 409, short.text
    # a comment from before the question
    before = datetime.now(UTC) - timedelta(hours=1)
    await place.said(number, "/approve", "olga", at=before)
    await place.refused(question, "older than the question")
    # what is not read at all
    edited = await place.said(number, "/approve", "olga", action="edited")
    bot = await place.said(number, "/approve", "helper[bot]", kind="Bot")
    assert (edited["status"], bot["status"]) == ("ignored", "ignored")
    lately = (await place.town.admin.get("/api/refusals"))["refusals"]
    kept = {(one["kind"], one["event_id"]) for one in lately}
    assert {("edited", edited["event_id"]), ("bot", bot["event_id"])} <= kept
    # the same delivery, the same body, and the same comment in another wrapping
    for changes in ({}, {"sender": {"login": "dana", "type": "User"}, "more": 1}):
        again = await place.town.admin.github("issue_comment", {**told["payload"], **changes})
        assert again.json()["status"] == "duplicate", again.text
    lately = (await place.town.admin.get("/api/refusals"))["refusals"]
    assert [one["kind"] for one in lately[:2]] == ["replayed", "replayed"]
    assert f"event {told['event_id']}" in lately[0]["reason"]
    # who says it cannot be found out
    place.forge.faults.append(Fault("GET", "/collaborators/olga/permission", 500, times=1000))
    await place.said(number, "/approve", "olga")
    await place.refused(question, "could not be found out what olga may do")
    place.forge.faults.clear()

    seen = await place.shown(question)
    assert seen["request"]["state"] == "pending"
    assert all(len(one["vote"]["statement"]) == 64 for one in seen["refused"])
    assert changes_in(await place.town.admin.run(run), "prod") == []
    page = await place.town.admin.http.get(
        f"{place.town.admin.url}/approvals",
        headers={"Authorization": f"Bearer {place.town.admin.token}"},
    )
    assert "older than the question" in page.text

    # after a push: the head is read again, and is another one
    place.repo().pulls[number].head = sha_of(f"pushed {number}")
    await place.said(number, "/approve", "olga")
    await place.refused(question, "head is")
    over = await place.town.admin.until_over(run)
    assert over["state"] == "denied", over["reason"]
    assert "change.head_moved" in over["reason"]
    assert changes_in(over, "prod") == []
    late = await place.town.who("grace").vote(question)
    assert late.status_code == 409, late.text


async def test_a_head_that_cannot_be_read_blocks(place: Place) -> None:
    number, run, question = await place.asking()
    place.forge.faults.append(Fault("GET", f"/pulls/{number}$", 500, times=1000))
    await place.said(number, "/approve", "olga")
    await place.refused(question, "could not be read whether")
    answer = await place.town.who("grace").vote(question)
    assert answer.status_code == 409, answer.text
    assert "could not be read" in answer.json()["error"]
    assert changes_in(await place.town.admin.run(run), "prod") == []
    place.forge.faults.clear()
    await place.town.admin.tell(run, "cancel")
    await place.town.admin.until_over(run)


async def test_a_member_of_the_team_approves_once_and_is_told_so(place: Place) -> None:
    number, run, question = await place.asking()
    misspelt = await place.said(number, "/aprove it", "rita")
    told = await place.said(number, f"/APPROVE {question['digest'][:10]} looks right", "rita")
    twice = await place.said(number, "/approve again", "rita")
    seen = await place.until(question, "the vote", lambda one: bool(one["request"]["votes"]))
    (vote,) = seen["request"]["votes"]
    assert (vote["principal"], vote["roles"]) == ("rita", ["release-manager"])
    assert vote["teams"] == ["acme/release-managers"]
    assert len(vote["statement"]) == 64
    seen = await place.until(question, "the second vote", lambda one: bool(one["refused"]))
    assert any("no longer pending" in one or "already voted" in one for one in reasons(seen))
    over = await place.town.admin.until_over(run)
    assert over["state"] == "succeeded", over["reason"]
    assert_every_effect_was_decided(over)
    assert (await place.shown(question))["request"]["state"] == "spent"

    async def look() -> Json:
        return {"reply": place.replies(number), **{
            str(one["comment"]): place.reactions(number, one["comment"])
            for one in (misspelt, told, twice)
        }}  # fmt: skip

    def answered(seen: Json) -> bool:
        return (
            {"eyes", "+1"} <= seen[str(told["comment"])]
            and "confused" in seen[str(misspelt["comment"])]
            and "confused" in seen[str(twice["comment"])]
            and "did you mean /approve?" in seen["reply"]
        )

    await place.town.admin.until_there(look, "the answers", answered, 60)
    listed = await place.town.admin.get("/api/runs", limit="200")
    assert all(one["goal"] != "answer" for one in listed["runs"])


async def test_an_answer_after_the_question_has_expired_counts_for_nothing(place: Place) -> None:
    _number, run, question = await place.asking()
    place.town.clock.jump(datetime.fromisoformat(question["expires_at"]) + timedelta(minutes=1))
    answer = await place.town.who("grace").vote(question)
    assert answer.status_code == 409, answer.text
    seen = await place.refused(question, "expire")
    assert seen["request"]["state"] in ("pending", "expired")
    assert changes_in(await place.town.admin.run(run), "prod") == []
    await place.town.admin.tell(run, "cancel")
    await place.town.admin.until_over(run)


async def test_help_and_explain_are_answered_in_words(place: Place) -> None:
    number, run, question = await place.asking()
    await place.said(number, "/help\n/explain", "dana")
    await place.said(number, "/explain", "mallory")

    async def look() -> Json:
        return {"reply": place.replies(number)}

    def answered(seen: Json) -> bool:
        return all(
            words in seen["reply"]
            for words in (
                "`/unlock SERVICE ENVIRONMENT [REASON…]`",
                "Roles of dana: developer.",
                "`approval.required`",
                question["digest"][:12],
                "mallory may not be told",
            )
        )

    await place.town.admin.until_there(look, "the answers", answered, 60)
    await place.town.admin.tell(run, "cancel")
    await place.town.admin.until_over(run)


async def test_unlock_takes_authority_where_the_holder_is_alive(place: Place) -> None:
    number, run, question = await place.asking()
    assert (await place.town.who("grace").vote(question)).status_code == 200
    await place.town.admin.until_step(run, "checkout/prod.canary-10.check")
    told = await place.said(number, "/unlock checkout prod stuck", "dana")
    refused = await place.town.admin.until_over(str(told["run_id"]))
    assert refused["state"] == "denied", refused["reason"]
    assert "unlock.alive" in refused["reason"]
    told = await place.said(number, "/unlock checkout prod really stuck", "olga")
    done = await place.town.admin.until_over(str(told["run_id"]))
    assert done["state"] == "succeeded", done["reason"]
    assert_every_effect_was_decided(done)
    over = await place.town.admin.until_over(run)
    assert over["state"] == "cancelled", over["reason"]
    locks = (await place.town.admin.get("/api/locks"))["locks"]
    assert not any(one["key"] == "checkout/prod" for one in locks)
