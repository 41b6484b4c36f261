"""The grammar of slash commands in comments: text in, typed commands or clear errors out.

A command stands at the very start of a line: `/name argument "argument with spaces"`. One a line,
several a comment; names in any case. Not commands: what stands in quotes (`>`, also where such a
paragraph goes on without the mark), in fenced, indented or inline code, in HTML, between the tags
of an HTML element such as `<details>`, in HTML comments, and in the mail that an answer by mail
carries along; and lines that merely begin with a slash (`/etc/passwd`, `/ 2`). Where CommonMark
decides what is code or quote, markdown-it decides it here. Letters that only look like ours are
other letters.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.common.html_re import HTML_TAG_RE
from markdown_it.rules_core import StateCore

from domain.event import Command, CommandName
from web.problems import nearest, shown

MAX_COMMANDS = 20
"""Commands that one comment may give; nobody means more."""

_BLOCKS = frozenset({"fence", "code_block", "html_block"})
_WORD = re.compile(r"/([A-Za-z][A-Za-z0-9_-]*)[.,:;!?]?(?=[ \t]|$)")
_TAG = re.compile(
    r"<(?P<close>/?)(?P<name>details|blockquote|pre|code|table|ul|ol|dl|div|section|template|textarea"
    r"|script|style|del|s|strike|iframe|svg|math|select|button|kbd|samp)(?=[\s/>])[^<>]*>",
    re.IGNORECASE,
)
"""Tags of elements that hide, quote or strike out what stands between them."""
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_CODE = re.compile(r"(`+)[^`\n]+\1(?!`)")
_MAIL = re.compile(r"On .{5,300} wrote:|-{2,} ?(?:Original|Forwarded) [Mm]essage ?-{2,}")
_TICKS = re.compile(r"(?<!`)`+(?!`)")
_SPECIAL = re.compile(r"\\[\\`<]|`+|<!--|<(?=[A-Za-z])")


@dataclass(frozen=True)
class CommandError:
    """A line that was meant as a command and is none. `suggestion` is the nearest name, if any."""

    error: str
    line: int
    suggestion: str | None = None


def parse_comment(body: str) -> list[Command | CommandError]:
    """The commands of a comment in their order, and errors where one was misspelt. Never raises."""
    # half a surrogate pair, as a badly decoded stdin holds it, is no text
    text = body.encode("utf-8", "replace").decode()
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
    found: list[Command | CommandError] = []
    # most comments hold no command: leave them before the Markdown parser is asked
    if not any(_WORD.match(line) for line in text.split("\n")):
        return found
    for number, line in enumerate(_spoken(text), 1):
        match = _WORD.match(line)
        if match is None:
            continue
        if len(found) == MAX_COMMANDS:
            message = f"more than {MAX_COMMANDS} commands in one comment; this and the rest are not"
            found.append(CommandError(f"{message} read", number))
            break
        found.append(_command(match[1], line[match.end() :], number))
    return found


def as_json(found: Sequence[Command | CommandError]) -> list[dict[str, object]]:
    """For `comments parse`: `{command, args, line}` or `{error, line, suggestion}` each."""
    return [
        {"command": one.name.value, "args": list(one.args), "line": one.line}
        if isinstance(one, Command)
        else {"error": one.error, "line": one.line, "suggestion": one.suggestion}
        for one in found
    ]


def _command(word: str, rest: str, line: int) -> Command | CommandError:
    try:
        name = CommandName(word.lower())
    except ValueError:
        meant = nearest(word, [known.value for known in CommandName])
        hint = f"; did you mean /{meant}?" if meant else ""
        return CommandError(f"unknown command /{shown(word, 30)}{hint}", line, meant)
    args = _arguments(rest)
    if args is None:
        return CommandError(f"/{name.value}: a quote is opened and never closed", line, name.value)
    return Command(name=name, args=args, line=line)


def _arguments(text: str) -> tuple[str, ...] | None:
    """Words of a command line; None when a quote is left open.

    A quote counts only where a word begins, so that `can't` needs no care. Inside double quotes
    a backslash keeps the next quote or backslash.
    """
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] in "\"'":
            word, at = _quoted(text, at)
            if word is None:
                return None
            words.append(word)
        else:
            end = at
            while end < len(text) and not text[end].isspace():
                end += 1
            words.append(text[at:end])
            at = end
    return tuple(words)


def _quoted(text: str, start: int) -> tuple[str | None, int]:
    """The word in the quotes that open at `start`, and where it ends; None when they stay open."""
    quote = text[start]
    word: list[str] = []
    at = start + 1
    while at < len(text):
        if quote == '"' and text[at] == "\\" and text[at + 1 : at + 2] in ('"', "\\"):
            word.append(text[at + 1])
            at += 2
        elif text[at] == quote:
            return "".join(word), at + 1
        else:
            word.append(text[at])
            at += 1
    return None, at


def _block_parser() -> MarkdownIt:
    """CommonMark, blocks only: inline parsing is not needed and costs the most."""
    markdown = MarkdownIt("commonmark")
    markdown.core.ruler.enableOnly(["normalize", "block"])
    return markdown


_MARKDOWN = _block_parser()


def _spoken(text: str) -> list[str]:
    """The lines of the comment, blanked where they are code, HTML, comment or quote."""
    lines = text.split("\n")
    state = StateCore(text, _MARKDOWN, {})
    _MARKDOWN.core.process(state)
    paragraphs: list[tuple[int, int]] = []
    tagged: list[tuple[int, str]] = []
    quoted = 0
    for token in state.tokens:
        if token.type == "blockquote_open":
            quoted += 1
        elif token.type == "blockquote_close":
            quoted -= 1
        if token.map is None:
            continue
        first, end = token.map
        if token.type in _BLOCKS or (quoted and token.type == "inline"):
            if token.type == "html_block":
                tagged.append((first, _without_comments("\n".join(lines[first:end]))))
            lines[first:end] = [""] * (end - first)
        elif token.type == "inline":
            paragraphs.append((first, end))
    # what no paragraph or heading holds is seen by nobody: titles of link definitions
    seen = {number for first, end in paragraphs for number in range(first, end)}
    lines = [line if number in seen else "" for number, line in enumerate(lines)]
    for first, end in paragraphs:
        spoken = _without_spans("\n".join(lines[first:end]))
        lines[first:end] = spoken.split("\n")
        if "<" in spoken:
            tagged.append((first, _CODE.sub(_hidden, spoken)))
    for first, end in _inside_elements(sorted(tagged), len(lines)):
        lines[first:end] = [""] * (end - first)
    return _before_quoted_mail(lines)


def _inside_elements(tagged: list[tuple[int, str]], total: int) -> list[tuple[int, int]]:
    """Ranges of lines from the tag that opens an element to the one that closes it.

    One that is never closed reaches to the end, as browsers and forges close it there.
    """
    found: list[tuple[int, int]] = []
    open_: list[str] = []
    # by name, so that a heap of closing tags does not search the heap of open ones
    depth: Counter[str] = Counter()
    since = 0
    for first, text in tagged:
        line, at = first, 0
        for tag in _TAG.finditer(text):
            line += text.count("\n", at, tag.start())
            at = tag.start()
            name = tag["name"].lower()
            if not tag["close"]:
                since = since if open_ else line
                open_.append(name)
                depth[name] += 1
            elif depth[name]:
                closed = ""
                while closed != name:
                    closed = open_.pop()
                    depth[closed] -= 1
                if not open_:
                    found.append((since, line + 1))
    if open_:
        found.append((since, total))
    return found


def _before_quoted_mail(lines: list[str]) -> list[str]:
    """The lines up to the mail that an answer by mail carries along."""
    for number, line in enumerate(lines):
        if _MAIL.fullmatch(line.rstrip()):
            return lines[:number]
    return lines


def _without_comments(text: str) -> str:
    return _COMMENT.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return _blank(found[0])


def _without_spans(paragraph: str) -> str:
    """A paragraph with HTML comments, and code spans and tags that cross lines, blanked.

    A code span inside one line stays: it may be an argument, and it cannot hide a line's start.
    """
    pieces: list[str] = []
    at = 0
    spans = _Spans(paragraph)
    while (special := _SPECIAL.search(paragraph, at)) is not None:
        pieces.append(paragraph[at : special.start()])
        mark = special[0]
        if mark == "<!--":
            close = paragraph.find("-->", special.end())
            end = len(paragraph) if close < 0 else close + 3
            pieces.append(_blank(paragraph[special.start() : end]))
        elif mark.startswith("`"):
            end = spans.end(special)
            span = paragraph[special.start() : end]
            pieces.append(_blank(span) if "\n" in span else span)
        elif mark == "<":
            tag = HTML_TAG_RE.match(paragraph, special.start())
            end = tag.end() if tag is not None else special.end()
            # it stays a tag, and none of its lines begins with what it says
            pieces.append(paragraph[special.start() : end].replace("\n", "\n "))
        else:
            end = special.end()
            pieces.append(mark)
        at = end
    pieces.append(paragraph[at:])
    return "".join(pieces)


class _Spans:
    """Where code spans of a paragraph end. Each run of backticks is looked at once, or a comment
    of nothing but backticks would take minutes."""

    def __init__(self, paragraph: str) -> None:
        self._runs: dict[int, list[int]] = {}
        for run in _TICKS.finditer(paragraph):
            self._runs.setdefault(len(run[0]), []).append(run.start())

    def end(self, opening: re.Match[str]) -> int:
        """Where the span ends that these backticks open; without a match they are literal."""
        starts = self._runs.get(len(opening[0]), [])
        next_one = bisect_left(starts, opening.end())
        return starts[next_one] + len(opening[0]) if next_one < len(starts) else opening.end()


def _blank(text: str) -> str:
    """The line breaks of a text, so that lines keep their numbers, and a space, so that what
    follows does not come to stand at the start of a line."""
    return "\n" * text.count("\n") + " "
