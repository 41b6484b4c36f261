"""Configuration versions in the cluster: what the objects hold now, copies made, copies deleted."""

from __future__ import annotations

import secrets

from domain.action import K8sPrune
from domain.configuration import Configuration, ConfigVersion, names_of
from domain.effect import Applied
from domain.errors import Permanent
from domain.service import Target
from tools.cluster_client import DEPLOYMENT, POD, SECRET, ClusterClient
from tools.cluster_config import (
    KEY_BYTES,
    KEY_SECRET,
    KINDS,
    config_of,
    copy_of,
    digest_of_content,
    key_in,
    key_secret,
    labels_for,
    refers_to,
    version_of_copy,
)
from tools.cluster_errors import Json
from tools.cluster_hand import Hand
from tools.cluster_lookup import unless_present
from tools.cluster_objects import RUN, canary_name, check_owned, image_of, notes_of


async def held_now(client: ClusterClient, target: Target) -> Configuration:
    """The versions that the objects in the catalogue hold at this moment.

    A Secret's is '' as long as its namespace has no key. Raises Permanent for a missing object.
    """
    if target.workload.config is None:
        return ()
    versions = target.workload.config.objects
    key: bytes | None = None
    if any(one.kind == "Secret" for one in versions):
        kept = await client.get(SECRET, target.namespace, KEY_SECRET)
        key = None if kept is None else key_in(kept)
    found = []
    for one in versions:
        source = await _source(client, target, one)
        if one.kind == "ConfigMap":
            found.append(_versioned(source, one, target, b""))
        else:
            found.append(one if key is None else _versioned(source, one, target, key))
    return tuple(found)


async def snapshot(hand: Hand, target: Target, wanted: Configuration, image: str) -> Configuration:
    """See to it that there is a copy of each wanted version; what they are.

    A version that was not known beforehand is the one that a canary of the image runs with, or else
    what the object holds now. Raises Permanent when an object has changed since the plan was made.
    """
    made = []
    for one in wanted:
        version = one if one.digest else await _canarys(hand, target, one, image)
        if version.digest and (copy := await _copy(hand.client, target, version)) is not None:
            await _check_content(hand.client, target, version, copy)
            made.append(version)
            continue
        source = await _source(hand.client, target, one)
        key = await _key(hand, target.namespace) if one.kind == "Secret" else b""
        now = _versioned(source, one, target, key)
        if version.digest and now != version:
            raise Permanent(
                f"{one.kind} {target.namespace}/{one.name} has changed since this was planned "
                f"(version {version.digest} then, {now.digest} now)",
                "release again, so that what is decided on is what is there: /deploy "
                f"{target.service} {target.environment} <sha>",
            )
        body = copy_of(source, now, target)
        await hand.ensure(KINDS[one.kind], target.namespace, now.copy_name, unless_present(body))
        made.append(now)
    return tuple(made)


async def check_copies(client: ClusterClient, target: Target, wanted: Configuration) -> None:
    """Raises Permanent when a copy to go back to is gone."""
    for one in wanted:
        if one.digest and await _copy(client, target, one) is None:
            raise Permanent(
                f"{one.kind} {target.namespace}/{one.copy_name}, which the last known good version "
                "ran with, is gone",
                f"make it again from {one.name} as it was, with that name, immutable and with the "
                "label app.kubernetes.io/managed-by=fermata; or deploy a version with the "
                "configuration there is now",
            )


async def prune(action: K8sPrune, hand: Hand) -> Applied:
    """Delete the service's copies that are not to be kept and that nothing runs with."""
    target = action.target
    assert target.workload.config is not None
    declared = target.workload.config.objects
    users = await _users(hand.client, target)
    gone: list[ConfigVersion] = []
    labels = ",".join(f"{key}={value}" for key, value in labels_for(target).items())
    for kind in dict.fromkeys(one.kind for one in declared):
        for copy in await hand.client.items(KINDS[kind], target.namespace, labels):
            version = version_of_copy(copy, declared, kind)
            name = copy["metadata"]["name"]
            if version is None or version in action.keep:
                continue
            if any(refers_to(pod_spec, kind, name) for pod_spec in users):
                continue
            meta = copy["metadata"]
            await hand.client.delete(KINDS[kind], target.namespace, name, meta, hand.guard)
            gone.append(version)
    said = f"deleted {names_of(gone)}" if gone else "there is no copy to delete"
    return Applied(
        summary=f"configuration of {target.key}: {said}",
        data={"changed": bool(gone), "deleted": [str(one) for one in gone]},
        simulated=hand.client.simulated,
    )


async def _users(client: ClusterClient, target: Target) -> list[Json]:
    """Pod specs of both tracks, and of every pod of theirs that is still there."""
    found = []
    for name in (target.workload.deployment, canary_name(target)):
        deployment = await client.get(DEPLOYMENT, target.namespace, name)
        if deployment is not None:
            found.append(deployment["spec"]["template"]["spec"])
    pods = await client.items(POD, target.namespace, f"app={target.service}")
    return [*found, *(pod["spec"] for pod in pods)]


async def _canarys(hand: Hand, target: Target, version: ConfigVersion, image: str) -> ConfigVersion:
    """The version that this run's canary of the image has; unknown without such a canary."""
    canary = await hand.client.get(DEPLOYMENT, target.namespace, canary_name(target))
    if canary is None or image_of(canary, target) != image:
        return version
    if notes_of(canary).get(RUN) != str(hand.stamp.run_id):
        return version
    judged = (one for one in config_of(canary, target) if one.digest)
    return next((o for o in judged if (o.kind, o.name) == (version.kind, version.name)), version)


async def _copy(client: ClusterClient, target: Target, version: ConfigVersion) -> Json | None:
    """The copy, if there is one. Raises Permanent when the object of its name is not ours."""
    kind = KINDS[version.kind]
    found = await client.get(kind, target.namespace, version.copy_name)
    if found is not None:
        check_owned(kind, found)
    return found


async def _check_content(
    client: ClusterClient, target: Target, version: ConfigVersion, copy: Json
) -> None:
    """Raises Permanent when somebody has put other content under a version's name.

    A Secret's cannot be told any more once its key is gone.
    """
    key: bytes | None = b""
    if version.kind == "Secret":
        kept = await client.get(SECRET, target.namespace, KEY_SECRET)
        key = None if kept is None else key_in(kept)
    if key is not None and _versioned(copy, version, target, key) != version:
        plural = KINDS[version.kind].plural
        raise Permanent(
            f"{version} in {target.namespace} does not hold what its name says",
            f"find out who made it, and delete it: `kubectl -n {target.namespace} delete {plural} "
            f"{version.copy_name}`",
        )


async def _source(client: ClusterClient, target: Target, version: ConfigVersion) -> Json:
    found = await client.get(KINDS[version.kind], target.namespace, version.name)
    if found is None:
        raise Permanent(
            f"there is no {version.kind} {target.namespace}/{version.name}, which "
            f"{target.service} is configured by",
            "create it, or take it out of workload.config in services.yaml",
        )
    return found


def _versioned(source: Json, version: ConfigVersion, target: Target, key: bytes) -> ConfigVersion:
    digest = digest_of_content(source, version.kind, target.service, key)
    return version.model_copy(update={"digest": digest})


async def _key(hand: Hand, namespace: str) -> bytes:
    """The namespace's key, made when there is none. It is never told to anybody."""
    body = key_secret(namespace, secrets.token_bytes(KEY_BYTES))
    kept = await hand.ensure(SECRET, namespace, KEY_SECRET, unless_present(body))
    return key_in(kept.obj)
