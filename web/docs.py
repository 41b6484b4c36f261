"""The pages of `docs/`, rendered in safe mode: raw HTML stays text, links are the web's or ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup

PAGE = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,60}[a-z0-9])?(?:/[a-z0-9][a-z0-9_-]{0,60})?")
"""Names of pages, at most one folder deep; nothing that could leave the folder."""

_LOCAL = re.compile(r"(?P<page>[A-Za-z0-9_/-]+)\.md(?P<part>#[\w-]*)?")
_HEADING = re.compile(r"^#\s+(.+?)\s*#*$", re.M)


def pages(folder: Path) -> tuple[tuple[str, str], ...]:
    """(name, heading) of every page, in alphabetical order of names."""
    files = sorted(folder.glob("**/*.md")) if folder.is_dir() else []
    named = ((file.relative_to(folder).with_suffix("").as_posix(), file) for file in files)
    return tuple((name, heading(file)) for name, file in named if PAGE.fullmatch(name))


def find(folder: Path, name: str) -> Path | None:
    """The file of a page; None for a name that is none or has no file in the folder."""
    if not PAGE.fullmatch(name):
        return None
    file = (folder / f"{name}.md").resolve()
    return file if file.is_file() and file.is_relative_to(folder.resolve()) else None


def heading(file: Path) -> str:
    """The page's first heading, or its name."""
    match = _HEADING.search(file.read_text(encoding="utf-8"))
    return match[1].replace("`", "") if match else file.stem


def render(text: str, page: str) -> Markup:
    """Markdown as HTML. Raw HTML is escaped, `javascript:` links stay text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    markdown.add_render_rule("link_open", _link)
    markdown.add_render_rule("th_open", _cell)
    markdown.add_render_rule("td_open", _cell)
    # safe: html is off, so everything in it was written by the renderer
    return Markup(markdown.render(text, {"page": page}))  # noqa: S704


def _cell(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    """Headings of columns say so, for screen readers; nothing carries a style attribute, which
    is how Markdown aligns and which the pages' content policy forbids."""
    token = tokens[index]
    token.attrs.pop("style", None)
    if token.tag == "th":
        token.attrSet("scope", "col")
    return str(renderer.renderToken(tokens, index, options, env))


def _link(
    renderer: RendererHTML,
    tokens: Sequence[Token],
    index: int,
    options: OptionsDict,
    env: EnvType,
) -> str:
    """Links between pages of the folder lead to their addresses here."""
    token = tokens[index]
    target = str(token.attrGet("href") or "")
    match = _LOCAL.fullmatch(target)
    if match is not None:
        folder = str(env["page"]).rpartition("/")[0]
        place = f"{folder}/" if folder else ""
        token.attrSet("href", f"/docs/{place}{match['page']}{match['part'] or ''}")
    elif target.startswith(("http:", "https:")):
        token.attrSet("rel", "noreferrer")
    return str(renderer.renderToken(tokens, index, options, env))
