"""A redactor on the shipped rules, and made-up credentials in the forms their issuers use."""

from __future__ import annotations

import base64
import functools
import random
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from policy.redaction.engine import Redactor
from policy.redaction.known import Known
from policy.redaction.rulefile import load_rules

RULES = Path(__file__).parents[3] / "policy" / "redaction" / "rules.toml"
KEY = b"a key of the tests, 32 bytes long"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
KNOWN = (Known("GITHUB_WEBHOOK_SECRET", b"correct horse battery staple"),)


@functools.cache
def redactor(engine: str | None = None) -> Redactor:
    """On the shipped rules; compiled once."""
    text = RULES.read_text(encoding="utf-8")
    rules = load_rules(text, "rules.toml", default=text)
    return Redactor(rules, key=KEY, known=KNOWN, engine=engine)


def letters(rng: random.Random, size: int, of: str = LETTERS) -> str:
    """Random characters."""
    return "".join(rng.choices(of, k=size))


def credentials(seed: int = 5) -> dict[str, tuple[str, str]]:
    """Name → (text, the part of it that must not be seen)."""
    rng = random.Random(seed)

    def b64(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    head, body = b64('{"alg":"HS256","typ":"JWT"}'), b64('{"sub":"1234567890"}')
    jwt = f"{head}.{body}.{letters(rng, 43)}"
    digits = "0123456789"
    whole = {
        "access key id": "AKIA" + letters(rng, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
        "personal access token": "ghp_" + letters(rng, 36),
        "bot token": f"xoxb-{letters(rng, 12, digits)}-{letters(rng, 24)}",
        "web token": jwt,
        "payment key": "sk_live_" + letters(rng, 24),
        "project token": "glpat-" + letters(rng, 20),
        "package token": "npm_" + letters(rng, 36),
        "cloud key": "AIza" + letters(rng, 35),
    }
    found = {name: (text, text) for name, text in whole.items()}
    secret, token = letters(rng, 40, LETTERS + "/+"), letters(rng, 40)
    found["secret access key"] = (f"aws_secret_access_key={secret}", secret)
    found["password"] = ("password=hunter2", "hunter2")
    found["password in an address"] = (
        "postgres://admin:s3cr3tPa55@db.example.com:5432/app",
        "s3cr3tPa55",
    )
    found["bearer"] = (f"Authorization: Bearer {token}", token)
    basic = base64.b64encode(b"admin:s3cr3tpassw0rd").decode()
    found["basic"] = (f"Authorization: Basic {basic}", basic)
    return found


@functools.cache
def private_key() -> str:
    """A PEM block."""
    key = rsa.generate_private_key(65537, 2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
