"""The pages: what they show, that they escape, and that they stand without JavaScript."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import psycopg
import pytest

from domain.run import RunState
from tests.web.desk_twin import AUTHOR, DEVELOPER, MANAGER, VIEWER, House, house
from tests.web.scene import HOSTILE, run_id

EVERY_PAGE = (
    "/",
    "/approvals",
    "/events",
    "/services",
    "/docs",
    "/docs/releases",
    *(
        f"/runs/{run_id(scene)}"
        for scene in ("asking", "baking", "succeeded", "rolled-back", "denied", "failed", "queued")
    ),
)


class Outline(HTMLParser):
    """Collects what the tests ask about a page."""

    VOID = frozenset({"meta", "link", "input", "path", "circle", "rect", "polyline", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.crossed: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        else:
            self.crossed.append(tag)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def outline(html: str) -> Outline:
    parser = Outline()
    parser.feed(html)
    return parser


@pytest.mark.parametrize("path", EVERY_PAGE)
async def test_every_page_is_well_formed_and_accessible(path: str) -> None:
    async with house() as h:
        answer = await h.page(path)
        assert answer.status_code == 200
        page = outline(answer.text)
        assert (page.crossed, page.open) == ([], [])
        assert len(page.all("h1")) == len(page.all("main")) == 1
        assert page.all("html")[0]["lang"] == "en"
        ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
        assert len(ids) == len(set(ids))
        labelled = {attrs.get("for") for attrs in page.all("label")}
        for tag in ("input", "select"):
            for attrs in page.all(tag):
                assert attrs.get("type") == "hidden" or attrs["id"] in labelled
        assert all(attrs.get("scope") for attrs in page.all("th"))
        assert all(attrs.get("datetime") for attrs in page.all("time"))
        for attrs in page.all("svg"):
            assert attrs.get("aria-hidden") or attrs.get("role") == "img"
        for _, attrs in page.tags:
            for reference in (attrs.get("aria-labelledby") or "").split():
                assert reference in ids


@pytest.mark.parametrize("path", EVERY_PAGE)
async def test_no_page_needs_an_exception_from_the_content_policy(path: str) -> None:
    async with house() as h:
        answer = await h.page(path)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        page = outline(answer.text)
        for attrs in page.all("script"):
            assert str(attrs["src"]).startswith("/static/")
        assert page.all("style") == []
        for _, attrs in page.tags:
            assert "style" not in attrs
            assert not any(name.startswith("on") for name in attrs)
            for name in ("href", "src", "action"):
                assert not str(attrs.get(name) or "").lower().startswith("javascript:")


@pytest.mark.parametrize("path", ["/", f"/runs/{run_id('failed')}", "/events", "/approvals"])
async def test_text_from_outside_is_escaped_everywhere(path: str) -> None:
    async with house() as h:
        html = (await h.page(path)).text
        assert "<script>alert" not in html
        if path != "/approvals":
            assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
        assert HOSTILE not in html


async def test_a_rendered_comment_is_shown_as_text_in_full() -> None:
    async with house() as h:
        html = (await h.page(f"/runs/{run_id('asking')}")).text
        assert "### Releasing Faster basket totals" in html
        assert "&lt;!-- fermata:release --&gt;" in html


async def test_what_looks_like_a_secret_is_covered() -> None:
    async with house() as h:
        for path in ("/", f"/runs/{run_id('failed')}"):
            html = (await h.page(path)).text
            assert "hunter2secret" not in html
            assert "[redacted:" in html


async def test_the_banner_names_what_is_not_real_on_every_page() -> None:
    async with house() as h:
        for path in (*EVERY_PAGE, "/sign-in"):
            html = (await h.page(path)).text
            banner = html[html.index('class="banner"') : html.index("</aside>")]
            for name in ("kubernetes", "metrics", "github"):
                assert f">{name}</span>" in banner, path
            assert ">notify</span>" not in banner


async def test_a_list_says_state_author_targets_and_what_is_waited_for() -> None:
    async with house() as h:
        html = (await h.page("/?state=waiting")).text
        assert "Cache exchange rates" in html
        assert "by linus" in html
        assert "checkout/prod" in html
        assert "too little traffic so far" in html
        assert "in 3 min" in html
        assert "Faster basket totals" not in html


async def test_older_runs_are_behind_a_link_that_keeps_the_filters() -> None:
    async with house() as h:
        template = h.store.details[run_id("denied")]
        for number in range(45):
            update = {"id": run_id(f"more-{number}"), "title": f"more {number}"}
            h.store.add(template.model_copy(update={"run": template.run.model_copy(update=update)}))
        html = (await h.page("/?state=denied")).text
        (link,) = re.findall(r'rel="next" href="([^"]+)"', html)
        older = (await h.page(link.replace("&amp;", "&"))).text
        first = set(re.findall(r'<a href="/runs/([0-9a-f-]{36})"', html))
        second = set(re.findall(r'<a href="/runs/([0-9a-f-]{36})"', older))
        assert first
        assert second
        assert not first & second
        assert len(first | second) == h.store_count(RunState.DENIED)


async def test_an_empty_house_teaches_how_to_begin() -> None:
    async with house(empty=True) as h:
        html = (await h.page("/")).text
        assert "No runs yet" in html
        assert "curl http://testserver/event" in html
        assert "Nobody is waited for" in (await h.page("/approvals")).text
        assert "/webhooks/github" in (await h.page("/events")).text
        assert "services.yaml" in (await h.page("/services")).text


async def test_a_run_page_shows_plan_path_numbers_and_every_rule() -> None:
    async with house() as h:
        html = (await h.page(f"/runs/{run_id('rolled-back')}")).text
        page = outline(html)
        stages = re.findall(r"<h3>(checkout/\w+ [^<]+?)\s*<", html)
        assert stages == [
            "checkout/staging full", "checkout/prod before", "checkout/prod canary 10%",
            "checkout/prod canary 50%", "checkout/prod canary 100%", "checkout/prod full",
            "checkout/prod rollback",
        ]  # fmt: skip
        assert "8.1%" in html
        assert "4.1e7" in html
        assert "approval.granted" in html
        assert "rollback.always" in html
        assert "Opens" not in html
        lit = [attrs for attrs in page.all("path") if attrs.get("class") == "edge lit"]
        assert lit
        assert page.all("polyline")


async def test_a_denial_shows_rule_reason_and_remedy() -> None:
    async with house() as h:
        html = (await h.page(f"/runs/{run_id('denied')}")).text
        assert "windows.weekend" in html
        assert "Opens Mon 4 May 08:00; or /override &lt;reason&gt;." in html
        assert "approvals.prod" in html, "every rule that matched, not only the one that decided"


async def test_effects_lead_to_the_decision_and_the_approval_that_carried_them() -> None:
    async with house() as h:
        html = (await h.page(f"/runs/{run_id('succeeded')}")).text
        ids = set(re.findall(r'\bid="([^"]+)"', html))
        targets = re.findall(r'href="#((?:decision|approval)-[^"]+)"', html)
        assert {"decision", "approval"} == {target.partition("-")[0] for target in targets}
        assert set(targets) <= ids


async def test_a_finished_run_is_not_refreshed_and_an_open_one_is() -> None:
    async with house() as h:
        assert "data-live" not in (await h.page(f"/runs/{run_id('succeeded')}")).text
        assert "data-live" in (await h.page(f"/runs/{run_id('baking')}")).text


async def test_an_unchanged_page_is_answered_304() -> None:
    async with house() as h:
        path = f"/runs/{run_id('baking')}"
        first = await h.page(path)
        again = await h.get(path, **{"accept": "text/html", "if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        detail = h.store.details[run_id("baking")]
        moved = detail.run.model_copy(update={"reason": "something else"})
        h.store.add(detail.model_copy(update={"run": moved}))
        later = await h.get(path, **{"accept": "text/html", "if-none-match": first.headers["etag"]})
        assert later.status_code == 200


async def test_the_beginning_of_an_id_leads_to_the_run() -> None:
    async with house() as h:
        answer = await h.page(f"/runs/{str(run_id('asking'))[:8]}")
        assert answer.status_code == 302
        assert answer.headers["location"] == f"/runs/{run_id('asking')}"


async def test_services_show_last_known_good_bad_versions_and_the_line_for_the_lock() -> None:
    async with house() as h:
        html = (await h.page("/services")).text
        prod = html[html.index(">prod<") :]
        assert "ghcr.io/acme/checkout:1f00aa4" in prod
        assert "marked bad" in prod
        assert "Cache exchange rates" in prod


# --- problems ---


async def test_without_a_session_a_page_is_the_sign_in_form_that_leads_back() -> None:
    async with house() as h:
        answer = await h.page("/services?x=1", token=None)
        assert answer.status_code == 401
        assert 'name="next" value="/services"' in answer.text
        assert "admin-token" in answer.text


async def test_problems_are_pages_for_people_and_json_for_programs() -> None:
    async with house() as h:
        odd = await h.get("/nothing", accept="text/html", referer="http://[")
        assert odd.status_code == 404
        for path in ("/nothing", f"/runs/{run_id('nobody')}", "/docs/nothing", "/runs/x"):
            answer = await h.page(path)
            assert answer.status_code == 404, path
            assert "<h1>There is nothing here</h1>" in answer.text
            assert 'aria-label="Main"' in answer.text, "who is signed in keeps the navigation"
            assert (await h.get(path)).json()["error"]
        assert (await h.page("/?state=wating")).status_code == 422


async def test_a_dead_database_is_a_page_that_says_so() -> None:
    async with house() as h:
        h.store.failure = psycopg.OperationalError("host=db password=hunter2")
        answer = await h.page("/")
        assert answer.status_code == 503
        assert "The database does not answer" in answer.text
        assert "hunter2" not in answer.text


async def test_an_unforeseen_error_is_a_page_without_its_details() -> None:
    async with house() as h:
        h.store.failure = RuntimeError("secret detail")
        answer = await h.page("/")
        assert answer.status_code == 500
        assert "secret detail" not in answer.text
        assert answer.headers["content-security-policy"]


# --- docs and static files ---


async def test_docs_are_rendered_with_tables_and_links_between_pages() -> None:
    async with house() as h:
        html = (await h.page("/docs/releases")).text
        assert "<table>" in html
        assert "How a release runs" in html
        assert '<a href="/docs/releases">' in (await h.page("/docs")).text


@pytest.mark.parametrize(
    "name", ["../pyproject", "..%2F..%2Fsettings", "%2Fetc%2Fpasswd", "releases.md", "a/b/c"]
)
async def test_docs_never_leave_their_folder(name: str) -> None:
    async with house() as h:
        assert (await h.page(f"/docs/{name}")).status_code == 404


async def test_markdown_is_rendered_in_safe_mode(tmp_path: object) -> None:
    from web.docs import render

    html = render(
        "# T\n<script>x</script> [a](javascript:alert(1)) [b](other.md#part) "
        "![i](data:text/html;base64,x)",
        "folder/page",
    )
    assert "<script>" not in html
    assert 'href="javascript' not in html
    assert 'href="/docs/folder/other#part"' in html
    assert "data:text/html" not in html or 'src="data:text' not in html


async def test_static_files_are_cached_by_digest_only() -> None:
    async with house() as h:
        html = (await h.page("/")).text
        (style,) = re.findall(r'href="(/static/fermata\.css\?v=\w+)"', html)
        by_digest = await h.client.get(style)
        assert "immutable" in by_digest.headers["cache-control"]
        plain = await h.client.get("/static/fermata.css")
        assert plain.headers["cache-control"] == "no-cache"
        assert (await h.client.get("/static/../site.py")).status_code == 404
        assert (await h.client.get("/static/%2e%2e/site.py")).status_code == 404
        assert (await h.page("/")).headers["cache-control"] == "no-store"


# --- who sees what ---


async def _buttons(h: House, token: str, scene: str) -> set[str]:
    page = outline((await h.page(f"/runs/{run_id(scene)}", token)).text)
    votes = {str(attrs["value"]) for attrs in page.all("button") if attrs.get("value")}
    kinds = {str(a["value"]) for a in page.all("input") if a.get("name") == "kind"}
    return votes | kinds


async def test_buttons_are_there_for_those_whose_word_counts() -> None:
    async with house() as h:
        assert await _buttons(h, VIEWER, "asking") == set()
        assert await _buttons(h, DEVELOPER, "asking") == {"hold", "resume", "cancel"}
        everything = {"approve", "reject", "hold", "resume", "cancel", "override"}
        assert await _buttons(h, MANAGER, "asking") == everything
        assert await _buttons(h, AUTHOR, "asking") == everything - {"approve"}
        assert await _buttons(h, MANAGER, "denied") == {"retry", "override"}
        assert await _buttons(h, MANAGER, "succeeded") == set()


async def test_who_may_not_answer_is_told_why() -> None:
    async with house() as h:
        html = (await h.page(f"/runs/{run_id('asking')}", DEVELOPER)).text
        refusal = "dana has none of the roles that may vote here: release-manager."
        assert f"You cannot answer this. {refusal}" in html
