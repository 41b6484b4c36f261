"""A person with a browser: signs in, reads a run, approves; in light, dark and on a phone."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.async_api import Browser, Page, async_playwright, expect

from domain.approval import ApprovalState
from tests.web.desk_twin import ADMIN, DEVELOPER, MANAGER, House, furnish
from tests.web.scene import run_id
from web.site import TAGS

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PAGES = ("/", "/approvals", "/events", "/services", "/docs/releases")
SCENES = ("asking", "baking", "rolled-back", "denied", "failed")

LOW_CONTRAST = """
() => {
  const parse = (c) => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const back = (el) => {
    for (let at = el; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const el = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || el.closest("svg, script, option")) continue;
    if (!el.checkVisibility() || el.closest("[aria-hidden=true]")) continue;
    const style = getComputedStyle(el);
    const [a, b] = [light(parse(style.color)), light(back(el))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) {
      bad.push(`${ratio.toFixed(2)} ${el.className} ${walker.currentNode.textContent.trim()}`);
    }
  }
  return bad;
}
"""


@dataclass
class Site:
    """A served application and the twin behind it."""

    url: str
    house: House


@pytest.fixture
def site() -> Iterator[Site]:
    """API and pages over a twin of the store, served on a free port of loopback."""
    app = FastAPI(title="Fermata", docs_url=None, redoc_url=None, openapi_tags=TAGS)
    house = furnish(app)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield Site(f"http://127.0.0.1:{listening.getsockname()[1]}", house)
    server.should_exit = True
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
async def browser(program: Callable[[str], str]) -> AsyncIterator[Browser]:
    """Chromium, without a window."""
    async with async_playwright() as play:
        started = await play.chromium.launch(executable_path=program("chromium"), args=list(FLAGS))
        yield started
        await started.close()


@asynccontextmanager
async def visit(browser: Browser, **how: Any) -> AsyncIterator[Page]:
    """A page of its own; whatever its console complains about fails the test."""
    context = await browser.new_context(**how)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    await context.close()
    assert complaints == []


async def sign_in(page: Page, site: Site, token: str) -> None:
    """As the link that the first start prints does."""
    await page.goto(f"{site.url}/sign-in?token={token}")
    await expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_visible()


async def test_somebody_signs_in_reads_the_plan_and_approves(site: Site, browser: Browser) -> None:
    async with visit(browser) as page:
        await page.goto(f"{site.url}/sign-in?next=/approvals")
        await page.get_by_label("Token", exact=True).fill(MANAGER)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page).to_have_url(f"{site.url}/approvals")
        await page.get_by_role("link", name="Runs", exact=True).click()
        await page.get_by_role("link", name="Faster basket totals").click()
        await expect(page.get_by_role("heading", name="Waiting for an answer")).to_be_visible()
        await expect(page.locator("[aria-current=step]")).to_contain_text("asked")
        await page.get_by_label("Comment").fill("staging looks fine")
        await page.get_by_role("button", name="Approve").click()
        await expect(page.get_by_role("status")).to_contain_text("Your approval was recorded")
        await expect(page.get_by_role("button", name="Approve")).to_have_count(0)
        await expect(page.locator("[data-part=approvals]")).to_contain_text("staging looks fine")
    (vote,) = site.house.store.details[run_id("asking")].approvals[0].votes
    assert (vote.principal, vote.decision, vote.via) == ("grace", "approve", "page")


async def test_everything_works_without_javascript(site: Site, browser: Browser) -> None:
    async with visit(browser, java_script_enabled=False) as page:
        await sign_in(page, site, MANAGER)
        await page.get_by_label("State", exact=True).select_option("needs_approval")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_role("link", name="Faster basket totals").click()
        await page.get_by_role("button", name="Reject").click()
        await expect(page.get_by_role("status")).to_contain_text("Your rejection was recorded")
    request = site.house.store.details[run_id("asking")].approvals[0]
    assert request.state is ApprovalState.REJECTED


async def test_an_open_run_refreshes_itself_and_leaves_what_is_being_written(
    site: Site, browser: Browser
) -> None:
    async with visit(browser) as page:
        await sign_in(page, site, MANAGER)
        await page.goto(f"{site.url}/runs/{run_id('asking')}")
        await page.get_by_label("Comment").fill("half a sentence")
        await page.get_by_text("In words").click()
        detail = site.house.store.details[run_id("asking")]
        told = detail.run.model_copy(update={"reason": "Something new has happened."})
        site.house.store.add(detail.model_copy(update={"run": told}))
        await expect(page.locator(".reason")).to_have_text("Something new has happened.")
        await expect(page.get_by_label("Comment")).to_have_value("half a sentence")
        await expect(page.locator("#way")).to_have_attribute("open", "")


async def test_an_override_asks_for_a_reason_before_anything_is_sent(
    site: Site, browser: Browser
) -> None:
    async with visit(browser) as page:
        await sign_in(page, site, ADMIN)
        await page.goto(f"{site.url}/runs/{run_id('baking')}")
        steer = page.locator("[data-part=steer]")
        await steer.locator("summary", has_text="Override").click()
        await steer.get_by_role("button", name="Override").click()
        assert site.house.overrides.added == []
        await page.locator("#reason-override").fill("customers cannot pay")
        await steer.get_by_role("button", name="Override").click()
        await expect(page.get_by_role("status")).to_be_visible()
    assert site.house.overrides.added[0][3] == "customers cannot pay"


async def test_the_keyboard_reaches_the_content_first(site: Site, browser: Browser) -> None:
    async with visit(browser) as page:
        await sign_in(page, site, DEVELOPER)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
async def test_pages_are_legible_and_never_scroll_sideways(
    site: Site, browser: Browser, scheme: Literal["light", "dark"], width: int
) -> None:
    size = {"width": width, "height": 800}
    async with visit(browser, color_scheme=scheme, viewport=size) as page:
        await sign_in(page, site, MANAGER)
        for path in (*PAGES, *(f"/runs/{run_id(scene)}" for scene in SCENES)):
            await page.goto(site.url + path)
            await page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert await page.evaluate(LOW_CONTRAST) == [], path
            assert await page.evaluate("document.documentElement.scrollWidth") == width, path
