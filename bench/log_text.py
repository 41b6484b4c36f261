"""Ordinary log text without a secret in it, made from a seed: what a busy house writes in a day.

`ordinary(seed, size)` mixes application logs, access logs, Kubernetes events, stack traces, hashes,
UUIDs, Git history, image digests, npm locks and base64 images. `log_lines` is the plain part of it.
"""

# ruff: noqa: E501
from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import Callable, Iterator

WORDS = [
    "request",
    "handled",
    "connection",
    "pool",
    "worker",
    "started",
    "finished",
    "retry",
    "backoff",
    "checkout",
    "payment",
    "order",
    "customer",
    "session",
    "cache",
    "miss",
    "hit",
    "refreshed",
    "token",
    "count",
    "limit",
    "reached",
    "secret",
    "mounted",
    "volume",
    "password",
    "policy",
    "key",
    "rotated",
    "index",
    "rebuilt",
    "shard",
    "replica",
    "leader",
    "elected",
    "heartbeat",
    "timeout",
    "queue",
    "drained",
    "consumer",
    "offset",
    "committed",
    "batch",
    "flushed",
    "snapshot",
    "restored",
    "migration",
    "applied",
    "deadline",
    "exceeded",
    "upstream",
    "reset",
    "certificate",
    "renewed",
    "scheduler",
    "bound",
    "pod",
    "node",
    "ready",
    "image",
    "pulled",
    "container",
    "created",
    "gauge",
    "counter",
    "histogram",
    "bucket",
    "disk",
    "pressure",
    "memory",
    "released",
]
SERVICES = ("checkout", "payments", "search", "catalogue", "auth", "mailer", "gateway", "ledger")
PATHS = ("/api/v1/orders", "/healthz", "/api/v2/customers/search", "/static/app.js", "/login")


def ordinary(seed: int, size: int) -> bytes:
    """At least `size` bytes of everything, cut at a line's end."""
    kinds: tuple[Callable[[random.Random], Iterator[str]], ...] = (
        *(log_lines,) * 4,
        *(access_lines,) * 2,
        cluster_events,
        stack_trace,
        hashes,
        git_history,
        npm_lock,
        manifests,
        image_in_html,
        key_values,
    )
    rng = random.Random(seed)
    lines: list[str] = []
    length = 0
    while length < size:
        for line in rng.choice(kinds)(rng):
            lines.append(line)
            length += len(line) + 1
    return ("\n".join(lines) + "\n").encode()


def plain_log(seed: int, size: int) -> bytes:
    """Application and access logs only."""
    rng = random.Random(seed)
    lines: list[str] = []
    length = 0
    while length < size:
        for line in (log_lines, access_lines)[rng.random() < 0.3](rng):
            lines.append(line)
            length += len(line) + 1
    return ("\n".join(lines) + "\n").encode()


def log_lines(rng: random.Random) -> Iterator[str]:
    """Application logs: plain, logfmt and JSON."""
    for _ in range(20):
        at = _time(rng)
        words = " ".join(rng.choices(WORDS, k=rng.randint(4, 11)))
        service, level = rng.choice(SERVICES), rng.choice(("INFO", "DEBUG", "WARN", "ERROR"))
        kind = rng.random()
        if kind < 0.5:
            yield f"{at} {level:<5} [{service}] {words} in {rng.randint(1, 900)}ms"
        elif kind < 0.75:
            yield (
                f"time={at} level={level.lower()} service={service} trace_id={_hex(rng, 32)} "
                f'msg="{words}" tokens={rng.randint(1, 4000)} size={rng.randint(10, 99999)}'
            )
        else:
            yield json.dumps(
                {
                    "ts": at,
                    "level": level,
                    "service": service,
                    "request_id": _uuid(rng),
                    "message": words,
                    "latency_ms": rng.randint(1, 900),
                    "max_tokens": rng.choice((256, 512, 4096)),
                }
            )


def access_lines(rng: random.Random) -> Iterator[str]:
    """A proxy's access log."""
    for _ in range(20):
        address = ".".join(str(rng.randint(1, 254)) for _ in range(4))
        query = rng.choice(("", f"?page={rng.randint(1, 90)}&q=blue%20shoes", f"?id={_uuid(rng)}"))
        yield (
            f'{address} - - [26/Nov/2026:10:{rng.randint(10, 59)}:{rng.randint(10, 59)} +0000] "'
            f'{rng.choice(("GET", "POST"))} {rng.choice(PATHS)}{query} HTTP/1.1" '
            f"{rng.choice((200, 200, 204, 301, 404, 502))} {rng.randint(100, 90000)} "
            '"https://shop.example.com/" "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"'
        )


def cluster_events(rng: random.Random) -> Iterator[str]:
    """What kubectl shows of a namespace."""
    for _ in range(12):
        pod = f"{rng.choice(SERVICES)}-{_hex(rng, 9)}-{''.join(rng.choices('bcdfghjklmnpqrstvwxz2456789', k=5))}"
        yield rng.choice(
            (
                f"{rng.randint(1, 59)}m  Normal   Scheduled  pod/{pod}  Successfully assigned to node-{rng.randint(1, 9)}",
                f'{rng.randint(1, 59)}s  Normal   Pulled     pod/{pod}  Container image "ghcr.io/acme/shop@sha256:{_hex(rng, 64)}" already present',
                f'{rng.randint(1, 59)}m  Warning  FailedMount  pod/{pod}  MountVolume.SetUp failed for volume "kube-api-access-{_hex(rng, 5)}" : secret "checkout-tls" not found',
                f"{rng.randint(1, 59)}s  Warning  BackOff    pod/{pod}  Back-off restarting failed container in pod {pod}_shop({_uuid(rng)})",
                f"{rng.randint(1, 59)}s  Warning  Unhealthy  pod/{pod}  Readiness probe failed: HTTP probe failed with statuscode: 503",
            )
        )


def stack_trace(rng: random.Random) -> Iterator[str]:
    """Tracebacks of two languages."""
    if rng.random() < 0.5:
        yield "Traceback (most recent call last):"
        for _ in range(rng.randint(3, 9)):
            name = rng.choice(WORDS)
            yield f'  File "/srv/app/lib/{rng.choice(SERVICES)}/{name}.py", line {rng.randint(1, 900)}, in {name}_{rng.choice(WORDS)}'
            yield f"    return self.{name}({rng.choice(WORDS)}, token=self.token, key=key)"
        yield f"ValueError: invalid literal for int() with base 10: '{rng.choice(WORDS)}'"
        return
    yield f'Exception in thread "main" java.lang.IllegalStateException: {rng.choice(WORDS)} {rng.choice(WORDS)}'
    for _ in range(rng.randint(3, 9)):
        yield f"\tat com.acme.{rng.choice(SERVICES)}.{rng.choice(WORDS).title()}Service${rng.choice(WORDS).title()}.{rng.choice(WORDS)}({rng.choice(WORDS).title()}Service.java:{rng.randint(1, 900)})"


def hashes(rng: random.Random) -> Iterator[str]:
    """Checksums, one a line and beside names."""
    for _ in range(15):
        content = rng.randbytes(20)
        yield rng.choice(
            (
                f"{hashlib.sha256(content).hexdigest()}  dist/app-{rng.randint(1, 9)}.{rng.randint(0, 40)}.tar.gz",
                f"{hashlib.md5(content).hexdigest()}",
                f"sha512-{base64.b64encode(hashlib.sha512(content).digest()).decode()}",
                f'etag: "{hashlib.md5(content).hexdigest()}"',
                f"correlation {_uuid(rng)} parent {_uuid(rng)}",
                f"SHA256:{base64.b64encode(hashlib.sha256(content).digest()).decode().rstrip('=')} host key",
            )
        )


def git_history(rng: random.Random) -> Iterator[str]:
    """`git log` in two forms."""
    for _ in range(8):
        if rng.random() < 0.5:
            yield f"{_hex(rng, 7)} {' '.join(rng.choices(WORDS, k=5))} (#{rng.randint(1, 900)})"
            continue
        yield f"commit {_hex(rng, 40)}"
        yield f"Author: Grace <grace{rng.randint(1, 99)}@example.com>"
        yield f"    {' '.join(rng.choices(WORDS, k=7))}"
        yield f"index {_hex(rng, 7)}..{_hex(rng, 7)} 100644"


def npm_lock(rng: random.Random) -> Iterator[str]:
    """Part of a package-lock.json."""
    for _ in range(6):
        name = rng.choice(WORDS)
        digest = base64.b64encode(rng.randbytes(64)).decode()
        yield f'    "node_modules/{name}": {{'
        yield f'      "version": "{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}",'
        yield f'      "resolved": "https://registry.example.com/{name}/-/{name}-1.0.{rng.randint(0, 9)}.tgz",'
        yield f'      "integrity": "sha512-{digest}",'
        yield '      "license": "MIT"'
        yield "    },"


def manifests(rng: random.Random) -> Iterator[str]:
    """A Deployment that refers to secrets without holding one."""
    service = rng.choice(SERVICES)
    yield from (
        "apiVersion: apps/v1",
        "kind: Deployment",
        "metadata:",
        f"  name: {service}",
        f"  uid: {_uuid(rng)}",
        "spec:",
        "  template:",
        "    spec:",
        f"      serviceAccountName: {service}",
        "      automountServiceAccountToken: false",
        "      containers:",
        f"      - image: ghcr.io/acme/{service}@sha256:{_hex(rng, 64)}",
        "        env:",
        "        - name: DATABASE_PASSWORD",
        "          valueFrom:",
        "            secretKeyRef:",
        f"              name: {service}-database",
        "              key: password",
        "        - name: API_TOKEN",
        "          value: $(TOKEN_FROM_VAULT)",
        "      volumes:",
        "      - name: tls",
        "        secret:",
        f"          secretName: {service}-tls",
    )


def image_in_html(rng: random.Random) -> Iterator[str]:
    """A picture inlined in a page, and one wrapped at 76 characters."""
    raw = b"\x89PNG\r\n\x1a\n" + rng.randbytes(rng.randint(300, 3000))
    yield f'<img alt="chart" src="data:image/png;base64,{base64.b64encode(raw).decode()}">'
    if rng.random() < 0.5:
        yield "Content-Transfer-Encoding: base64"
        yield ""
        yield from base64.encodebytes(rng.randbytes(1500)).decode().splitlines()
        yield ""


def key_values(rng: random.Random) -> Iterator[str]:
    """Names and values that sound like secrets and hold none."""
    yield from (
        f"cache_key=orders:{rng.randint(1, 10**9)}:v2 primary_key: id",
        f"token_type=bearer expires_in={rng.randint(60, 9000)} scope=read",
        f"prompt_tokens: {rng.randint(1, 9000)}, completion_tokens: {rng.randint(1, 900)}",
        f'secret_name = "projects/{rng.randint(1, 10**6)}/secrets/database/versions/latest"',
        "password: ${DATABASE_PASSWORD}",
        '  password = os.environ["DATABASE_PASSWORD"]',
        "DB_PASSWORD=<from the vault>",
        "Enter password: ",
        "failed login: invalid password for user alice",
        f"next_page_token={rng.randint(1, 900)} api_key: ********",
        f"idempotency-key: {_uuid(rng)}",
        f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{base64.b64encode(rng.randbytes(31)).decode().rstrip('=')} grace@laptop",
        f"x-request-id: {_uuid(rng)} x-b3-traceid: {_hex(rng, 32)}",
        "https://example.com:8443/a/b?sort_key=name&token=none user@host.example.com:/srv/data",
    )


def _time(rng: random.Random) -> str:
    return f"2026-11-{rng.randint(1, 30):02}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}.{rng.randint(0, 999):03}Z"


def _hex(rng: random.Random, size: int) -> str:
    return f"{rng.getrandbits(size * 4):0{size}x}"


def _uuid(rng: random.Random) -> str:
    raw = _hex(rng, 32)
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"
