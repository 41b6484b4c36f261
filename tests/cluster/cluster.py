"""Start and stop a Kubernetes control plane made of plain processes on loopback ports.

    with Cluster() as cluster:
        cluster.kubectl("get", "nodes")
        cluster.api.get("/api/v1/nodes")

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real ones. Nodes and
Pods are kwok's: their status moves as a kubelet would move it, but no container runs.
"""

from __future__ import annotations

import atexit
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests.cluster import build, components
from tests.cluster.api import YAML, Api, ApiError, Object
from tests.cluster.datafolder import DataFolder, remove_orphans
from tests.cluster.objects import documents, kubeconfig, node, served_paths
from tests.cluster.processes import Port, Process

START_TIMEOUT_SECONDS = 120.0
"""Generous: a start takes 4 s on an idle machine, but tests share theirs with compilers."""
POLL_SECONDS = 0.05
ROLLOUTS = "rollouts-controller"
OWN_STAGES = Path(__file__).resolve().parent / "stages"
RBAC = "rbac.authorization.k8s.io"

T = TypeVar("T")


class ClusterError(Exception):
    """The cluster did not do what was asked in time; the text says what, with the log's end."""


def available(*, rollouts: bool = False) -> str | None:
    """Why a Cluster cannot start here, in one sentence, or None when it can.

    Never builds. `rollouts=True` asks for the Argo Rollouts controller too.
    """
    missing = build.locate().missing(rollouts=rollouts)
    if missing:
        return (
            f"the test cluster is not built ({', '.join(missing)} missing):"
            " run `python -m tests.cluster build`"
        )
    if shutil.which("openssl") is None:
        return "the test cluster needs `openssl` on PATH to make its service account key"
    return None


class Cluster:
    """One control plane with its own data folder, ports, certificate and tokens.

    Usable once: after `stop` make a new one. `keep=True` leaves the data folder, with etcd's
    data and every log, in place after `stop`.
    """

    def __init__(
        self, *, nodes: int = 1, keep: bool = False, timeout: float = START_TIMEOUT_SECONDS
    ) -> None:
        self._nodes = nodes
        self._keep = keep
        self._timeout = timeout
        self._cache = build.locate()
        self._folder: DataFolder | None = None
        self._ports: list[Port] = []
        self._processes: dict[str, Process] = {}
        self.token: str = secrets.token_hex(24)
        """The administrator's bearer token (group system:masters)."""
        self.url: str = ""
        """Where the API server listens: https://127.0.0.1:PORT."""

    # What one needs to talk to it

    @property
    def data(self) -> Path:
        """The data folder; `NAME.log` in it is the log of each process."""
        if self._folder is None:
            raise ClusterError("the cluster is not started")
        return self._folder.path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig (JSON, which is YAML too), mode 0600."""
        return self.data / "kubeconfig"

    @property
    def ca(self) -> Path:
        """PEM file that verifies the API server's certificate."""
        return self.data / "tls" / "apiserver.crt"

    @property
    def api(self) -> Api:
        """A small JSON client, as the administrator."""
        return Api(self.url, self.ca, self.token)

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 60.0) -> str:
        """Run kubectl as the administrator and return its standard output.

        `timeout` in seconds. Raises ClusterError with its error output.
        """
        command = [str(self._cache.binary("kubectl")), f"--cache-dir={self.data / 'kubectl'}"]
        try:
            done = subprocess.run(
                [*command, *arguments],
                check=False,
                env=os.environ | {"KUBECONFIG": str(self.kubeconfig), "KUBERC": "off"},
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"kubectl {arguments} took more than {timeout:g} s") from error
        if done.returncode != 0:
            raise ClusterError(f"kubectl {arguments}: {done.stderr.strip()}")
        return done.stdout

    # Life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start everything and return when Nodes are Ready and the Gateway API is served.

        Raises ClusterError; nothing stays behind then.
        """
        reason = available()
        if reason is not None:
            raise ClusterError(reason)
        if self._folder is not None:
            raise ClusterError("a Cluster starts only once")
        remove_orphans()
        self._folder = DataFolder()
        atexit.register(self.stop)
        try:
            self._start_servers()
            self.install_crds(self._cache.crds("gateway-api"))
            self._wait_until_usable()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Kill every process, free the ports and remove the data folder. May be called twice."""
        atexit.unregister(self.stop)
        processes, self._processes = self._processes, {}
        for process in processes.values():
            process.signal(signal.SIGKILL)
        for process in processes.values():
            process.kill()
        for port in self._ports:
            port.release()
        self._ports.clear()
        if self._folder is not None and self._folder.path.exists():
            if self._keep:
                self._folder.keep()
            else:
                self._folder.remove()

    def start_rollouts_controller(self) -> None:
        """Install Argo's CRDs and start its controller; returns when it is healthy.

        Calling it again does nothing. Raises ClusterError when it was not built.
        """
        if ROLLOUTS in self._processes:
            return
        reason = available(rollouts=True)
        if reason is not None:
            raise ClusterError(reason)
        self.install_crds(self._cache.crds("argo-rollouts"))
        # The controller reads its settings from this namespace and ends when it cannot.
        self.api.post("/api/v1/namespaces", {"metadata": {"name": "argo-rollouts"}})
        health, metrics = self._port(), self._port()
        self._run(ROLLOUTS, components.rollouts_controller(self.kubeconfig, health, metrics))
        self._wait_healthy(ROLLOUTS, f"http://127.0.0.1:{health}/healthz")

    # Faults, for chaos tests

    @property
    def pids(self) -> Mapping[str, int]:
        """Process ids by component name, of those that run."""
        return {name: p.pid for name, p in self._processes.items() if p.pid is not None}

    def kill(self, component: str) -> None:
        """Kill one component hard (`etcd`, `kube-apiserver`, `rollouts-controller`, ...)."""
        self._processes[component].kill()

    def restart(self, component: str) -> None:
        """Kill it if it runs and start it again, on its old port and data; does not wait."""
        self._processes[component].kill()
        self._processes[component].start()

    def pause(self, component: str) -> None:
        """Stop one component's clock (SIGSTOP): connections stay open, nothing answers."""
        self._processes[component].signal(signal.SIGSTOP)

    def resume(self, component: str) -> None:
        """Let a paused component go on."""
        self._processes[component].signal(signal.SIGCONT)

    def log(self, component: str, lines: int = 50) -> str:
        """The end of one component's log."""
        return self._processes[component].tail(lines)

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Return when the API server says it is ready (after a `restart`). Seconds."""
        self._until("the API server to be ready", lambda: self.api.get("/readyz"), timeout)

    # Tenants

    def create_namespace(self, prefix: str = "test") -> str:
        """Make a namespace with a fresh name and return it: tests share a cluster by it."""
        body: Object = {"metadata": {"generateName": f"{prefix}-"}}
        return str(self.api.post("/api/v1/namespaces", body)["metadata"]["name"])

    def create_token(self, name: str, rules: Iterable[Object], namespace: str | None = None) -> str:
        """A token that may do no more than `rules` (RBAC PolicyRules), within `namespace`, or in
        the whole cluster when that is None. It is a real service account's, valid for a day."""
        home = namespace or "default"
        self.api.post(f"/api/v1/namespaces/{home}/serviceaccounts", {"metadata": {"name": name}})
        kind = "Role" if namespace else "ClusterRole"
        scope = f"/apis/{RBAC}/v1" + (f"/namespaces/{namespace}" if namespace else "")
        self.api.post(
            f"{scope}/{kind.lower()}s", {"metadata": {"name": name}, "rules": list(rules)}
        )
        binding: Object = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": home}],
        }
        self.api.post(f"{scope}/{kind.lower()}bindings", binding)
        answer = self.api.post(
            f"/api/v1/namespaces/{home}/serviceaccounts/{name}/token",
            {"spec": {"expirationSeconds": 86_400}},
        )
        return str(answer["status"]["token"])

    def write_kubeconfig(self, path: Path, token: str) -> Path:
        """Write a kubeconfig for `token` to `path`, mode 0600, and return the path."""
        config = kubeconfig(self.url, self.ca, token)
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1) + "\n")
        return path

    def install_crds(self, folder: Path) -> None:
        """Create every object in a folder's YAML files and wait until the kinds are served."""
        paths = []
        for endpoint, document in documents(folder):
            made = self.api.request("POST", endpoint, document, content_type=YAML)
            paths += served_paths(made)
        # "Established" is not enough: the handlers come a moment later, and a 404 till then.
        for path in paths:
            self._until(f"{path} to be served", partial(self.api.get, f"{path}?limit=1"))

    # How it starts

    def _port(self) -> Port:
        port = Port()
        self._ports.append(port)
        return port

    def _run(self, name: str, arguments: list[str]) -> None:
        command = [str(self._cache.binary(name)), *arguments]
        process = Process(name, command, self.data / f"{name}.log", home=self.data)
        self._processes[name] = process
        process.start()

    def _start_servers(self) -> None:
        client, peer, secure = self._port(), self._port(), self._port()
        self._run("etcd", components.etcd(self.data / "etcd", client, peer))
        key = self.data / "service-account.key"
        _make_rsa_key(key)
        tokens = self.data / "tokens.csv"
        tokens.touch(mode=0o600)
        tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')
        self._wait_healthy("etcd", f"http://127.0.0.1:{client}/health")
        self.url = f"https://127.0.0.1:{secure}"
        self._run(
            "kube-apiserver", components.apiserver(client, secure, self.ca.parent, tokens, key)
        )
        self._until("the API server's certificate", self.ca.exists)
        self._until("the API server to be ready", lambda: self.api.get("/readyz"))
        self.write_kubeconfig(self.kubeconfig, self.token)
        self._start_controllers()

    def _start_controllers(self) -> None:
        manager, scheduler = self._port(), self._port()
        config, plugins = self.kubeconfig, self.data / "flexvolume"
        self._run(
            "kube-controller-manager",
            components.controller_manager(config, manager, self.ca, plugins),
        )
        self._run("kube-scheduler", components.scheduler(config, scheduler))
        stages = sorted(self._cache.stages.glob("*.yaml")) + sorted(OWN_STAGES.glob("*.yaml"))
        self._run("kwok", components.kwok(config, stages))
        for number in range(self._nodes):
            self.api.post("/api/v1/nodes", node(f"node-{number}"))
        self._wait_healthy("kube-controller-manager", f"https://127.0.0.1:{manager}/healthz")
        self._wait_healthy("kube-scheduler", f"https://127.0.0.1:{scheduler}/readyz")

    def _wait_until_usable(self) -> None:
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self._until("the controllers to work", lambda: self.api.get(account))
        self._until("every Node to be Ready", self._nodes_ready)

    def _nodes_ready(self) -> bool:
        nodes = self.api.get("/api/v1/nodes")["items"]
        return len(nodes) >= self._nodes and all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            for node in nodes
            if (conditions := node["status"].get("conditions", [])) is not None
        )

    def _wait_healthy(self, name: str, url: str) -> None:
        # Each component makes its own throw-away certificate; nothing secret is sent to it.
        context = ssl._create_unverified_context() if url.startswith("https:") else None
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # a proxy of the environment must not see loopback
            *([urllib.request.HTTPSHandler(context=context)] if context else []),
        )

        def healthy() -> bool:
            with opener.open(url, timeout=5) as response:
                return bool(response.status == 200)

        self._until(f"{name} to be healthy", healthy)

    def _until(self, what: str, check: Callable[[], T], timeout: float | None = None) -> T:
        """Poll until `check` returns something true; not reachable and not there count as no.

        Raises ClusterError when time is up or a process has ended.
        """
        limit = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        last = "it never answered"
        while True:
            try:
                value = check()
                if value:
                    return value
                last = f"the last answer was {value!r}"
            except (OSError, ApiError) as error:
                last = f"the last answer was {error}"
            ended = [name for name, process in self._processes.items() if process.pid is None]
            # With a timeout of its own it is a wait after start, when a test may have killed one.
            if ended and timeout is None:
                raise ClusterError(f"waiting for {what}: {ended[0]} ended\n{self._tails(ended)}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"waited {limit:g} s for {what}; {last}\n{self._tails(self._processes)}"
                )
            time.sleep(POLL_SECONDS)

    def _tails(self, names: Iterable[str]) -> str:
        return "\n".join(f"--- {name}.log\n{self._processes[name].tail()}" for name in names)


def _make_rsa_key(path: Path) -> None:
    """Write the key that signs service account tokens. Raises ClusterError."""
    done = subprocess.run(
        ["openssl", "genrsa", "-out", str(path), "2048"],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise ClusterError(f"openssl genrsa: {done.stderr.strip()}")
    with suppress(OSError):
        path.chmod(0o600)
