"""Build the control plane's binaries once, into a cache folder outside the tree.

The cache folder's name is a digest of everything that decides what is built (the go.mod and
go.sum files, the build flags, the machine), so a changed version means a new folder and a
finished folder never changes. Beside the binaries it holds the CRDs and kwok's stage files:
starting a cluster needs no Go.

    python -m tests.cluster build [--no-rollouts] [--where]

Exit codes: 0 all is there, 1 a build failed, 2 bad usage, 3 Go is missing or too old.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEARTBEAT_SECONDS = 30.0

EXIT_BUILD_FAILED = 1
EXIT_NO_GO = 3

Say = Callable[[str], None]


class BuildFailed(Exception):
    """A build or a copy went wrong; the text ends with what the tool said."""


class GoMissing(Exception):
    """There is no Go here that can build the modules; the text says which one is needed."""


@dataclass(frozen=True)
class Binary:
    """One program: its name in the cache, the Go module folder and the package that make it."""

    name: str
    module: str
    package: str
    cold: str
    """How long it takes on 2 cores with an empty Go build cache, for the progress line."""


@dataclass(frozen=True)
class Copy:
    """A folder of YAML files taken from a Go module: `pattern` under the module's folder."""

    name: str
    module: str
    path: str
    patterns: tuple[str, ...]


BINARIES = (
    Binary("etcd", "etcd", "go.etcd.io/etcd/server/v3", "50 s"),
    Binary("kube-apiserver", "kube", "k8s.io/kubernetes/cmd/kube-apiserver", "4 min"),
    Binary(
        "kube-controller-manager", "kube", "k8s.io/kubernetes/cmd/kube-controller-manager", "1 min"
    ),
    Binary("kube-scheduler", "kube", "k8s.io/kubernetes/cmd/kube-scheduler", "10 s"),
    Binary("kubectl", "kube", "k8s.io/kubernetes/cmd/kubectl", "30 s"),
    Binary("kwok", "kube", "sigs.k8s.io/kwok/cmd/kwok", "15 s"),
)
ROLLOUTS_BINARIES = (
    Binary(
        "rollouts-controller",
        "rollouts",
        "github.com/argoproj/argo-rollouts/cmd/rollouts-controller",
        "3 min",
    ),
)
COPIES = (
    Copy(
        "crds/gateway-api",
        "kube",
        "sigs.k8s.io/gateway-api",
        ("config/crd/standard/gateway.networking.k8s.io_*.yaml",),
    ),
    Copy(
        "stages",
        "kube",
        "sigs.k8s.io/kwok",
        (
            "kustomize/stage/node/fast/node-*.yaml",
            "kustomize/stage/pod/fast/pod-*.yaml",
            "kustomize/stage/pod/chaos/pod-*.yaml",
        ),
    ),
)
ROLLOUTS_COPIES = (
    Copy(
        "crds/argo-rollouts",
        "rollouts",
        "github.com/argoproj/argo-rollouts",
        ("manifests/crds/*-crd.yaml",),
    ),
)
MODULES = ("etcd", "kube", "rollouts")


@dataclass(frozen=True)
class Cache:
    """Where the built parts lie. The folder need not exist: `missing` says what is not there."""

    root: Path

    def binary(self, name: str) -> Path:
        return self.root / "bin" / name

    def crds(self, name: str) -> Path:
        """Folder of CRD YAML files: `gateway-api` or `argo-rollouts`."""
        return self.root / "crds" / name

    @property
    def stages(self) -> Path:
        """Folder of kwok's stage files: how Nodes and Pods come alive."""
        return self.root / "stages"

    def missing(self, *, rollouts: bool) -> list[str]:
        """Names of the parts that are not built yet; empty when a cluster can start."""
        names = [f"bin/{binary.name}" for binary in _binaries(rollouts)]
        names += [copy.name for copy in _copies(rollouts)]
        # A part appears by rename, when it is whole: being there is enough.
        return [name for name in names if not (self.root / name).exists()]


def _binaries(rollouts: bool) -> tuple[Binary, ...]:
    return BINARIES + (ROLLOUTS_BINARIES if rollouts else ())


def _copies(rollouts: bool) -> tuple[Copy, ...]:
    return COPIES + (ROLLOUTS_COPIES if rollouts else ())


def locate() -> Cache:
    """The cache that belongs to this tree's versions and flags. Touches nothing."""
    digest = hashlib.sha256()
    for module in MODULES:
        for name in ("go.mod", "go.sum"):
            digest.update(f"{module}/{name}\0".encode())
            digest.update((HERE / module / name).read_bytes())
        digest.update("\0".join(_flags(module)).encode())
    digest.update(f"{platform.system()}/{platform.machine()}".encode())
    base = os.environ.get("FERMATA_CLUSTER_CACHE")
    root = Path(base).expanduser() if base else Path.home() / ".cache" / "fermata" / "cluster"
    return Cache(root.absolute() / digest.hexdigest()[:16])


def version_of(module: str, path: str) -> str:
    """The version of Go module `path` that folder `module` pins, such as `v1.36.3`."""
    text = (HERE / module / "go.mod").read_text()
    found = re.search(rf"^(?:require)?\s+{re.escape(path)} (v\S+)", text, re.MULTILINE)
    if found is None:
        raise BuildFailed(f"{module}/go.mod does not name {path}")
    return found.group(1)


def _flags(module: str) -> list[str]:
    """Flags of `go build` for a module folder. Stripped: the symbols are a third of the size."""
    ldflags = ["-s", "-w"]
    if module == "kube":
        # Without these the server calls itself 0.0.0 and clients take the wrong branch.
        version = version_of("kube", "k8s.io/kubernetes")
        major, minor = version.lstrip("v").split(".")[:2]
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            ldflags += [f"-X {package}.gitVersion={version}"]
            ldflags += [f"-X {package}.gitMajor={major}", f"-X {package}.gitMinor={minor}"]
    elif module == "rollouts":
        version = version_of("rollouts", "github.com/argoproj/argo-rollouts").lstrip("v")
        ldflags += [f"-X github.com/argoproj/argo-rollouts/utils/version.version={version}"]
    return ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", " ".join(ldflags)]


def _go_environment() -> dict[str, str]:
    """The caller's environment without what would change the result (a workspace, a target)."""
    kept = {k: v for k, v in os.environ.items() if k not in {"GOOS", "GOARCH", "GOFLAGS"}}
    return kept | {"CGO_ENABLED": "0", "GOWORK": "off"}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def check_go() -> str:
    """The version of the `go` that will build, such as `go1.26.8`.

    It is asked inside the module folders, so that a `go` that may fetch a newer toolchain does.
    Raises GoMissing.
    """
    wanted = max(
        (
            found.group(1)
            for module in MODULES
            if (
                found := re.search(
                    r"^go (\S+)$", (HERE / module / "go.mod").read_text(), re.MULTILINE
                )
            )
        ),
        key=_numbers,
    )
    hint = f"the test cluster is built with Go {wanted} or newer"
    if shutil.which("go") is None:
        raise GoMissing(f"no `go` on PATH: {hint}")
    for module in MODULES:
        asked = subprocess.run(
            ["go", "env", "GOVERSION"],
            check=False,
            cwd=HERE / module,
            env=_go_environment(),
            capture_output=True,
            text=True,
        )
        version = asked.stdout.strip()
        if asked.returncode != 0 or not version:
            raise GoMissing(f"`go env` failed: {asked.stderr.strip() or 'no answer'}; {hint}")
        if _numbers(version) < _numbers(wanted):
            raise GoMissing(f"`go` is {version}, too old: {hint}")
    return version


def _run(command: list[str], module: str, say: Say) -> str:
    """Run a tool in a module folder, with a line now and then while it takes its time.

    Returns its standard output. Raises BuildFailed with the end of its error output.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=HERE / module,
        env=_go_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own: whoever is interrupted takes the compilers along.
        start_new_session=True,
    )
    try:
        while True:
            try:
                out, err = process.communicate(timeout=HEARTBEAT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                say(f"      still at it after {time.monotonic() - started:.0f} s")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        tail = "\n".join(err.strip().splitlines()[-25:])
        raise BuildFailed(
            f"`{' '.join(command[:2])}` in {module}/ ended with {process.returncode}:\n{tail}"
        )
    return out


@contextmanager
def _only_builder(cache: Cache, say: Say) -> Iterator[None]:
    """Hold the cache's lock: a second builder waits, then finds the work done."""
    cache.root.parent.mkdir(parents=True, exist_ok=True)
    with open(cache.root.with_name(cache.root.name + ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is under way; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_binary(binary: Binary, cache: Cache, scratch: Path, say: Say) -> None:
    output = scratch / binary.name
    command = ["go", "build", *_flags(binary.module), "-o", str(output), binary.package]
    _run(command, binary.module, say)
    target = cache.binary(binary.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    output.rename(target)


def _copy_files(copy: Copy, cache: Cache, scratch: Path, say: Say) -> int:
    """Take one folder of YAML files over; returns how many."""
    # `go list -m` knows the folder too, but leaves it empty when the module is not fetched yet.
    answer = _run(["go", "mod", "download", "-json", copy.path], copy.module, say)
    source = Path(json.loads(answer)["Dir"])
    files = sorted(file for pattern in copy.patterns for file in source.glob(pattern))
    if not files:
        raise BuildFailed(f"{copy.path}: nothing matches {', '.join(copy.patterns)}")
    folder = scratch / copy.name
    folder.mkdir(parents=True)
    for file in files:
        # Not copy2: files in Go's module folder are read-only, and so would be the copies.
        (folder / file.name).write_bytes(file.read_bytes())
    target = cache.root / copy.name
    target.parent.mkdir(parents=True, exist_ok=True)
    folder.rename(target)
    return len(files)


def build(*, rollouts: bool = True, say: Say = print) -> Cache:
    """Build whatever the cache does not hold yet and return the cache.

    `rollouts=False` leaves out the Argo Rollouts controller and its CRDs. Cold: 9 minutes
    on 2 cores; with everything there: milliseconds, and Go is not needed. Raises GoMissing and
    BuildFailed.
    """
    cache = locate()
    if not cache.missing(rollouts=rollouts):
        return cache
    with _only_builder(cache, say):
        missing = cache.missing(rollouts=rollouts)
        if not missing:
            return cache
        version = check_go()
        say(f"building the test cluster with {version} into {cache.root}")
        cache.root.mkdir(parents=True, exist_ok=True)
        for stale in cache.root.glob(".partial-*"):  # left by a build that was killed
            shutil.rmtree(stale, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=cache.root))
        try:
            _build_missing(missing, cache, scratch, rollouts, say)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return cache


def _build_missing(
    missing: list[str], cache: Cache, scratch: Path, rollouts: bool, say: Say
) -> None:
    began = time.monotonic()
    todo = [binary for binary in _binaries(rollouts) if f"bin/{binary.name}" in missing]
    for module in sorted({binary.module for binary in todo}):
        started = time.monotonic()
        say(f"  fetching what {module}/ needs")
        packages = [binary.package for binary in todo if binary.module == module]
        # Listing the dependencies fetches just the modules that take part in the build;
        # `go mod download` would fetch every one that is named anywhere.
        _run(["go", "list", "-mod=readonly", "-deps", *packages], module, say)
        say(f"      {time.monotonic() - started:.0f} s")
    for copy in _copies(rollouts):
        if copy.name in missing:
            say(f"  copied {_copy_files(copy, cache, scratch, say)} files to {copy.name}")
    for number, binary in enumerate(todo, start=1):
        started = time.monotonic()
        say(f"  [{number}/{len(todo)}] {binary.name} (cold, on 2 cores: about {binary.cold})")
        _build_binary(binary, cache, scratch, say)
        size = cache.binary(binary.name).stat().st_size / 1e6
        say(f"      {time.monotonic() - started:.0f} s, {size:.0f} MB")
    say(f"done in {time.monotonic() - began:.0f} s")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _on_sigterm(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code. Progress goes to stderr, the folder to stdout."""
    parser = argparse.ArgumentParser(
        prog="tests.cluster build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--no-rollouts", action="store_true", help="leave out the Argo Rollouts controller"
    )
    parser.add_argument(
        "--where",
        action="store_true",
        help="only print the cache folder, built or not (for a CI cache step)",
    )
    options = parser.parse_args(arguments)
    if options.where:
        print(locate().root)
        return 0
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        cache = build(rollouts=not options.no_rollouts, say=_say)
    except GoMissing as error:
        _say(f"error: {error}")
        return EXIT_NO_GO
    except BuildFailed as error:
        _say(f"error: {error}")
        return EXIT_BUILD_FAILED
    print(cache.root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
