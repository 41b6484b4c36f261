"""Drawings of a rollback: what they show, who may see them, and files to look at."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from PIL import Image
from rich.console import Console

from domain.verdict import Measured, MetricWindow, VerdictKind
from tests.artifacts import keep
from tests.web.desk_twin import DEVELOPER, house
from tests.web.scene import run_id
from tests.web.scenes import measured, rolled_back
from web.pictures import draw, drawing_of
from web.sharing import PictureLinks
from web.terminal import render_run
from web.terminal_plots import render_windows

LINKS = PictureLinks(b"p" * 32)
BACK = run_id("rolled-back")


async def test_a_sealed_address_shows_the_drawing_to_whoever_has_it() -> None:
    async with house() as h:
        answer = await h.get(LINKS.path(str(BACK)), token=None)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/png"
        assert "public" in answer.headers["cache-control"]
        path = keep("rollback/rates.png", answer.content)
        with Image.open(path) as picture:
            assert picture.width > 900
            assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 20
        vector = await h.get(LINKS.path(str(BACK), "svg"), token=None)
        assert vector.headers["content-type"].startswith("image/svg+xml")
        keep("rollback/rates.svg", vector.content)
        text = " ".join(t.strip() for t in ET.fromstring(vector.text).itertext() if t.strip())
        assert "New tax engine" in text
        assert "rolled back" in text
        assert "errors · fail" in text


@pytest.mark.parametrize("seal", ["0" * 32, "", "x"])
async def test_a_wrong_seal_and_an_unknown_run_look_alike(seal: str) -> None:
    async with house() as h:
        path = LINKS.path(str(BACK))
        right = path.split("/")[3]
        wrong = await h.get(path.replace(right, seal or "none"), token=None)
        unknown = await h.get(LINKS.path("00000000-0000-4000-8000-00000000dead"), token=None)
        other = await h.get(path.replace(str(BACK), str(run_id("succeeded"))), token=None)
        assert (wrong.status_code, unknown.status_code, other.status_code) == (404, 404, 404)
        assert wrong.json() == unknown.json() == other.json()


async def test_people_who_are_signed_in_find_it_beside_the_run() -> None:
    async with house() as h:
        assert (await h.get(f"/runs/{BACK}/rates.svg", token=DEVELOPER)).status_code == 200
        assert (await h.get(f"/runs/{BACK}/rates.svg", token=None)).status_code == 401
        empty = await h.get(f"/runs/{run_id('denied')}/rates.png", token=DEVELOPER)
        assert empty.status_code == 404
        assert "Nothing has been measured" in empty.json()["error"]


def test_the_check_that_failed_is_drawn_and_foreign_text_is_no_mathematics() -> None:
    detail = rolled_back()
    windows = measured(detail, "prod.canary-10.check")
    named = detail.run.model_copy(update={"title": "Costs $5 & <b>$\\frac{1}{0}$</b>"})
    drawing = drawing_of(detail.model_copy(update={"run": named}), windows)
    assert drawing is not None
    assert drawing.panels[0].metric == "errors"
    assert drawing.panels[0].verdict is VerdictKind.FAIL
    text = " ".join(ET.fromstring(draw(drawing, "svg")).itertext())
    assert "Costs $5 & <b>" in text


def test_a_reason_that_quotes_a_query_with_anchors_is_drawn_word_for_word() -> None:
    detail = rolled_back()
    drawing = drawing_of(detail, measured(detail, "prod.canary-10.check"))
    assert drawing is not None
    said = 'refused (sum(x{path=~"^/pay$",code=~"^5..$"}))'
    text = " ".join(ET.fromstring(draw(replace(drawing, sentence=said), "svg")).itertext())
    assert said in text


def test_a_number_of_the_services_own_is_drawn_as_it_is_and_not_in_percent() -> None:
    detail = rolled_back()
    (step,) = measured(detail, "prod.canary-10.check")
    values = ((12.0, 10.0), (480.0, 11.0), (None, None), (510.0, -3.0))
    queue = tuple(
        MetricWindow(
            start=detail.run.created_at + timedelta(seconds=30 * index),
            seconds=30,
            metric="queue",
            kind="gauge",
            canary=None,
            stable=None,
            measured=Measured(canary=canary, stable=stable),
        )
        for index, (canary, stable) in enumerate(values)
    )
    drawing = drawing_of(detail, {step: queue})
    assert drawing is not None
    (panel,) = drawing.panels
    assert (panel.metric, panel.is_rate, panel.compared) == ("queue", False, True)
    assert panel.canary == (12.0, 480.0, None, 510.0)
    words = [one.strip() for one in ET.fromstring(draw(drawing, "svg")).itertext()]
    assert not [
        word for word in words if word.strip().endswith("%") and word.strip()[:-1].isdigit()
    ]
    keep("rates-of-a-number.png", draw(drawing, "png"))


async def test_the_terminal_shows_both_versions_over_time() -> None:
    async with house() as h:
        run = (await h.get(f"/api/runs/{BACK}")).json()
        steps = (await h.get(f"/api/runs/{BACK}/windows")).json()["steps"]
    out = Console(file=StringIO(), width=100, record=True, force_terminal=True)
    render_run(run, out)
    render_windows(run, steps, out)
    text = out.export_text(clear=False)
    assert "canary-10.check errors" in text
    assert "new version" in text
    assert any("\u2801" <= letter <= "\u28ff" for letter in text)
    keep("rollback/terminal.svg", out.export_svg(title="fermata runs show"))
