"""The redactor of an installation: its rule file, the key of its fingerprints, its own secrets.

The key of the fingerprints is made on first use and kept in `FERMATA_DATA/redaction-key`, so that
all processes of an installation give a secret the same fingerprint. A filter that runs where there
is no data folder has a key of its own for each run.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

from pydantic import SecretStr

from domain.address import split_address
from domain.errors import SourceError, SourceProblem
from policy.redaction.engine import Redactor
from policy.redaction.known import Known
from policy.redaction.rule import RuleSet
from policy.redaction.rulefile import load_rules

SHIPPED = Path(__file__).parents[1] / "policy" / "redaction" / "rules.toml"
KEY_FILE = "redaction-key"
OWN_FILES = ("admin-token", "session-key")
"""Files of the data folder that hold a secret of ours."""


def open_redactor(
    rules: Path | None, data: Path, known: Iterable[Known] = (), *, keep_key: bool = True
) -> Redactor:
    """The redactor of a data folder. Raises `SourceError` for a rule file that is wrong.

    `rules` None: the shipped ones. `keep_key`: make the data folder's key when it has none yet.
    """
    mine = (*known, *_own_secrets(data))
    return Redactor(read_rules(rules), key=fingerprint_key(data, keep=keep_key), known=mine)


def read_rules(path: Path | None) -> RuleSet:
    """The shipped rules, or those of a file of the user's."""
    default = SHIPPED.read_text(encoding="utf-8")
    if path is None:
        return _rules(default, "rules.toml", default)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        hint = "set FERMATA_REDACTION_RULES to a rule file in the gitleaks format, or unset it"
        raise SourceError((SourceProblem(str(path), 1, 1, str(error), hint),)) from error
    return _rules(text, str(path), default)


def fingerprint_key(data: Path, *, keep: bool) -> bytes:
    """The key of a data folder; a random one where there is none and none is to be kept."""
    file = data / KEY_FILE
    if not keep:
        return _key_in(file) or secrets.token_bytes(32)
    data.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="ascii") as new:
            file.chmod(0o600)
            new.write(secrets.token_hex(32))
    except FileExistsError:
        pass  # made before, or by another process just now
    return _key_in(file) or secrets.token_bytes(32)


def known_secrets(named: Iterable[tuple[str, object]]) -> Iterator[Known]:
    """What settings hold that nobody may see: (name, value) of each.

    A secret value as it is; of an address with a password that as well, also where the setting
    itself is not called secret.
    """
    for name, value in named:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, SecretStr):
                yield from _parts(name.upper(), one.get_secret_value())
            elif isinstance(one, str):
                yield from _password(name.upper(), one)


def _own_secrets(data: Path) -> Iterator[Known]:
    for name in OWN_FILES:
        file = data / name
        if file.is_file():
            yield Known(name, file.read_bytes().strip())


def _parts(name: str, secret: str) -> Iterator[Known]:
    """A secret; of an address with a password that alone as well, and a webhook's secret path."""
    if "://" not in secret:
        yield Known(name, secret.encode())
        return
    yield from _password(name, secret)
    path = split_address(secret).path.strip("/")
    if name.endswith("WEBHOOK_URL"):
        yield Known(name, path.encode())


def _password(name: str, url: str) -> Iterator[Known]:
    password = split_address(url).password if "://" in url else None
    if password:
        yield Known(name, unquote(password).encode())
        yield Known(name, password.encode())


def _key_in(file: Path) -> bytes | None:
    try:
        return bytes.fromhex(file.read_text(encoding="ascii").strip()) or None
    except (OSError, ValueError):
        return None


@functools.lru_cache(maxsize=4)
def _rules(text: str, file: str, default: str) -> RuleSet:
    return load_rules(
        text, file, default=default, load=lambda path: Path(path).read_text(encoding="utf-8")
    )
