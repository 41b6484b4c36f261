"""A service of another executor on the simulated world: the emulator stands in, and says so."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.e2e.api import weights
from tests.e2e.github import merged, sha_of
from tests.e2e.policies import everyday_policy
from tests.e2e.served import ROOT, serving

PIPELINE = {
    "project": "acme",
    "location": "europe-west1",
    "pipeline": "checkout",
    "source": "gs://acme-skaffold/checkout/{version}.tar.gz",
}


def services(folder: Path) -> Path:
    """The shipped catalogue's first service, released by Cloud Deploy."""
    catalogue = yaml.safe_load((ROOT / "services.yaml").read_text())
    service = catalogue["services"][0]
    service["workload"] = {"executor": "cloud-deploy", "cloud_deploy": PIPELINE}
    for environment in service["environments"]:
        steps = environment.get("canary", [])
        environment["canary"] = [step for step in steps if step["weight"] < 100]
    catalogue["services"] = [service]
    catalogue.pop("groups", None)
    path = folder / "services.yaml"
    path.write_text(yaml.safe_dump(catalogue, sort_keys=False))
    return path


async def test_weights_are_exact_where_the_emulator_stands_in_for_a_pipeline(
    tmp_path: Path,
) -> None:
    settings = {
        "FERMATA_WORLD_SPEED": "100",
        "FERMATA_POLICY": str(everyday_policy(tmp_path)),
        "FERMATA_SERVICES": str(services(tmp_path)),
    }
    async with serving(tmp_path, settings=settings) as served:
        assert "the simulated cluster stands in for it" in served.program.said()
        version = sha_of("a version of the checkout")
        run = await served.api.started("pull_request", merged("acme/checkout", 1, version))
        answer = await served.api.vote(await served.api.question(run))
        assert answer.status_code == 200, answer.text
        over = await served.api.until_over(run, 60)
        assert over["state"] == "succeeded", over["reason"]
        assert weights(over) == [10, 50, 0]
        changed = [one["result"] for one in over["effects"] if one["action_kind"] == "k8s_traffic"]
        assert all(one["simulated"] for one in changed)
