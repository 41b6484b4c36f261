"""The command line's own client: what cannot be sent is a sentence, and stays where it belongs."""

from __future__ import annotations

import pytest

from web.client import ApiRefused, Client, run_path


@pytest.mark.parametrize(
    ("url", "token", "words"),
    [
        ("http://[::1", None, "no address of a server"),
        ("http://127.0.0.1:1", "gehe\u00efm", "the token holds"),
        ("http://127.0.0.1:1", None, "no server answers"),
    ],
)
def test_what_cannot_be_sent_is_told(url: str, token: str | None, words: str) -> None:
    with pytest.raises(ApiRefused, match=words) as refused:
        Client(url, token).get("/api/runs")
    assert refused.value.hint
    assert "gehe" not in str(refused.value)


def test_the_name_of_a_run_reaches_no_other_address() -> None:
    assert run_path("3f2a91c0") == "/api/runs/3f2a91c0"
    assert run_path("../events?x\n") == "/api/runs/..%2Fevents%3Fx%0A"
