"""`python -m tests.cluster up|build`: a control plane to look at, or just its binaries."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time

from tests.cluster import build
from tests.cluster.cluster import Cluster, ClusterError


def up(*, rollouts: bool, nodes: int, keep: bool) -> int:
    """Build what is missing, start a cluster and keep it until SIGINT or SIGTERM."""
    stopped = threading.Event()
    try:
        build.build(rollouts=rollouts, say=_say)
        began = time.monotonic()
        with Cluster(nodes=nodes, keep=keep) as cluster:
            if rollouts:
                cluster.start_rollouts_controller()
            # Only now: while things start, an interrupt has to break off the waiting.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stopped.set())
            _say(f"ready after {time.monotonic() - began:.1f} s; logs in {cluster.data}")
            _say("kubeconfig, until Ctrl-C:")
            print(f"export KUBECONFIG={cluster.kubeconfig}", flush=True)
            stopped.wait()
            _say("stopping")
    except build.GoMissing as error:
        _say(f"error: {error}")
        return build.EXIT_NO_GO
    except (build.BuildFailed, ClusterError) as error:
        _say(f"error: {error}")
        return 1
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    # `build` has its own options and its own help.
    if sys.argv[1:2] == ["build"]:
        return build.main(sys.argv[2:])
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="only build the binaries")
    start = commands.add_parser("up", help="start a cluster and keep it until Ctrl-C")
    start.add_argument("--rollouts", action="store_true", help="with the Argo Rollouts controller")
    start.add_argument("--nodes", type=int, default=1, help="how many Nodes (default 1)")
    start.add_argument("--keep", action="store_true", help="leave the data folder afterwards")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        return up(rollouts=options.rollouts, nodes=options.nodes, keep=options.keep)
    except KeyboardInterrupt:
        return 130


def _on_sigterm(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
