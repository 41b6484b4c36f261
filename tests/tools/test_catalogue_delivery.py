"""services.yaml about executors: what it becomes, and what an executor cannot do is refused."""

from __future__ import annotations

import pytest

from domain.errors import SourceError
from domain.service import CloudDeploy, GitOps, Target
from tests.tools.test_catalogue import GOOD, findings, line_of
from tools.catalogue import load_catalogue

CLOUD = """\
    workload:
      executor: cloud-deploy
      cloud_deploy:
        project: acme
        location: europe-west1
        pipeline: checkout
        source: gs://acme-skaffold/checkout/{version}.tar.gz
        targets: {prod: checkout-prod}
"""
GIT = """\
    workload:
      executor: gitops
      gitops:
        repo: acme/deploy
        file: envs/{environment}/kustomization.yaml
        kustomize: checkout
        application: argocd/checkout-{environment}
"""
CLOUDY = GOOD + CLOUD
GITTY = GOOD[: GOOD.index("        canary:")] + GIT


def test_a_pipeline_and_its_targets_are_part_of_the_workload() -> None:
    (service,) = load_catalogue(CLOUDY, "services.yaml").services
    delivery = service.workload.cloud_deploy
    assert delivery == CloudDeploy(
        project="acme",
        location="europe-west1",
        pipeline="checkout",
        source="gs://acme-skaffold/checkout/{version}.tar.gz",
        targets=(("prod", "checkout-prod"),),
    )
    assert [delivery.target(one.name) for one in service.environments] == [
        "staging",
        "checkout-prod",
    ]


def test_a_place_in_git_is_part_of_the_workload_and_travels_with_the_target() -> None:
    (service,) = load_catalogue(GITTY, "services.yaml").services
    target = Target.of(service, service.environments[1])
    assert target.workload.gitops == GitOps(
        repo="acme/deploy",
        branch="main",
        file="envs/{environment}/kustomization.yaml",
        kustomize="checkout",
        application="argocd/checkout-{environment}",
    )
    assert Target.model_validate_json(target.model_dump_json()) == target


def test_without_a_repository_the_services_own_is_meant() -> None:
    text = GITTY.replace("        repo: acme/deploy\n", "")
    (service,) = load_catalogue(text, "services.yaml").services
    assert service.workload.gitops is not None
    assert service.workload.gitops.repo == "acme/checkout"


@pytest.mark.parametrize(
    ("base", "old", "new", "at", "message", "hint"),
    [
        (CLOUDY, "weight: 50", "weight: 100", "weight: 100", "no canary of 100%", "below 100"),
        (CLOUDY, "{prod: check", "{qa: check", "targets:", "no environment 'qa'", "staging, prod"),
        (CLOUDY, "cloud-deploy\n", "kubernetes\n", "project:", "says nothing", "cloud-deploy"),
        (CLOUDY, "gs://", "s3://", "source:", "not an object in Cloud Storage", "gs://"),
        (CLOUDY, "{version}", "{sha}", "source:", "'{sha}'", "{version}"),
        (CLOUDY, "        pipeline: checkout\n", "", "project:", "pipeline", ""),
        (
            CLOUDY,
            "executor: cloud-deploy",
            "route: checkout\n      executor: cloud-deploy",
            "route:",
            "shifts traffic by itself",
            "take it out",
        ),
        (
            CLOUDY,
            "- {weight: 10, bake: 5m}",
            "- {weight: 0, match: {headers: {x-a: b}}}",
            "weight: 0",
            "no testers",
            "another executor",
        ),
        (
            CLOUDY,
            "{prod: checkout-prod}",
            "{prod: staging}",
            "name: prod",
            "would both write to target staging",
            "each its own",
        ),
        (
            GITTY,
            "bake: 1h30m\n",
            "bake: 1h30m\n        canary: [{weight: 10, bake: 5m}]\n",
            "canary: [{",
            "has no weights, so it cannot have a canary",
            "another executor",
        ),
        (
            GITTY,
            "bake: 1h30m\n",
            "bake: 1h30m\n        blue_green: {keep: 30m}\n",
            "blue_green",
            "cannot switch between two versions",
            "another executor",
        ),
        (
            GITTY,
            "        application: argocd/checkout-{environment}\n",
            "",
            "repo: acme/deploy",
            "not clear which controller",
            "kustomization",
        ),
        (GITTY, "kustomize: checkout", "merge: true", "merge:", "needs no merge", "pull-request"),
        (GITTY, "argocd/check", "check", "application:", "not an object", "namespace/name"),
        (GITTY, "{environment}/kust", "{env}/kust", "file:", "'{env}'", "{environment}"),
        (
            GITTY,
            "{environment}/kust",
            "all/kust",
            "name: prod",
            "would both write to envs/all",
            "{e",
        ),
        (GITTY, "kustomize: checkout", "writes: tag", "writes:", "written to a field", "image.tag"),
        (
            GITTY,
            "kustomize: checkout",
            "field: a..b",
            "field:",
            "not a path into a YAML",
            "image.tag",
        ),
        (
            GITTY,
            "kustomize: checkout",
            "kustomize: checkout\n        field: image.tag",
            "field:",
            "in one place",
            "`kustomize:` or `field:`",
        ),
        (
            GITTY,
            "      gitops:\n",
            "      cloud_deploy:\n",
            "executor: gitops",
            "no `gitops:`",
            "docs",
        ),
    ],
)
def test_what_does_not_fit_together_is_told_at_its_line_with_a_hint(
    base: str, old: str, new: str, at: str, message: str, hint: str
) -> None:
    assert old in base
    text = base.replace(old, new, 1)
    if "cloud_deploy:\n        repo" in text:
        text = text[: text.index("      cloud_deploy:\n")]
    expected = line_of(text, at)
    found = findings(text)
    assert any(
        abs(line - expected) <= 1 and message in said and hint in advice
        for line, said, advice in found
    ), (expected, found)


def test_two_services_cannot_write_to_the_same_line() -> None:
    service = GITTY[GITTY.index("  - name: checkout") :]
    other = service.replace("name: checkout\n", "name: till\n", 1).replace(
        "executor: gitops", "executor: gitops\n      deployment: till"
    )
    with pytest.raises(SourceError, match="till/staging and checkout/staging would both write"):
        load_catalogue(GITTY + other, "services.yaml")
