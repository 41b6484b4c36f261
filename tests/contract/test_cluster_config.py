"""Configuration that belongs to a version: copied, referred to, taken back, tidied up.

On the emulator and on a real API server.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from domain.action import K8sDeploy, K8sPrune, K8sRetire, K8sRollback, K8sTraffic
from domain.configuration import ConfigObjects, Configuration, ConfigVersion
from domain.errors import OutcomeUnknown, Permanent
from domain.service import Target
from tests.contract.cluster_bench import (
    V1,
    V2,
    V3,
    Bench,
    canary_ready,
    stable_ready,
    web_in,
)
from tests.contract.cluster_site import Obj
from tools.cluster_client import ClusterClient
from tools.cluster_read import KubernetesReader
from tools.cluster_render import KubernetesRenderer

pytest_plugins = ("tests.contract.cluster_fixtures",)

VALUE = "hunter2"
ROLE = "Only where `config:` is used"


def with_config(target: Target, *, secrets: tuple[str, ...] = ("tokens",)) -> Target:
    config = ConfigObjects(configmaps=("web",), secrets=secrets)
    workload = target.workload.model_copy(update={"config": config})
    return target.model_copy(update={"workload": workload})


async def sources(bench: Bench, mode: str = "one", token: str = VALUE) -> None:
    """The ConfigMap `web` and the Secret `tokens`, made or changed by their owner."""
    texts: dict[str, dict[str, Any]] = {
        "configmaps": {"metadata": {"name": "web"}, "data": {"mode": mode}},
        "secrets": {
            "metadata": {"name": "tokens"},
            "data": {"token": base64.b64encode(token.encode()).decode()},
        },
    }
    for plural, body in texts.items():
        name = body["metadata"]["name"]
        if await bench.site.exists(plural, bench.where, name):
            await bench.site.merge(plural, bench.where, name, {"data": body["data"]})
        else:
            await bench.site.create(plural, bench.where, body)


async def held(bench: Bench) -> Configuration:
    return await KubernetesReader(bench.client).configuration(bench.target)


def canary(bench: Bench, image: str, config: Configuration) -> K8sDeploy:
    return bench.canary(image).model_copy(update={"config": config})


def stable(bench: Bench, image: str, config: Configuration) -> K8sDeploy:
    return bench.stable(image).model_copy(update={"config": config})


async def running(bench: Bench, config: Configuration | None = None) -> Configuration:
    """Stable runs V1 with what the sources hold, or with `config`; which that is."""
    await bench.apply(stable(bench, V1, config if config is not None else await held(bench)))
    state = await bench.until(stable_ready)
    assert state.stable is not None
    if bench.target.workload.route:
        await bench.site.report(bench.where, "web")
    return state.stable.config


@pytest.fixture
async def versioned(bench: Bench) -> Bench:
    """A bench whose workload has configuration, and the objects that hold it."""
    bench.target = with_config(bench.target)
    await sources(bench)
    return bench


async def test_a_canary_gets_the_new_configuration_and_stable_keeps_its_own(
    versioned: Bench,
) -> None:
    bench = versioned
    old = await running(bench)
    assert [(one.kind, one.name, len(one.digest)) for one in old] == [
        ("ConfigMap", "web", 10), ("Secret", "tokens", 10),
    ]  # fmt: skip
    await sources(bench, "two")
    new = await held(bench)
    assert new[0] != old[0]
    assert new[1] == old[1], "what has not changed is the same version"
    done = await bench.apply(canary(bench, V2, new))
    assert done.data["config"] == [f"ConfigMap {new[0].copy_name}", f"Secret {new[1].copy_name}"]
    state = await bench.until(canary_ready)
    assert state.canary is not None
    assert state.stable is not None
    assert (state.stable.config, state.canary.config) == (old, new)
    for version, mode in ((old[0], "one"), (new[0], "two")):
        copy = await bench.site.get("configmaps", bench.where, version.copy_name)
        assert copy["immutable"] is True
        assert copy["data"] == {"mode": mode}
        assert copy["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "fermata"
        assert copy["metadata"]["annotations"]["fermata.dev/run"] == str(bench.run)
    # Again, by hand: what is there already is not made anew.
    again = await bench.apply(canary(bench, V2, new))
    assert again.data["changed"] is False


async def test_a_canary_that_serves_grows_in_whatever_order_its_configuration_is_named(
    versioned: Bench,
) -> None:
    bench = versioned
    also = {"metadata": {"name": "also"}, "data": {"mode": "one"}}
    await bench.site.create("configmaps", bench.where, also)
    config = ConfigObjects(configmaps=("web", "also"), secrets=("tokens",))
    workload = bench.target.workload.model_copy(update={"config": config})
    bench.target = bench.target.model_copy(update={"workload": workload})
    await running(bench)
    await sources(bench, "two")
    # As the store gives back what a version was good with.
    kept = tuple(sorted(await held(bench), key=lambda one: (one.kind, one.name)))
    assert kept != await held(bench)
    await bench.apply(canary(bench, V2, kept))
    await bench.until(canary_ready)
    await bench.apply(K8sTraffic(target=bench.target, weight=10))
    larger = canary(bench, V2, kept).model_copy(update={"weight": 100})
    done = await bench.apply(larger)
    assert done.data["replicas"] == 2
    # An object that has joined the catalogue since says nothing of what was kept before it.
    fewer = larger.model_copy(update={"config": kept[1:]})
    assert (await bench.apply(fewer)).data["changed"] is False


async def test_the_way_back_brings_the_configuration_back_with_the_image(versioned: Bench) -> None:
    bench = versioned
    old = await running(bench)
    await sources(bench, "two", "correct horse")
    new = await held(bench)
    await bench.apply(stable(bench, V2, new))
    state = await bench.until(stable_ready)
    assert state.stable is not None
    assert (state.stable.image, state.stable.config) == (V2, new)
    back = K8sRollback(target=bench.target, image=V1, config=old)
    done = await bench.apply(back)
    assert old[0].copy_name in done.summary
    assert await bench.writer.read_back(back, bench.stamp(back)) is not None
    state = await bench.until(stable_ready)
    assert state.stable is not None
    assert (state.stable.image, state.stable.config) == (V1, old)
    gone = await bench.site.http.delete(
        bench.site.path("configmaps", bench.where, new[0].copy_name)
    )
    assert gone.status_code == 200
    with pytest.raises(Permanent, match=f"{new[0].copy_name}, which the last known good") as lost:
        await bench.apply(K8sRollback(target=bench.target, image=V2, config=new))
    assert "make it again" in lost.value.remedy


async def test_every_kind_of_reference_is_led_to_the_copy(versioned: Bench) -> None:
    bench = versioned
    await running(bench)
    env: list[Obj] = [
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "mode"}}},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "tokens", "key": "token"}}},
        {"name": "OTHER", "valueFrom": {"configMapKeyRef": {"name": "web-else", "key": "k"}}},
    ]
    env_from: list[Obj] = [{"configMapRef": {"name": "web"}}, {"secretRef": {"name": "tokens"}}]
    projected: list[Obj] = [{"configMap": {"name": "web"}}, {"secret": {"name": "tokens"}}]
    volumes: list[Obj] = [
        {"name": "a", "configMap": {"name": "web"}},
        {"name": "b", "secret": {"secretName": "tokens"}},
        {"name": "c", "projected": {"sources": projected}},
    ]
    before = await bench.site.get("deployments", bench.where, "web")
    container = before["spec"]["template"]["spec"]["containers"][0]
    spec = {
        "containers": [{**container, "env": env, "envFrom": env_from}],
        "initContainers": [{"name": "first", "image": V1, "env": env, "envFrom": env_from}],
        "volumes": volumes,
    }
    changed = {"spec": {"template": {"spec": spec}}}
    await bench.site.merge("deployments", bench.where, "web", changed)
    await bench.until(stable_ready)
    new = await held(bench)
    await bench.apply(canary(bench, V2, new))
    made = await bench.site.get("deployments", bench.where, "web-canary")
    text = json.dumps(made["spec"]["template"]["spec"])
    copies = [one.copy_name for one in new]
    assert [text.count(f'"{name}"') for name in copies] == [6, 6]
    assert '"name": "web"' not in text.replace('"name": "web-else"', "")
    assert '"tokens"' not in text
    assert "web-else" in text


async def test_an_object_that_is_missing_or_not_used_is_named(versioned: Bench) -> None:
    bench = versioned
    await running(bench)
    bench.target = with_config(bench.target, secrets=("tokens", "nowhere"))
    with pytest.raises(Permanent, match=r"no Secret \S+/nowhere, which web is configured") as none:
        await held(bench)
    assert "workload.config" in none.value.remedy
    body = {"metadata": {"name": "nowhere"}, "data": {}}
    await bench.site.create("secrets", bench.where, body)
    with pytest.raises(Permanent, match="uses nothing of Secret nowhere"):
        await bench.apply(canary(bench, V2, await held(bench)))
    assert not await bench.site.exists("deployments", bench.where, "web-canary")


async def test_what_has_changed_since_it_was_planned_is_not_released(versioned: Bench) -> None:
    bench = versioned
    old = await running(bench)
    await sources(bench, "two")
    planned = await held(bench)
    await sources(bench, "three")
    with pytest.raises(Permanent, match=r"ConfigMap \S+/web has changed since") as changed:
        await bench.apply(canary(bench, V2, planned))
    assert "/deploy web test" in changed.value.remedy
    # But what a canary was judged with is what stable gets, whatever the source holds by now.
    judged = await held(bench)
    await bench.apply(canary(bench, V2, judged))
    await bench.until(canary_ready)
    await sources(bench, "four", "changed again")
    await bench.apply(stable(bench, V2, judged))
    state = await bench.until(stable_ready)
    assert state.stable is not None
    assert state.stable.config == judged != old


async def test_nobody_can_guess_a_secret_from_its_version(versioned: Bench) -> None:
    bench = versioned
    # Before there is a key the content is not known, and a canary's is what stable gets.
    unknown = await held(bench)
    assert [one.digest == "" for one in unknown] == [False, True]
    config = await running(bench, unknown)
    await sources(bench, token="else")
    await bench.apply(canary(bench, V2, unknown))
    await bench.until(canary_ready)
    await sources(bench, token="something else")
    done = await bench.apply(stable(bench, V2, unknown))
    state = await bench.until(stable_ready)
    assert state.stable is not None
    assert state.canary is not None
    assert state.stable.config == state.canary.config != config
    assert VALUE not in done.model_dump_json()
    key = await bench.site.get("secrets", bench.where, "fermata-config-key")
    assert key["immutable"] is True
    # The same value elsewhere, under another key, is another version.
    elsewhere = web_in(await bench.site.namespace())
    other = Bench(bench.site, with_config(elsewhere), bench.client)
    await sources(other)
    assert (await running(other, await held(other)))[1].digest != config[1].digest
    assert (await held(other))[0].digest == config[0].digest


async def test_labels_of_a_source_neither_make_a_version_nor_go_along(versioned: Bench) -> None:
    bench = versioned
    old = await running(bench)
    label = {"metadata": {"labels": {"argocd.argoproj.io/instance": "web"}}}
    await bench.site.merge("configmaps", bench.where, "web", label)
    assert await held(bench) == old
    await sources(bench, "two")
    new = await held(bench)
    await bench.apply(canary(bench, V2, new))
    copy = await bench.site.get("configmaps", bench.where, new[0].copy_name)
    assert "argocd.argoproj.io/instance" not in copy["metadata"]["labels"]


async def test_copies_go_that_nothing_runs_with_and_nothing_goes_back_to(versioned: Bench) -> None:
    bench = versioned
    known = [await running(bench)]
    for image, mode in ((V2, "two"), (V3, "three")):
        await sources(bench, mode)
        known.append(await held(bench))
        await bench.apply(stable(bench, image, known[-1]))
        await bench.until(stable_ready)
    await sources(bench, "four")
    known.append(await held(bench))
    await bench.apply(canary(bench, V1, known[-1]))
    await bench.until(canary_ready)
    tidy = K8sPrune(target=bench.target, keep=known[0])
    done = await bench.apply(tidy)
    assert done.data["deleted"] == [f"ConfigMap {known[1][0].copy_name}"]
    there = [await bench.site.exists("configmaps", bench.where, one[0].copy_name) for one in known]
    assert there == [True, False, True, True], "kept, gone, stable's, the canary's"
    assert await bench.site.exists("configmaps", bench.where, "web")
    assert await bench.site.exists("secrets", bench.where, "fermata-config-key")
    assert await bench.writer.read_back(tidy, bench.stamp(tidy)) is None
    again = await bench.apply(tidy)
    assert again.data["changed"] is False


async def test_a_copy_that_is_somebody_elses_is_not_taken_for_ours(versioned: Bench) -> None:
    bench = versioned
    await running(bench)
    await sources(bench, "two")
    new = await held(bench)
    body: Obj = {"metadata": {"name": new[0].copy_name}, "data": {"mode": "evil"}}
    await bench.site.create("configmaps", bench.where, body)
    with pytest.raises(Permanent, match="does not belong to Fermata"):
        await bench.apply(canary(bench, V2, new))
    ours = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "fermata"}}}
    await bench.site.merge("configmaps", bench.where, new[0].copy_name, ours)
    with pytest.raises(Permanent, match="does not hold what its name says"):
        await bench.apply(canary(bench, V2, new))


async def test_a_cut_between_copy_and_deployment_is_made_up_for(versioned: Bench) -> None:
    bench = versioned
    await running(bench)
    await sources(bench, "two")
    action = canary(bench, V2, await held(bench))
    cut = bench.fault("/configmaps", "POST", cut="after")
    with pytest.raises(OutcomeUnknown):
        await bench.apply(action)
    assert cut.hits == 1
    assert await bench.writer.read_back(action, bench.stamp(action)) is None
    await bench.apply(action)
    assert await bench.writer.read_back(action, bench.stamp(action)) is not None


async def test_a_plan_is_drawn_with_the_references_and_without_the_values(
    versioned: Bench,
) -> None:
    bench = versioned
    await running(bench)
    await sources(bench, "two")
    new = await held(bench)
    drawn = await KubernetesRenderer(bench.client).rendered(canary(bench, V2, new))
    text = json.dumps([one.object for one in drawn])
    assert new[0].copy_name in text
    assert VALUE not in text
    assert base64.b64encode(VALUE.encode()).decode() not in text


@pytest.mark.parametrize("site", ["real"], indirect=True)
async def test_the_roles_in_the_documentation_are_enough_and_the_second_only_for_configuration(
    versioned: Bench, tmp_path: Path
) -> None:
    bench = versioned
    text = Path(__file__).parents[2].joinpath("docs/kubernetes.md").read_text(encoding="utf-8")
    plain, more = (
        yaml.safe_load(part.partition("```yaml\n")[2].partition("```")[0])["rules"]
        for part in (text, text.partition(ROLE)[2])
    )
    assert bench.site.restricted is not None
    token = bench.site.restricted(bench.where, plain)
    async with ClusterClient(bench.site.kubeconfig(tmp_path / "plain", token)) as client:
        with pytest.raises(Permanent, match="refused to get"):
            await KubernetesReader(client).configuration(bench.target)
    token = bench.site.restricted(bench.where, [*plain, *more])
    async with ClusterClient(bench.site.kubeconfig(tmp_path / "both", token)) as client:
        bench.client = client
        old = await running(bench)
        await sources(bench, "two", "else")
        new = await held(bench)
        await bench.apply(canary(bench, V2, new))
        await bench.until(canary_ready)
        await bench.apply(K8sRetire(target=bench.target))
        await bench.apply(stable(bench, V2, new))
        await bench.apply(K8sRollback(target=bench.target, image=V1, config=old))
        state = await bench.until(stable_ready)
        assert state.stable is not None
        assert state.stable.config == old
        await bench.until(lambda now: now.canary is not None and now.canary.total == 0)
        done = await bench.apply(K8sPrune(target=bench.target, keep=old))
        assert done.data["deleted"] == [], "the canary's Deployment still names them"


def test_the_name_of_a_copy_tells_its_version() -> None:
    version = ConfigVersion(kind="ConfigMap", name="web", digest="0123456789")
    assert version.version_in("web-0123456789") == "0123456789"
    assert version.version_in("web") == ""
    for other in ("web-012345678", "web-else", "web-0123456789-0123456789", "web-012345678g"):
        assert version.version_in(other) is None
