"""What a Kubernetes API server promises, as tests that know nothing but its address.

Subclass `KubeContract` and give it a fixture `kube_api` that returns a `KubeTarget`. The target
needs the deployment controllers, kwok-like pods (an image tag that starts with `broken` never
becomes ready) and the Gateway API's CRDs.
"""

from __future__ import annotations

import functools
import ssl
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.world.contract_changes import ChangeContract
from tests.world.contract_objects import ObjectContract
from tests.world.contract_workloads import WorkloadContract
from tests.world.kube import DEADLINE, Kube, KubeTarget


@functools.cache
def trust(ca: Path | None) -> ssl.SSLContext | bool:
    """What httpx verifies with; for plain HTTP nothing, which spares loading certificates."""
    return ssl.create_default_context(cafile=str(ca)) if ca else False


class KubeContract(ObjectContract, ChangeContract, WorkloadContract):
    """All promises. Every test gets a namespace of its own."""

    @pytest.fixture
    async def kube(self, kube_api: KubeTarget) -> AsyncIterator[Kube]:
        headers = {"Authorization": f"Bearer {kube_api.token}"} if kube_api.token else {}
        verify = trust(kube_api.ca)
        base = kube_api.host.rstrip("/") + "/"
        async with httpx.AsyncClient(
            base_url=base, headers=headers, verify=verify, timeout=DEADLINE
        ) as http:
            namespace = f"contract-{uuid.uuid4().hex[:10]}"
            made = await http.post("api/v1/namespaces", json={"metadata": {"name": namespace}})
            assert made.status_code == 201, made.text
            yield Kube(http, namespace)
            await http.delete(f"api/v1/namespaces/{namespace}")
