"""Letters of other scripts that look like ASCII ones, and are used in their place."""

# ruff: noqa: RUF001

from __future__ import annotations

_SEEN_AS: dict[str, str] = {
    "A": "АΑᎪ", "B": "ВΒᏴ", "C": "СᏟ", "D": "Ꭰ", "E": "ЕΕᎬ", "G": "ԌᏀ", "H": "НΗᎻ", "I": "ІΙӀ",
    "J": "ЈᎫ", "K": "КΚᏦ", "L": "ԼᏞ", "M": "МΜᎷ", "N": "Ν", "O": "ОΟՕ", "P": "РΡᏢ", "R": "ᎡᏒ",
    "S": "ЅՏᏚ", "T": "ТΤᎢ", "V": "ѴᏙ", "W": "ԜᎳ", "X": "ХΧ", "Y": "ҮΥ", "Z": "ΖᏃ",
    "a": "аαɑᴀ", "b": "Ьᖯ", "c": "сᴄ", "d": "ԁ", "e": "еᴇ", "g": "ɡց", "h": "һհ", "i": "іιı",
    "j": "јȷ", "k": "κ", "l": "ӏ", "n": "ո", "o": "оοօᴏ", "p": "рρᴘ", "q": "ԛ", "r": "г",
    "s": "ѕꜱ", "t": "τᴛ", "u": "υս", "v": "ѵνᴠ", "w": "ԝᴡ", "x": "хχ", "y": "уγʏ", "z": "ᴢ",
    "-": "‐‑‒–—−﹘－﹣", "_": "＿ˍ", ":": "∶։꞉ː", "=": "＝﹦꞊", "/": "⁄∕", "\\": "∖", ".": "․",
}  # fmt: skip

LOOKALIKE: dict[str, str] = {other: plain for plain, others in _SEEN_AS.items() for other in others}
"""Foreign letter → what it is read as."""
