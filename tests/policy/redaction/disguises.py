"""Ways to write a text so that it does not look like itself."""

from __future__ import annotations

import base64
import gzip
import json
import quopri
from collections.abc import Callable
from urllib.parse import quote

_CYRILLIC = str.maketrans(dict(zip("aeopcxABEKMHOPCTX", "аеорсхАВЕКМНОРСТХ", strict=True)))  # noqa: RUF001


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _rows(text: str, size: int) -> list[bytes]:
    raw = text.encode()
    return [raw[at : at + size] for at in range(0, len(raw), size)]


def _dump(text: str, line: Callable[[int, bytes], str]) -> str:
    rows = (line(16 * n, row) for n, row in enumerate(_rows(text, 16)))
    return "\n" + "\n".join(rows) + "\n"


def _wide(text: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in text)


DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": lambda text: text,
    "base64": _b64,
    "base64, one letter on": lambda text: f"x={_b64(' ' + text + ' zz')} end",
    "base64, two letters on": lambda text: _b64(": " + text),
    "base64 for addresses": lambda text: (
        base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    ),
    "base64 twice": lambda text: _b64(_b64(text)),
    "base64 in lines": lambda text: base64.encodebytes((text + " " * 60).encode()).decode(),
    "base64 in an answer of the API": lambda text: json.dumps(
        {"content": base64.encodebytes((" " * 40 + text + " " * 40).encode()).decode()}
    ),
    "base64, packed": lambda text: base64.b64encode(gzip.compress(text.encode())).decode(),
    "base32": lambda text: base64.b32encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "hex in pairs": lambda text: text.encode().hex(" "),
    "hex with colons": lambda text: text.encode().hex(":"),
    "hex escapes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "hex as od prints it": lambda text: "\n".join(f" {row.hex(' ')}" for row in _rows(text, 16)),
    "od": lambda text: _dump(text, lambda at, row: f"{at:07o} {row.hex(' ')}"),
    "xxd": lambda text: _dump(
        text, lambda at, row: f"{at:08x}: {row.hex(' ', -2):<39}  {row.decode()}"
    ),
    "hexdump -C": lambda text: _dump(
        text, lambda at, row: f"{at:08x}  {row.hex(' '):<48}  |{row.decode()}|"
    ),
    "xxd -i": lambda text: ",\n".join(
        "  " + ", ".join(f"0x{byte:02x}" for byte in row) for row in _rows(text, 12)
    ),
    "a list of bytes": lambda text: ", ".join(f"0x{byte:02x}" for byte in text.encode()),
    "bytes as Go prints them": lambda text: f"[{' '.join(map(str, text.encode()))}]",
    "bytes as Python prints them": lambda text: str(list(text.encode())),
    "after an escaped line break": lambda text: json.dumps("one\n" + text + "\ntwo"),
    "colours as cat shows them": lambda text: f"^[[31m{text[:7]}^[[1;32m{text[7:]}^[[0m",
    "colours as a shell spells them": lambda text: f"\\e[31m{text[:9]}\\e[0m{text[9:]}",
    "octal escapes": lambda text: "".join(f"\\{byte:03o}" for byte in text.encode()),
    "an address": lambda text: quote(text, safe=""),
    "an address, all of it": _percent,
    "an address, twice": lambda text: quote(_percent(text)),
    "an address, one letter": lambda text: f"{text[:6]}%{ord(text[6]):02x}{text[7:]}",
    "colours": lambda text: f"{text[:5]}\x1b[31m{text[5:8]}\x1b[0m{text[8:]}",
    "a colour each": lambda text: "".join(
        f"\x1b[1;3{n % 8}m{c}\x1b[0m" for n, c in enumerate(text)
    ),
    "letters without width": lambda text: "\u200b".join(text),
    "a joiner": lambda text: f"{text[:4]}\u200d{text[4:]}",
    "a soft hyphen": lambda text: f"{text[:7]}\u00ad{text[7:]}",
    "a mark": lambda text: "".join(f"{one}\u0301" for one in text),
    "Cyrillic": lambda text: text.translate(_CYRILLIC),
    "wide letters": _wide,
    "small capitals": lambda text: text.translate(str.maketrans("abdghkmnprtu", "ᴀʙᴅɢʜᴋᴍɴᴘʀᴛᴜ")),
    "digits of Arabic": lambda text: text.translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")),
    "overstrike": lambda text: "".join(f"{one}\b{one}" for one in text),
    "letters apart": " ".join,
    "nothing between": "\0".join,
    "two lines": lambda text: f"{text[:12]}\n{text[12:]}",
    "two lines of another system": lambda text: f"{text[:12]}\r\n{text[12:]}",
    "a continued line": lambda text: f"{text[:10]}\\\n{text[10:]}",
    "a line continued on Windows": lambda text: f"{text[:10]}^\n{text[10:]}",
    "Markdown's escapes": lambda text: text.replace("_", "\\_").replace("-", "\\-"),
    "folded lines": lambda text: f"{text[:10]}\n    {text[10:15]}\n    {text[15:]}",
    "two texts added": lambda text: f'"{text[:8]}" + "{text[8:]}"',
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps({"a": text})),
    "JSON escapes": lambda text: "".join(f"\\u{ord(one):04x}" for one in text),
    "entities": lambda text: "".join(f"&#x{ord(one):x};" for one in text),
    "decimal entities": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "quoted-printable": lambda text: "".join(f"={byte:02X}" for byte in text.encode()),
    "quoted-printable in small letters": lambda text: "".join(
        f"={byte:02x}" for byte in text.encode()
    ),
    "mail": lambda text: quopri.encodestring(text.encode()).decode(),
    "base64 in an address": lambda text: quote(_b64(text), safe=""),
    "base64 in hex": lambda text: _b64(text).encode().hex(),
    "two bytes a letter": lambda text: text.encode("utf-16-le").decode("latin-1"),
}
NOT_FOR_NAMES = {"two lines", "two lines of another system", "folded lines"}
"""Where a name is torn from its value, or in two, and there is no shape to know the value by."""
