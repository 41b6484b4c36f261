"""Letters of other scripts that look like ASCII ones, and are used in their place."""

# ruff: noqa: RUF001

from __future__ import annotations

_SEEN_AS: dict[str, str] = {
    "A": "АΑᎪ", "B": "ВΒᏴ", "C": "СᏟ", "D": "Ꭰ", "E": "ЕΕᎬ", "G": "ԌᏀ", "H": "НΗᎻ", "I": "ІΙӀ",
    "J": "ЈᎫ", "K": "КΚᏦ", "L": "ԼᏞ", "M": "МΜᎷ", "N": "Ν", "O": "ОΟՕ", "P": "РΡᏢ", "R": "ᎡᏒ",
    "S": "ЅՏᏚ", "T": "ТΤᎢ", "V": "ѴᏙ", "W": "ԜᎳ", "X": "ХΧ", "Y": "ҮΥ", "Z": "ΖᏃ",
    "a": "аαɑᴀ", "b": "Ьᖯʙ", "c": "сᴄ", "d": "ԁᴅ", "e": "еᴇ", "g": "ɡցɢ", "h": "һհʜ", "i": "іιıɪ",
    "j": "јȷᴊ", "k": "κᴋк", "l": "ӏʟ", "n": "ոɴп", "o": "оοօᴏ", "p": "рρᴘ", "q": "ԛ", "r": "гʀ",
    "s": "ѕꜱ", "t": "τᴛт", "u": "υսᴜ", "v": "ѵνᴠ", "w": "ԝᴡ", "x": "хχ", "y": "уγʏ", "z": "ᴢ",
    "f": "ꜰ", "m": "ᴍм", "F": "Ϝ", "Q": "Ԛ", "U": "Ս",
    "-": "‐‑‒–—−﹘－﹣", "_": "＿ˍ", ":": "∶։꞉ː", "=": "＝﹦꞊", "/": "⁄∕", "\\": "∖", ".": "․",
}  # fmt: skip

LOOKALIKE: dict[str, str] = {other: plain for plain, others in _SEEN_AS.items() for other in others}
"""Foreign letter → what it is read as."""
