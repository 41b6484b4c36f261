"""The command line of each component: what differs from a real cluster, and why."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.processes import Port


def etcd(data: Path, client: Port, peer: Port) -> list[str]:
    url, peer_url = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    return [
        f"--data-dir={data}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(etcd: Port, secure: Port, certificates: Path, tokens: Path, key: Path) -> list[str]:
    """It makes its own certificate in the folder `certificates`; `tokens` is a static token file;
    `key` signs and verifies service account tokens."""
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        # Or it looks for the machine's address, and ends where there is no route at all.
        "--advertise-address=127.0.0.1",
        f"--secure-port={secure}",
        f"--cert-dir={certificates}",
        f"--token-auth-file={tokens}",
        "--anonymous-auth=false",
        "--authorization-mode=RBAC",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.96.0.0/16",
        # No kubelet mounts tokens here, and nothing takes a new node's taint off again.
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        # A loopback address is no valid endpoint of the `kubernetes` Service.
        "--endpoint-reconciler-type=none",
        "--profiling=false",
    ]


def controller_manager(kubeconfig: Path, secure: Port, ca: Path, plugins: Path) -> list[str]:
    return [
        *_controller(kubeconfig, secure),
        f"--root-ca-file={ca}",
        # It makes this folder; by default one of the machine's.
        f"--flex-volume-plugin-dir={plugins}",
    ]


def scheduler(kubeconfig: Path, secure: Port) -> list[str]:
    return _controller(kubeconfig, secure)


def _controller(kubeconfig: Path, secure: Port) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={secure}",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]


def kwok(kubeconfig: Path, stages: list[Path]) -> list[str]:
    """Without stages it ends at once."""
    return [
        f"--kubeconfig={kubeconfig}",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        *(f"--config={stage}" for stage in stages),
    ]


def rollouts_controller(kubeconfig: Path, health: Port, metrics: Port) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        "--leader-elect=false",
        f"--healthzPort={health}",
        f"--metricsPort={metrics}",
        "--qps=200",
        "--burst=400",
    ]
