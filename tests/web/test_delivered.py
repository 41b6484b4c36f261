"""Headers of a delivery are those of any request."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from web.delivered import ReadHeaders

RAW = [(b"accept", b"a"), (b"accept", b"b"), (b"x-name", "ö".encode("latin-1"))]


@pytest.mark.parametrize("name", ["accept", "Accept", "x-name", "X-NAME", "missing"])
def test_a_header_is_the_one_that_any_headers_would_find(name: str) -> None:
    read, usual = ReadHeaders({"headers": RAW}), Headers(raw=RAW)
    assert read.get(name) == usual.get(name)
    assert read.get(name, "none") == usual.get(name, "none")
    assert (name in read) == (name in usual)
    assert read.getlist(name) == usual.getlist(name)
    assert dict(read) == dict(usual)


def test_a_missing_header_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        ReadHeaders({"headers": RAW})["missing"]
