"""The read API: lists, one run in full, services, locks, events, and the shape of its errors."""

from __future__ import annotations

from uuid import UUID

import psycopg
import pytest

from tests.web.desk_twin import DEVELOPER, VIEWER, house
from tests.web.scene import HOSTILE, run_id
from web.receive import Refused


async def test_a_request_without_a_token_is_refused_with_a_sentence_and_a_hint() -> None:
    async with house() as h:
        for path in ("/api/runs", f"/api/runs/{run_id('asking')}", "/api/approvals", "/api/events",
                     "/api/locks", "/api/services"):  # fmt: skip
            answer = await h.get(path, token=None)
            assert answer.status_code == 401, path
            assert Refused.model_validate(answer.json()).hint


async def test_a_viewer_may_read_everything() -> None:
    async with house() as h:
        for path in ("/api/runs", "/api/approvals", "/api/events", "/api/locks", "/api/services"):
            assert (await h.get(path, VIEWER)).status_code == 200, path


async def test_runs_are_listed_newest_first_and_paged_to_the_last() -> None:
    async with house() as h:
        seen: list[str] = []
        before = ""
        for _ in range(10):
            told = (await h.get(f"/api/runs?limit=3{before}")).json()
            assert len(told["runs"]) <= 3
            seen += [run["id"] for run in told["runs"]]
            if told["next"] is None:
                break
            before = f"&before={told['next']}"
        assert len(seen) == len(set(seen)) == len(h.store.details)
        times = [h.store.details[one].run.created_at for one in map(UUID, seen)]
        assert times == sorted(times, reverse=True)


async def test_filters_are_combined() -> None:
    async with house() as h:
        told = (await h.get("/api/runs?state=waiting&service=checkout&repo=acme/checkout")).json()
        assert [run["id"] for run in told["runs"]] == [str(run_id("baking"))]
        told = (await h.get("/api/runs?state=waiting&service=search")).json()
        assert told == {"runs": [], "next": None}


async def test_a_misspelt_state_names_the_nearest_one() -> None:
    async with house() as h:
        answer = await h.get("/api/runs?state=need_approval")
        assert answer.status_code == 422
        assert "needs_approval" in answer.json()["hint"]
        assert answer.json()["path"] == "state"


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=100000", "limit=x", "before=nonsense", "repo=%00"]
)
async def test_a_wrong_parameter_is_named_and_not_repeated(query: str) -> None:
    async with house() as h:
        answer = await h.get(f"/api/runs?{query}")
        assert answer.status_code == 422
        told = answer.json()
        assert told["path"] == query.partition("=")[0]
        assert "nonsense" not in told["error"]


async def test_a_run_is_shown_with_all_that_the_database_can_prove() -> None:
    async with house() as h:
        told = (await h.get(f"/api/runs/{run_id('rolled-back')}")).json()
        assert told["state"] == "rolled_back"
        assert "8.1% errors" in told["reason"]
        decisions = {one["id"]: one for one in told["decisions"]}
        assert told["effects"]
        for effect in told["effects"]:
            allowed_by = decisions[effect["decision_id"]]
            assert allowed_by["decision"]["outcome"] == "allow"
            assert allowed_by["action_digest"] == effect["digest"]
        spent = {one["id"] for one in told["approvals"]}
        assert {e["approval_id"] for e in told["effects"] if e["approval_id"]} <= spent
        assert told["verdicts"][-1]["verdict"]["kind"] == "fail"
        assert told["path"][0]["node"] == "conductor"
        assert told["simulated"] == {
            "kubernetes": True, "metrics": True, "github": True, "notify": False,
        }  # fmt: skip


async def test_steps_say_how_far_they_are() -> None:
    async with house() as h:
        told = (await h.get(f"/api/runs/{run_id('rolled-back')}")).json()
        status = {step["id"]: step["status"] for step in told["steps"]}
        assert status["checkout/staging.full.check"] == "done"
        assert status["checkout/prod.canary-10.check"] == "failed"
        assert status["checkout/prod.canary-50.pods"] == "skipped"
        assert status["checkout/prod.rollback.stable"] == "done"
        told = (await h.get(f"/api/runs/{run_id('asking')}")).json()
        status = {step["id"]: step["status"] for step in told["steps"]}
        assert status["checkout/prod.canary-10.pods"] == "asked"
        assert status["checkout/prod.canary-10.weight"] == "pending"


async def test_a_run_is_found_by_the_beginning_of_its_id() -> None:
    async with house() as h:
        name = str(run_id("asking"))
        assert (await h.get(f"/api/runs/{name[:8]}")).json()["id"] == name
        assert (await h.get(f"/api/runs/{name[:8].upper()}")).json()["id"] == name


async def test_an_ambiguous_beginning_is_a_conflict_that_lists_candidates() -> None:
    async with house() as h:
        twin = h.store.details[run_id("asking")]
        other = UUID(str(run_id("asking"))[:-4] + "0000")
        h.store.add(twin.model_copy(update={"run": twin.run.model_copy(update={"id": other})}))
        answer = await h.get(f"/api/runs/{str(run_id('asking'))[:8]}")
        assert answer.status_code == 409
        assert str(other)[:13] in answer.json()["hint"]


NOBODY = "0b6f2c1e-5d0a-4c7e-9a51-3f1d2e4c5b6a"


@pytest.mark.parametrize("name", ["ab", "zzzzzzzz", "00000000", "%3Cscript%3E", NOBODY])
async def test_no_such_run_is_a_404_in_json(name: str) -> None:
    async with house() as h:
        answer = await h.get(f"/api/runs/{name}", accept="text/html")
        assert answer.status_code == 404
        assert Refused.model_validate(answer.json()).error


async def test_services_say_what_is_live_where_and_who_holds_the_lock() -> None:
    async with house() as h:
        services = (await h.get("/api/services")).json()["services"]
        checkout = next(one for one in services if one["name"] == "checkout")
        staging, prod = checkout["environments"]
        assert staging["live"]["image"].endswith(":4f2c1a9be07d")
        assert prod["live"]["image"].endswith(":1f00aa4"), "the bad one above it does not count"
        assert prod["lock"]["run_id"] == str(run_id("baking"))
        assert prod["lock"]["waiting"][0]["run_id"] == str(run_id("asking"))
        assert services[1]["environments"][0]["live"] is None
        locks = (await h.get("/api/locks")).json()["locks"]
        assert [one["key"] for one in locks] == ["checkout/prod"]


async def test_ignored_events_keep_their_reason() -> None:
    async with house() as h:
        events = (await h.get("/api/events?limit=100")).json()["events"]
        ignored = [one for one in events if one["status"] == "ignored"]
        assert ignored
        assert all(one["reason"] for one in ignored)


async def test_a_database_that_does_not_answer_is_a_503_that_says_to_come_back() -> None:
    async with house() as h:
        h.store.failure = psycopg.OperationalError("connection to 10.0.0.5 password=hunter2 failed")
        answer = await h.get("/api/runs")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "hunter2" not in answer.text


async def test_an_unknown_address_and_a_wrong_method_are_json_for_programs() -> None:
    async with house() as h:
        for path, status in (("/api/nothing", 404), ("/api/services", 405)):
            call = h.get(path) if status == 404 else h.post(path, {}, DEVELOPER)
            answer = await call
            assert answer.status_code == status
            assert Refused.model_validate(answer.json()).hint


async def test_the_openapi_document_is_tidy() -> None:
    async with house() as h:
        document = (await h.get("/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method, route in methods.items():
                place = f"{method} {path}"
                assert route.get("summary"), place
                assert route.get("tags"), place
                if path.startswith("/api/"):
                    schema = route["responses"]["200"]["content"]["application/json"]["schema"]
                    assert "$ref" in schema, place
                    refused = route["responses"]["401"]["content"]["application/json"]["schema"]
                    assert refused["$ref"].endswith("/Refused"), place
        assert not any(path.startswith("/runs") for path in document["paths"]), "pages stay out"


async def test_text_from_outside_comes_back_as_it_was() -> None:
    async with house() as h:
        answer = await h.get(f"/api/runs/{run_id('failed')}")
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.json()["title"] == HOSTILE
