"""Chunk boundaries hide nothing, and change nothing."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from policy.redaction.engine import COVER
from policy.redaction.stream import Stream
from policy.redaction.units import MOST, OVERLAP
from tests.policy.redaction.making import credentials, private_key, redactor

WORDS = ("started", "token", "ok 200", "done", "AKIA", "gh", "password=", '"value": ', "x" * 40)
SECRETS = [text for text, _ in credentials().values()]
JOINTS = ("\n", " ", "\r\n", "\\\n", "\n    ", '" + "', ", ", "", "\x1b[0m", "%3D", "\u200b")


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Words and secrets, some of them torn, with all kinds of joints between."""
    parts = draw(
        st.lists(
            st.one_of(
                st.sampled_from(WORDS),
                st.sampled_from(SECRETS),
                st.sampled_from(JOINTS),
                st.sampled_from(SECRETS).map(lambda one: f"{one[:9]}\n{one[9:]}"),
                st.sampled_from(SECRETS).map(lambda one: one.encode().hex()),
                st.binary(max_size=12).map(lambda one: one.decode("latin-1")),
            ),
            max_size=30,
        )
    )
    return "".join(parts).encode("utf-8", "surrogatepass")


def streamed(data: bytes, sizes: list[int]) -> bytes:
    stream = Stream(redactor())
    out, at = [], 0
    for size in sizes:
        out.append(stream.feed(data[at : at + size]))
        at += size
    out.append(stream.feed(data[at:]))
    out.append(stream.close())
    return b"".join(out)


@settings(max_examples=60, deadline=None)
@given(texts(), st.lists(st.integers(0, 60), max_size=40))
def test_the_output_does_not_depend_on_the_pieces(data: bytes, sizes: list[int]) -> None:
    assert streamed(data, sizes) == redactor().redact_bytes(data)


@settings(max_examples=60, deadline=None)
@given(st.lists(texts(), max_size=6).map(b" ; ".join))
def test_redacting_twice_changes_nothing_more(data: bytes) -> None:
    once = redactor().redact_bytes(data)
    assert redactor().redact_bytes(once) == once


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=3000), st.lists(st.integers(0, 400), max_size=12))
def test_rubbish_passes_whatever_the_pieces(data: bytes, sizes: list[int]) -> None:
    assert streamed(data, sizes) == redactor().redact_bytes(data)


def test_a_line_without_an_end_is_looked_at_in_parts_that_overlap() -> None:
    rng = random.Random(3)
    secret = SECRETS[1]
    for place in (MOST - 20, MOST, MOST + OVERLAP - 10, MOST + OVERLAP, 3 * MOST):
        size = 4 * MOST
        line = ("lorem ipsum, " * (size // 13 + 1))[:size]
        data = (line[:place] + " " + secret + " " + line[place:]).encode()
        whole = redactor().redact_bytes(data)
        assert secret.encode() not in whole
        assert len(COVER.findall(whole)) == 1
        sizes = [rng.randint(1, 30_000) for _ in range(40)]
        assert streamed(data, sizes) == whole


def test_memory_stays_bounded_on_a_line_without_an_end() -> None:
    stream = Stream(redactor())
    out = 0
    for _ in range(100):
        out += len(stream.feed(b"lorem ipsum, " * 1000))
        assert stream.taken - out < 2 * (MOST + OVERLAP)
    assert out + len(stream.close()) == stream.taken


def test_a_private_key_goes_whole_however_it_arrives() -> None:
    data = f"before\n{private_key()}after\n".encode()
    for size in (1, 7, 64, 65, 1000):
        out = streamed(data, [size] * (len(data) // size + 1))
        assert b"".join(COVER.split(out)) == b"before\n\nafter\n"


def test_a_finished_line_goes_out_at_once() -> None:
    stream = Stream(redactor())
    assert stream.feed(b"2026-11-26 INFO (all is well).\n") == b"2026-11-26 INFO (all is well).\n"
    assert stream.feed(b"the next") == b""
