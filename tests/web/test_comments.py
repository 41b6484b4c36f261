"""The grammar of slash commands."""

from __future__ import annotations

import gc
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.event import Command, CommandName
from web.comments import MAX_COMMANDS, CommandError, as_json, parse_comment


def names(body: str) -> list[str]:
    """Names of the commands found; `!` for an error."""
    return [one.name.value if isinstance(one, Command) else "!" for one in parse_comment(body)]


@pytest.mark.parametrize(
    ("body", "command", "args"),
    [
        ("/approve", "approve", ()),
        ("/APPROVE", "approve", ()),
        ("/Deploy checkout prod", "deploy", ("checkout", "prod")),
        ("/deploy\tcheckout   prod  ", "deploy", ("checkout", "prod")),
        ('/override "pager storm" now', "override", ("pager storm", "now")),
        ("/override 'pager storm' now", "override", ("pager storm", "now")),
        (r'/reject "say \"no\" \\ twice"', "reject", (r'say "no" \ twice',)),
        ("/reject can't do that", "reject", ("can't", "do", "that")),
        ('/reject ""', "reject", ("",)),
        ("/approve, thanks", "approve", ("thanks",)),
        ("/approve.", "approve", ()),
        ("/deploy `checkout` prod", "deploy", ("`checkout`", "prod")),
        ("/hold <!-- between us --> please", "hold", ("please",)),
        ("/approve \N{GRINNING FACE}", "approve", ("\N{GRINNING FACE}",)),
    ],
)
def test_a_command_line_is_read(body: str, command: str, args: tuple[str, ...]) -> None:
    assert parse_comment(body) == [Command(name=CommandName(command), args=args, line=1)]


@pytest.mark.parametrize("name", list(CommandName))
def test_every_command_name_is_understood(name: CommandName) -> None:
    assert parse_comment(f"/{name.value}") == [Command(name=name, line=1)]


def test_several_commands_keep_their_order_and_line_numbers() -> None:
    found = parse_comment("Looks good.\r\n/approve\r\n\r\nand\r/hold\n/deploy checkout prod")
    assert as_json(found) == [
        {"command": "approve", "args": [], "line": 2},
        {"command": "hold", "args": [], "line": 5},
        {"command": "deploy", "args": ["checkout", "prod"], "line": 6},
    ]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "please /approve this",
        " /approve",
        "- /approve",
        "/etc/passwd is world readable",
        "/ approve",
        "//approve",
        "/123",
        "/approve/all",
        "/\uff41pprove",
        "> /approve",
        ">/approve",
        "> quoted\n> /approve",
        "> > /approve",
        "```\n/approve\n```",
        "```sh\n/approve\n```",
        "~~~\n/approve\n~~~",
        "````\n```\n/approve\n```\n````",
        "```\n/approve",
        "   ```\n/approve\n   ```",
        "    /approve",
        "\t/approve",
        "`/approve`",
        "use `\n/approve\n` here",
        "a ``\n/approve ` still\n`` b",
        "<!-- /approve -->",
        "<!--\n/approve\n-->",
        "text <!-- more\n/approve\n-->",
        "<!--\n/approve",
        "<!--\n\n/approve\n\n-->",
        "<pre>\n/approve\n</pre>",
        "one <!-- a\nb -->/approve",
        "one `a\nb`/approve",
        "1. step\n   ```\n   /approve\n   ```",
        # a paragraph of a quote goes on without the mark
        "> can we ship?\n/approve",
        "> > deeper\n> less\n/approve",
        "<details>\n\n/approve\n\n</details>",
        "<details><summary>log</summary>\n\n- a\n\n/approve\n\n</details>",
        "<details>\n<details>\n\n</details>\n\n/approve\n\n</details>",
        "<DETAILS open>\n\n/approve",
        "look: <details>\n/approve\n</details>",
        "look: <details\nopen>\n\n/approve",
        # what stands in a tag, or in the title of a link's definition, is seen by nobody
        '<a title="\n/approve\n">here</a>',
        '[docs]: https://example.org "\n/approve\n"',
        "<blockquote>\n\n/approve\n\n</blockquote>",
        "<del>\n\n/approve\n\n</del>",
        "<table><tr><td>\n\n/approve\n\n</td></tr></table>",
        "On Thu, 26 Nov 2026 at 10:00, bob <b@example.org> wrote:\n\n/approve",
        "thanks\n\n-----Original Message-----\n/approve",
        "\uff0fapprove",
        "\u2044approve",
        "/\u0430pprove",
        "/appr\u200bove",
        "\u200b/approve",
        "\ufeff/approve",
        "text\u2028/approve",
        "text\x0b/approve",
        "text\x85/approve",
        "~~~\n```\n~~~~\n~~~ x\n```\n/approve",
        "- - /approve",
        "* a\n  * /deploy checkout prod",
        "1) /approve",
        "| /approve |\n|---|",
    ],
)
def test_no_command_is_found(body: str) -> None:
    assert parse_comment(body) == []


@pytest.mark.parametrize(
    "body",
    [
        "```\ncode\n```\n/approve",
        "> can we ship?\n\n/approve",
        "- a list\n\n/approve",
        "<!-- note -->\n/approve",
        "text <!-- note -->\n/approve",
        "an odd ` backtick\n/approve",
        "escaped \\`a\n/approve\n`",
        "<details>\n\nlong\n\n</details>\n\n/approve",
        "about `<details>` and more\n/approve",
        "```\n<details>\n```\n/approve",
        "<!-- <details> -->\n\n/approve",
        "</details>\n\n/approve",
        "On Monday Bob wrote the test.\n/approve",
        "/approve\n\nOn Thu, 26 Nov 2026 at 10:00, bob <b@example.org> wrote:\n\n> /hold\n/hold",
        "# Review\n/approve",
        "`a` and `b`\n/approve",
    ],
)
def test_code_and_quotes_end_where_markdown_ends_them(body: str) -> None:
    assert names(body) == ["approve"]


@pytest.mark.parametrize(
    ("word", "suggestion"),
    [("aprove", "approve"), ("DEPLYO", "deploy"), ("rollbak", "rollback"), ("lgtm", None)],
)
def test_an_unknown_command_names_the_nearest(word: str, suggestion: str | None) -> None:
    (error,) = parse_comment(f"hello\n/{word} x")
    assert isinstance(error, CommandError)
    assert (error.line, error.suggestion) == (2, suggestion)
    assert f"/{word}" in error.error


def test_an_open_quote_is_an_error_and_the_other_lines_still_count() -> None:
    found = as_json(parse_comment('/override "no end\n/hold'))
    assert found[0]["suggestion"] == "override"
    assert "quote" in str(found[0]["error"])
    assert found[1] == {"command": "hold", "args": [], "line": 2}


def test_text_that_was_decoded_badly_is_read_all_the_same() -> None:
    assert parse_comment("/approve \udcff\n\udcff/hold") == [
        Command(name=CommandName.APPROVE, args=("?",), line=1)
    ]


def test_the_number_of_commands_is_bounded() -> None:
    found = parse_comment("/hold\n" * 500)
    assert len(found) == MAX_COMMANDS + 1
    assert isinstance(found[-1], CommandError)
    assert found[-1].line == MAX_COMMANDS + 1


COMMAND_LINES = st.sampled_from(["/approve", "/deploy checkout prod", "/aprove", "/Hold now"])
PROSE = st.text(alphabet=st.characters(exclude_characters="`~<>/\\\n\r"), max_size=30)
MARKUP = st.lists(
    st.one_of(
        COMMAND_LINES,
        PROSE,
        st.sampled_from(
            ["```", "~~~~", "> ", ">", "    ", "- ", "<!--", "-->", "`", "``", "<details>", "\\`"]
        ),
        st.just("\n"),
    ),
    max_size=40,
).map("".join)


@given(st.text() | st.text(st.characters(categories=["Cs", "L"])) | MARKUP)
def test_any_text_is_read_without_an_error_and_each_find_stands_at_its_line(body: str) -> None:
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for one in parse_comment(body):
        line = lines[one.line - 1]
        assert line.startswith("/")
        if isinstance(one, Command):
            assert line[1:].lower().startswith(one.name.value)


@given(st.lists(COMMAND_LINES | PROSE, max_size=8), st.sampled_from(["```", "~~~", "`````"]))
def test_nothing_inside_a_fence_is_ever_a_command(inside: list[str], fence: str) -> None:
    code = "\n".join(inside)
    assert parse_comment(f"before\n\n{fence}\n{code}\n{fence}\n\nafter") == []


@given(st.lists(COMMAND_LINES | PROSE, min_size=1, max_size=8))
def test_nothing_quoted_or_indented_or_commented_out_is_ever_a_command(inside: list[str]) -> None:
    flat = [line.replace("\x85", " ") for line in inside]
    assert parse_comment("\n".join(f"> {line}" for line in flat)) == []
    assert parse_comment("\n".join(f"    {line}" for line in flat)) == []
    assert parse_comment("<!--\n" + "\n".join(flat) + "\n-->") == []


@given(st.lists(COMMAND_LINES | PROSE, max_size=8))
def test_a_command_after_closed_code_is_always_found(before: list[str]) -> None:
    code = "\n".join(before)
    last = parse_comment(f"```\n{code}\n```\n\n/cancel")[-1]
    assert isinstance(last, Command)
    assert last.name is CommandName.CANCEL


PILES = {
    "lines of text": "some words here\n",
    "commands": "/hold\n",
    "misspelt commands": "/aprove\n",
    "quotes": "> a\n/approve\n",
    "one deep quote": ">",
    "lists": "- a\n",
    "deeper lists": "- ",
    "fences": "```\n/approve\n",
    "tildes": "~~~\n",
    "backticks": "` `` ``` ```` ` ",
    "unclosed comments": "a <!-- b ",
    "closed comments": "a <!-- b --> ",
    "details": "<details>\n\n/approve\n\n",
    "closing tags": "</details>\n\n",
    "tags that close nothing": "<details></ul>",
    "half tags": "<details ",
    "escapes": "\\`\\<",
    "brackets": "[[[[](",
    "references": "[a]: b\n",
    "quotes in arguments": '/override "a\n',
    "setext": "a\n=\n",
    "mail": "On a b c wrote\n",
}


@pytest.mark.parametrize("pile", list(PILES))
def test_the_time_grows_with_the_length_and_no_faster(pile: str) -> None:
    """A comment of four times the length may take four times as long, with room for noise; what
    grows with the square would take sixteen. The best of three is the least disturbed; the garbage
    collector, which looks through all that other tests have left behind, is not measured."""

    def taken(characters: int) -> float:
        body = "/help\n\n" + (PILES[pile] * (characters // len(PILES[pile]) + 1))[:characters]
        spent = []
        for _ in range(3):
            gc.collect()
            gc.disable()
            start = time.process_time()
            parse_comment(body)
            spent.append(time.process_time() - start)
            gc.enable()
        return min(spent)

    small, large = taken(16_000), taken(64_000)
    assert large < 0.1 + 10 * small, (small, large)


def test_runs_of_backticks_of_every_length_are_read_in_time() -> None:
    body = "/help\n\n" + " ".join("`" * length for length in range(1, 350))
    start = time.process_time()
    assert names(body) == ["help"]
    assert time.process_time() - start < 1.0


def test_ten_thousand_lines_are_read_in_time() -> None:
    body = "\n".join(f"line {number}" for number in range(10_000)) + "\n\n/approve"
    start = time.process_time()
    assert as_json(parse_comment(body)) == [{"command": "approve", "args": [], "line": 10_002}]
    assert time.process_time() - start < 3.0
