"""What Argo CD says of a sync, read without a cluster."""

from __future__ import annotations

import pytest

from tools.gitops_sync import of_application

CHART, COMMIT = "1.4.2", 40 * "a"


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/deploy",
        "https://github.com/Acme/deploy.git",
        "git@github.com:acme/deploy.git",
        "ssh://git@github.com/acme/deploy",
    ],
)
def test_of_several_sources_the_revision_of_the_repository_that_we_write_to_counts(
    url: str,
) -> None:
    revisions = {"revisions": [CHART, COMMIT]}
    sync = of_application(
        {
            "metadata": {"namespace": "argocd", "name": "web"},
            "spec": {
                "sources": [
                    {"repoURL": "https://charts.example", "chart": "web"},
                    {"repoURL": url, "targetRevision": "main", "ref": "values"},
                ]
            },
            "status": {
                "sync": {"status": "Synced", **revisions},
                "health": {"status": "Healthy"},
                "operationState": {"phase": "Succeeded", "syncResult": revisions},
            },
        },
        "acme/deploy",
    )
    assert (sync.is_done, sync.revision, sync.tried) == (True, COMMIT, COMMIT)
