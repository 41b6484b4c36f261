"""The text of a sticky comment: hidden marker, hidden stamp, visible body. Pure text, no I/O.

A comment is ours when our own account wrote it and it carries our marker. Both hidden lines are
HTML comments, which the forge keeps and does not show. What a body brings along of the same form
(a pull request's title may hold anything) is defused, so text from outside can neither pose as
another sticky comment nor forge a stamp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from domain.action import GitCommentPr
from domain.effect import Stamp
from domain.errors import Permanent

MAX_CHARACTERS = 65_536
"""The longest comment that GitHub takes; one more is answered 422."""
_MARKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
_HIDDEN = re.compile(
    r"<!-- fermata:(?P<marker>[A-Za-z0-9._:/-]+) -->"
    r"(?:\s*<!-- fermata-stamp run=(?P<run>\S+) step=(?P<step>\S*) digest=(?P<digest>\S+) -->)?"
)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})", re.MULTILINE)


@dataclass(frozen=True)
class Sticky:
    """What a comment says about itself. `stamp` is None when the line was edited away."""

    marker: str
    stamp: tuple[str, str, str] | None
    """Run, step and digest."""
    visible: str


def written(action: GitCommentPr, stamp: Stamp) -> str:
    """The whole comment to be stored for an action, within the forge's limit.

    Raises `Permanent` when the marker is not a plain word.
    """
    if not _MARKER.fullmatch(action.marker) or "--" in action.marker:
        raise Permanent(
            f"{action.marker!r} cannot mark a comment",
            "use letters, digits and . _ : / - only, at most 64 of them",
        )
    head = (
        f"<!-- fermata:{action.marker} -->\n"
        f"<!-- fermata-stamp run={stamp.run_id} step={_hidden_word(stamp.step_id)} "
        f"digest={stamp.digest} -->\n"
    )
    return head + bounded(visible_text(action.body), MAX_CHARACTERS - len(head))


def understood(text: str) -> Sticky | None:
    """Read a stored comment; None when it carries no marker of ours."""
    found = _HIDDEN.search(text)
    if found is None:
        return None
    run, step, digest = found["run"], found["step"], found["digest"]
    stamp = None if run is None else (run, unquote(step), digest)
    visible = text[: found.start()] + text[found.end() :]
    return Sticky(marker=found["marker"], stamp=stamp, visible=_plain_ends(visible))


def says_the_same(left: str, right: str) -> bool:
    """Whether two stored comments show the same; hidden lines and line ends do not count."""
    one, other = understood(left), understood(right)
    if one is None or other is None:
        return False
    return one.marker == other.marker and one.visible == other.visible


def stamp_words(stamp: Stamp) -> tuple[str, str, str]:
    """A stamp as `Sticky` gives it, for comparing."""
    return str(stamp.run_id), stamp.step_id, stamp.digest


def visible_text(body: str) -> str:
    """The body as it may be stored: no NUL, no half characters, no hidden lines of our form."""
    clean = body.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
    return _plain_ends(re.sub(r"<!--(\s*)fermata", r"&lt;!--\1fermata", clean, flags=re.IGNORECASE))


def bounded(text: str, limit: int) -> str:
    """Cut a text to `limit` characters, at the end of a line, saying how much was left out.

    What the cut leaves open (a code fence, a folded section) is closed, so that the note shows.
    """
    if len(text) <= limit:
        return text
    reserve = 400
    kept = text[: limit - reserve]
    line_end = kept.rfind("\n")
    if line_end > len(kept) // 2:
        kept = kept[:line_end]
    left_out = f"{len(text) - len(kept):,} of {len(text):,} characters did not fit"
    return (
        f"{kept}{_closing(kept)}\n\n> **Cut here:** {left_out}, a comment can have "
        f"{MAX_CHARACTERS:,} at most. The run page has the whole text.\n"
    )


def _closing(kept: str) -> str:
    """The ends of whatever is still open in a text that was cut."""
    fence = ""
    for found in _FENCE.finditer(kept):
        mark = found[1]
        if not fence:
            fence = mark
        elif mark[0] == fence[0] and len(mark) >= len(fence):
            fence = ""
    # A fence longer than the room kept for the note is no fence that anybody wrote by hand.
    closing = f"\n{fence[:100]}" if fence else ""
    folded = kept.count("<details") - kept.count("</details>")
    return closing + "\n</details>" * min(max(folded, 0), 5)


def _hidden_word(text: str) -> str:
    """A step id as one word that cannot end the HTML comment it stands in."""
    return quote(text, safe="/:._").replace("--", "-%2D")


def _plain_ends(text: str) -> str:
    return text.replace("\r\n", "\n").strip()
