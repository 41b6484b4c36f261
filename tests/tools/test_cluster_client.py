"""The wire: credentials that change, servers that answer oddly, messages without secrets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from domain.errors import OutcomeUnknown, Permanent, Temporary
from tools.cluster_client import DEPLOYMENT, HTTPROUTE, MOST_PAGES, POD, ClusterClient
from tools.cluster_errors import retry_after

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BODY = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {}}


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """A server on a loopback port that answers everything with `handler`; gives its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def kubeconfig(path: Path, url: str, token: str = "first-token") -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "current-context": "c",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )
    return path


async def free() -> None:
    """A guard that lets everything pass."""


async def test_a_token_that_was_renewed_in_the_file_is_taken_up(tmp_path: Path) -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        known = request.headers["Authorization"] == "Bearer second-token"
        return web.json_response(
            BODY if known else {"message": "Unauthorized"}, status=200 if known else 401
        )

    async with serving(handler) as url:
        path = kubeconfig(tmp_path / "k", url)
        async with ClusterClient(path) as client:
            with pytest.raises(Permanent, match="credentials"):
                await client.get(DEPLOYMENT, "shop", "web")
            assert seen == ["Bearer first-token"]
            kubeconfig(path, url, "second-token")
            assert await client.get(DEPLOYMENT, "shop", "web") == BODY
            assert seen[1:] == ["Bearer first-token", "Bearer second-token"]


async def test_a_write_is_guarded_again_before_it_is_sent_with_a_new_token(tmp_path: Path) -> None:
    guarded = 0

    async def guard() -> None:
        nonlocal guarded
        guarded += 1

    async def handler(request: web.Request) -> web.Response:
        known = request.headers["Authorization"] == "Bearer second-token"
        return web.json_response(BODY, status=200 if known else 401)

    async with serving(handler) as url:
        path = kubeconfig(tmp_path / "k", url)
        async with ClusterClient(path) as client:
            await client._connected()
            kubeconfig(path, url, "second-token")
            await client.patch(DEPLOYMENT, "shop", "web", {}, "1", guard)
    assert guarded == 2


async def test_a_kind_that_is_not_served_is_not_a_missing_object(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=404, text="404 page not found")

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        with pytest.raises(Permanent) as refused:
            await client.get(HTTPROUTE, "shop", "web")
        assert "CRDs" in refused.value.remedy
        with pytest.raises(Permanent) as refused:
            await client.get(DEPLOYMENT, "shop", "web")
        assert "KUBECONFIG" in refused.value.remedy


async def test_a_proxy_that_echoes_the_request_does_not_give_the_token_away(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=400, text=f"bad request: {dict(request.headers)}")

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        with pytest.raises(Permanent, match="bad request") as refused:
            await client.get(DEPLOYMENT, "shop", "web")
        assert "first-token" not in str(refused.value)


async def test_success_that_is_not_an_object_is_unknown_for_a_write(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        with pytest.raises(OutcomeUnknown, match="not a JSON object"):
            await client.create(DEPLOYMENT, BODY, free)
        with pytest.raises(Temporary, match="not a JSON object"):
            await client.get(DEPLOYMENT, "shop", "web")


async def test_a_patch_names_the_version_it_was_worked_out_from(tmp_path: Path) -> None:
    sent = []

    async def handler(request: web.Request) -> web.Response:
        sent.append((request.method, request.content_type, json.loads(await request.text())))
        return web.json_response(BODY)

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        changes = {"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 2}}
        await client.patch(DEPLOYMENT, "shop", "web", changes, "41", free)
    metadata = {"labels": {"a": "b"}, "resourceVersion": "41"}
    body = {"metadata": metadata, "spec": {"replicas": 2}}
    assert sent == [("PATCH", "application/merge-patch+json", body)]


async def test_a_write_is_never_sent_twice_over_a_broken_connection(tmp_path: Path) -> None:
    writes = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal writes
        if request.method == "GET":
            return web.json_response(BODY)
        writes += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        # The first request leaves a connection open, which the second is sent over.
        await client.get(DEPLOYMENT, "shop", "web")
        with pytest.raises(OutcomeUnknown):
            await client.patch(DEPLOYMENT, "shop", "web", {}, "1", free)
    assert writes == 1


async def test_a_server_that_says_it_is_simulated_is_believed(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(BODY, headers={"X-Fermata-Simulated": "true"})

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        assert client.simulated is False
        await client.get(DEPLOYMENT, "shop", "web")
        assert client.simulated is True


async def test_names_cannot_lead_to_another_path(tmp_path: Path) -> None:
    paths = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.raw_path)
        return web.json_response(BODY)

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        await client.get(DEPLOYMENT, "shop/../kube-system", "web?x=1")
    assert paths == ["/apis/apps/v1/namespaces/shop%2F..%2Fkube-system/deployments/web%3Fx=1"]


@pytest.mark.parametrize(
    "text", ["token: [unclosed-secret", "just a secret string", "{}", "users: 7"]
)
async def test_an_unusable_kubeconfig_is_named_without_its_content(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(Permanent, match="credentials cannot be used") as refused:
        await ClusterClient(path).get(DEPLOYMENT, "shop", "web")
    assert "secret" not in str(refused.value)
    assert "KUBECONFIG" in refused.value.remedy


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="credentials cannot be used"):
        await ClusterClient(tmp_path / "nowhere").get(DEPLOYMENT, "shop", "web")


async def test_outside_of_a_cluster_there_are_no_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Permanent, match="credentials cannot be used"):
        await ClusterClient().get(DEPLOYMENT, "shop", "web")


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=90), usegmt=True)
    assert retry_after({"Retry-After": "12"}) == 12.0
    assert 80 < (retry_after({"Retry-After": soon}) or 0) <= 90
    assert retry_after({"Retry-After": past}) == 0.0
    assert retry_after({"Retry-After": "tomorrow"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize(("whole", "names"), [(True, ["a", "b", "c"]), (False, ["a"])])
async def test_a_list_is_read_to_its_end(tmp_path: Path, whole: bool, names: list[str]) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "app=web"
        at = int(request.query.get("continue", 0))
        more = {"continue": str(at + 1)} if at < 2 else {}
        return web.json_response({"items": [{"metadata": {"name": "abc"[at]}}], "metadata": more})

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        found = await client.items(POD, "shop", "app=web", whole=whole)
    assert [one["metadata"]["name"] for one in found] == names


async def test_a_list_without_an_end_is_given_up(tmp_path: Path) -> None:
    pages = 0

    async def handler(_request: web.Request) -> web.Response:
        nonlocal pages
        pages += 1
        return web.json_response({"items": None, "metadata": {"continue": "on"}})

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        with pytest.raises(Permanent, match="more than"):
            await client.items(POD, "shop")
    assert pages == MOST_PAGES


async def test_a_list_that_ran_out_meanwhile_is_read_again_later(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.Response:
        if "continue" in request.query:
            return web.json_response({"reason": "Expired", "message": "too old"}, status=410)
        return web.json_response({"items": [], "metadata": {"continue": "on"}})

    async with serving(handler) as url, ClusterClient(kubeconfig(tmp_path / "k", url)) as client:
        with pytest.raises(Temporary, match="too old"):
            await client.items(POD, "shop")
