"""OPA, built from its Go module into a cache outside the tree, serving the comparison's policy."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from bench.ground import BenchError

MODULE = Path(__file__).parent / "opa"
PACKAGE = "github.com/open-policy-agent/opa"
FLAGS = ("-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w")
START_SECONDS = 20.0


def version() -> str:
    """The version of OPA that go.mod pins."""
    for line in (MODULE / "go.mod").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if PACKAGE in words:
            at = words.index(PACKAGE)
            if at + 1 < len(words):
                return words[at + 1]
    raise BenchError("bench/opa/go.mod names no version of OPA")


def built(tell: Callable[[str], None]) -> Path:
    """The binary, built when the cache has none. Raises BenchError where there is no Go."""
    target = _cache() / "opa"
    if target.exists():
        return target
    if shutil.which("go") is None:
        raise BenchError("OPA is built from its Go module, and there is no `go` on PATH")
    tell("building OPA from its Go module, about a minute")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f"opa.{os.getpid()}")
    kept = {k: v for k, v in os.environ.items() if k not in {"GOOS", "GOARCH", "GOFLAGS"}}
    done = subprocess.run(
        ["go", "build", *FLAGS, "-o", str(scratch), PACKAGE],
        check=False,
        cwd=MODULE,
        env=kept | {"CGO_ENABLED": "0", "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-10:])
        raise BenchError(f"OPA could not be built:\n{tail}")
    scratch.rename(target)
    return target


def _cache() -> Path:
    """A folder that belongs to the pinned modules, the flags and the machine."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((MODULE / name).read_bytes())
    digest.update("\0".join((*FLAGS, platform.system(), platform.machine())).encode())
    base = os.environ.get("FERMATA_OPA_CACHE")
    root = Path(base).expanduser() if base else Path.home() / ".cache" / "fermata" / "opa"
    return root.absolute() / digest.hexdigest()[:16]


class Asked:
    """A kept-alive connection to OPA's data API, with Nagle's delay off."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def decide(self, body: bytes) -> Any:
        """The decision on an input, given as the request's whole body."""
        self._http.request(
            "POST", "/v1/data/fermata/decision", body, {"Content-Type": "application/json"}
        )
        answer = json.loads(self._http.getresponse().read())
        return answer["result"]

    def close(self) -> None:
        """Close the connection."""
        self._http.close()


@contextlib.asynccontextmanager
async def serving(binary: Path) -> AsyncIterator[Asked]:
    """OPA on a free port of loopback, without a decision log; ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        str(binary),
        "run",
        "--server",
        "--addr",
        f"127.0.0.1:{port}",
        "--log-level",
        "error",
        "--disable-telemetry",
        str(MODULE / "policy.rego"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        asked = await _connected(port)
        try:
            yield asked
        finally:
            asked.close()
    finally:
        process.kill()
        await process.wait()


async def _connected(port: int) -> Asked:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return Asked(port)
        except OSError as error:
            if time.monotonic() > deadline:
                raise BenchError(f"OPA did not answer within {START_SECONDS:g} s") from error
            await asyncio.sleep(0.05)
