"""Addresses (URLs) that come from outside."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit


def split_address(text: str) -> SplitResult:
    """The parts of an address; none where it is no address, such as `http://[`."""
    try:
        return urlsplit(text)
    except ValueError:
        return SplitResult("", "", "", "", "")
