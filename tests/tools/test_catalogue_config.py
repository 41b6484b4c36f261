"""services.yaml about configuration that belongs to versions, and about waiting."""

from __future__ import annotations

import pytest

from domain.configuration import ConfigObjects
from tests.tools.test_catalogue import GOOD, findings
from tests.tools.test_catalogue_delivery import CLOUDY
from tools.catalogue import load_catalogue


def with_workload(lines: str) -> str:
    return GOOD + "    workload:\n" + "".join(f"      {one}\n" for one in lines.splitlines())


def test_objects_and_waits_are_part_of_the_workload() -> None:
    text = with_workload(
        "config: {configmaps: [shop], secrets: [a.b, tokens], keep: 3}\n"
        "progress_deadline: 5m\nshare_wait: 0s"
    )
    (service,) = load_catalogue(text, "services.yaml").services
    workload = service.workload
    assert workload.config == ConfigObjects(configmaps=("shop",), secrets=("a.b", "tokens"), keep=3)
    assert (workload.progress_deadline_seconds, workload.share_wait_seconds) == (300, 0)
    (plain,) = load_catalogue(GOOD, "services.yaml").services
    assert plain.workload.config is None
    assert plain.workload.progress_deadline_seconds == 600
    assert plain.workload.share_wait_seconds is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (with_workload("config: {configmaps: []}"), "it names nothing"),
        (with_workload("config: {secrets: [a, a]}"), "Secret a is named twice"),
        (with_workload("config: {secrets: [Tokens]}"), "cannot be the name of a ConfigMap"),
        (
            with_workload("config: {configmaps: [a, a-0123456789]}"),
            "a-0123456789 cannot be told from a copy of a",
        ),
        (with_workload("config: {configmaps: [a], keep: 0}"), "greater than or equal to 1"),
        (with_workload("progress_deadline: 0s"), "a window needs some length"),
        (CLOUDY + "      config: {configmaps: [a]}\n", "by the kubernetes executor"),
    ],
)
def test_what_cannot_be_is_told_at_its_line(text: str, said: str) -> None:
    assert any(said in str(one) for one in findings(text))
