"""The shipped policy, made fit for tests that have to pass on a Saturday night as well."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.e2e.served import ROOT


def everyday_policy(folder: Path) -> Path:
    """The shipped `policy.yaml` without its change windows, and without the samples about them."""
    policy = yaml.safe_load((ROOT / "policy.yaml").read_text())
    policy["windows"]["deny"] = []
    policy["samples"] = [
        one
        for one in policy["samples"]
        if one.get("rule") not in ("windows.closed", "override.accepted")
    ]
    path = folder / "everyday-policy.yaml"
    path.write_text(yaml.safe_dump(policy, sort_keys=False))
    return path
