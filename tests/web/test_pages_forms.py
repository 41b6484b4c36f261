"""Forms on the pages: votes and signals with a session, and what protects them."""

from __future__ import annotations

from typing import Any

from domain.approval import ApprovalState
from tests.web.desk_twin import DEVELOPER, MANAGER, House, house
from tests.web.scene import run_id


def pending(h: House) -> Any:
    return h.store.details[run_id("asking")].approvals[0]


async def test_a_vote_by_form_is_recorded_and_leads_back_to_the_run() -> None:
    async with house() as h:
        await h.sign_in(MANAGER)
        request = pending(h)
        answer = await h.submit(
            f"/approvals/{request.id}", decision="approve", digest=request.digest, comment="fine"
        )
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/runs/{run_id('asking')}?told=approve"
        (vote,) = pending(h).votes
        assert (vote.principal, vote.via, vote.comment) == ("grace", "page", "fine")
        page = await h.client.get(answer.headers["location"], headers={"accept": "text/html"})
        assert "Your approval was recorded." in page.text
        assert "grace" in page.text


async def test_a_vote_from_the_list_leads_back_to_the_list() -> None:
    async with house() as h:
        await h.sign_in(MANAGER)
        request = pending(h)
        answer = await h.submit(
            f"/approvals/{request.id}", decision="reject", digest=request.digest, next="/approvals"
        )
        assert answer.headers["location"] == "/approvals?told=reject"
        assert pending(h).state is ApprovalState.REJECTED


async def test_a_form_cannot_send_people_elsewhere() -> None:
    async with house() as h:
        await h.sign_in(MANAGER)
        request = pending(h)
        answer = await h.submit(
            f"/approvals/{request.id}",
            decision="approve",
            digest=request.digest,
            next="https://evil.example/",
        )
        assert answer.headers["location"].startswith("/runs/")


async def test_a_form_from_another_site_is_refused() -> None:
    async with house() as h:
        await h.sign_in(MANAGER)
        request = pending(h)
        answer = await h.submit(
            f"/approvals/{request.id}",
            origin="https://evil.example",
            decision="approve",
            digest=request.digest,
        )
        assert answer.status_code == 403
        assert "text/html" in answer.headers["content-type"]
        assert pending(h).votes == ()


async def test_a_form_without_a_session_is_refused() -> None:
    async with house() as h:
        answer = await h.submit(f"/approvals/{pending(h).id}", decision="approve", digest="x")
        assert answer.status_code == 401
        assert pending(h).votes == ()


async def test_a_refused_vote_is_a_page_with_the_reason_and_a_way_back() -> None:
    async with house() as h:
        await h.sign_in(DEVELOPER)
        request = pending(h)
        answer = await h.submit(
            f"/approvals/{request.id}", decision="approve", digest=request.digest
        )
        assert answer.status_code == 403
        assert "none of the roles that may vote here" in answer.text
        assert 'href="/approvals">Back' in answer.text


async def test_an_old_page_cannot_vote_on_what_it_did_not_show() -> None:
    async with house() as h:
        await h.sign_in(MANAGER)
        answer = await h.submit(f"/approvals/{pending(h).id}", decision="approve", digest="0" * 64)
        assert answer.status_code == 409
        assert "has changed" in answer.text
        assert pending(h).votes == ()


async def test_a_signal_by_form_is_sent_once_and_leads_to_the_run() -> None:
    async with house() as h:
        await h.sign_in(DEVELOPER)
        answer = await h.submit(f"/runs/{run_id('baking')}/signals", kind="hold", reason="look")
        assert answer.headers["location"] == f"/runs/{run_id('baking')}?told=signalled"
        assert len(h.log.accepted) == 1


async def test_nonsense_forms_are_pages_that_say_what_is_wrong() -> None:
    async with house() as h:
        await h.sign_in(MANAGER)
        path = f"/approvals/{pending(h).id}"
        assert (await h.submit(path, decision="perhaps")).status_code == 422
        assert (await h.submit(f"/runs/{run_id('baking')}/signals", kind="x")).status_code == 422
        answer = await h.client.post(path, json={}, headers={"origin": "http://testserver"})
        assert answer.status_code == 415


async def test_signing_out_ends_the_session() -> None:
    async with house() as h:
        await h.sign_in(DEVELOPER)
        html = {"accept": "text/html"}
        assert (await h.client.get("/", headers=html)).status_code == 200
        answer = await h.submit("/sign-out")
        assert answer.status_code == 303
        assert (await h.client.get("/", headers=html)).status_code == 401


async def test_a_wrong_token_keeps_the_way_back_and_says_where_to_look() -> None:
    async with house() as h:
        answer = await h.submit("/sign-in?next=/services", token="wrong", next="/services")
        assert answer.status_code == 401
        assert "not known" in answer.text
        assert 'name="next" value="/services"' in answer.text
        assert "wrong" not in answer.text.replace("wrong.", "")


async def test_a_vote_that_did_not_count_is_kept_in_sight() -> None:
    async with house() as h:
        await h.sign_in(DEVELOPER)
        request = pending(h)
        await h.submit(f"/approvals/{request.id}", decision="approve", digest=request.digest)
        page = (await h.page(f"/runs/{run_id('asking')}", MANAGER)).text
        assert "approve, not counted" in page
        assert "dana has none of the roles" in page
