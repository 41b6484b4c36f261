"""Patches, selectors and sizes, as pure functions."""

from __future__ import annotations

from copy import deepcopy
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.effect import Stamp
from domain.errors import Permanent
from domain.service import Target, Workload
from tools.cluster_client import DEPLOYMENT
from tools.cluster_objects import (
    TRACK,
    bears,
    canary_of,
    difference,
    first_deployment_spec,
    full_replicas,
    manifest,
    selects,
    service_selects,
    stamped,
    track_labels,
)
from tools.cluster_replicas import is_exposed, sizes, with_selector

TARGET = Target(
    service="web",
    environment="test",
    namespace="shop",
    workload=Workload(deployment="web", container="app"),
    replicas=3,
)


def stable(**spec: Any) -> dict[str, Any]:
    body = first_deployment_spec(TARGET, "web:1")
    return manifest(DEPLOYMENT, TARGET, "web", {"app": "web"}, {**body, **spec})


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2, word for word."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


# A merge patch cannot express null values, and API objects do not hold any.
leaves = st.booleans() | st.integers(0, 3) | st.sampled_from(["", "a", "b"])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abcd"), trees, max_size=4)


@given(objects, objects)
def test_a_difference_merged_into_the_old_gives_the_new(old: Any, new: Any) -> None:
    assert merged(old, difference(old, new)) == new


@given(objects)
def test_there_is_no_difference_to_oneself(one: Any) -> None:
    assert difference(one, deepcopy(one)) == {}


def test_a_stamp_is_borne_by_what_was_stamped_and_by_nothing_else() -> None:
    stamp = Stamp(run_id=uuid4(), step_id="canary-10.pods", digest="d" * 64, decision_id=uuid4())
    before = stable()
    before["metadata"]["annotations"] = {"kept": "yes"}
    after = stamped(before, stamp)
    assert bears(after, stamp)
    assert not bears(before, stamp)
    assert after["metadata"]["annotations"]["kept"] == "yes"
    assert not bears(after, stamp.model_copy(update={"step_id": "canary-50.pods"}))


@pytest.mark.parametrize(
    ("selector", "is_match"),
    [
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "x": "y"}}, False),
        ({"matchExpressions": [{"key": TRACK, "operator": "In", "values": ["canary"]}]}, True),
        ({"matchExpressions": [{"key": TRACK, "operator": "NotIn", "values": ["canary"]}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["y"]}]}, True),
        ({"matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, True),
        (
            {
                "matchLabels": {"app": "web"},
                "matchExpressions": [{"key": TRACK, "operator": "DoesNotExist"}],
            },
            False,
        ),
        ({}, True),
    ],
)
def test_selectors_match_as_kubernetes_does(selector: dict[str, Any], is_match: bool) -> None:
    assert selects(selector, {"app": "web", TRACK: "canary"}) is is_match


def test_a_service_without_a_selector_sends_nothing_anywhere() -> None:
    assert not service_selects({"spec": {}}, {"app": "web"})


def test_the_canary_of_our_own_install_is_disjoint_from_stable() -> None:
    canary = canary_of(stable(paused=True), TARGET, "web:2", 1)
    pods = canary["template"]["metadata"]["labels"]
    assert selects(canary["selector"], pods)
    assert not selects(stable()["spec"]["selector"], pods)
    assert not selects(canary["selector"], stable()["spec"]["template"]["metadata"]["labels"])
    assert "paused" not in canary


def test_a_first_install_meets_the_restricted_pod_security_standard() -> None:
    spec = first_deployment_spec(TARGET, "web:1")["template"]["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]) == {"requests", "limits"}
    assert container["readinessProbe"]["tcpSocket"] == {"port": 8080}


def test_full_strength_is_the_note_or_else_the_larger_of_now_and_catalogue() -> None:
    assert full_replicas(stable(replicas=1), TARGET) == 3
    assert full_replicas(stable(replicas=7), TARGET) == 7
    noted = stable(replicas=1)
    noted["metadata"]["annotations"] = {"fermata.dev/full-replicas": "5"}
    assert full_replicas(noted, TARGET) == 5
    # Somebody has asked for more since the note was made.
    noted["spec"]["replicas"] = 8
    assert full_replicas(noted, TARGET) == 8
    noted["spec"]["replicas"] = 1
    noted["metadata"]["annotations"] = {"fermata.dev/full-replicas": "many"}
    assert full_replicas(noted, TARGET) == 3


# --- replica weighting ---


@given(st.integers(1, 500), st.integers(1, 99))
def test_replica_weights_keep_capacity_and_round_against_the_canary(full: int, weight: int) -> None:
    of_stable, of_canary = sizes(full, weight)
    assert max(of_stable, of_canary) == full
    assert min(of_stable, of_canary) >= 1
    if of_canary > 1:
        assert of_canary * 100 <= weight * (of_stable + of_canary)
    # As near as whole pods allow: one pod more would be too much.
    if weight <= 50:
        assert (of_canary + 1) * 100 > weight * (of_stable + of_canary + 1)


@given(st.integers(1, 500))
def test_a_larger_weight_never_gives_a_smaller_share(full: int) -> None:
    shares = [canary / (of + canary) for of, canary in (sizes(full, w) for w in range(1, 100))]
    assert shares == sorted(shares)


def test_at_full_weight_stable_keeps_its_pods() -> None:
    assert sizes(4, 100) == (4, 4)


@pytest.mark.parametrize(
    ("weight", "tracks"), [(0, ["stable"]), (1, ["stable", "canary"]), (100, ["canary"])]
)
def test_the_service_selects_the_tracks_that_serve(weight: int, tracks: list[str]) -> None:
    service = {"spec": {"selector": {"app": "web", TRACK: "stable"}, "ports": []}}
    changed = with_selector(service, stable(), TARGET, weight)
    found = [
        track
        for track in ("stable", "canary")
        if service_selects(changed, track_labels(TARGET, stable(), track))
    ]
    assert found == tracks


def test_pods_without_a_track_cannot_be_kept_apart() -> None:
    bare = stable()
    del bare["spec"]["template"]["metadata"]["labels"][TRACK]
    with pytest.raises(Permanent) as refused:
        with_selector({"spec": {"selector": {"app": "web"}}}, bare, TARGET, 10)
    assert f"{TRACK}=stable" in refused.value.remedy


def test_a_canary_without_pods_is_not_exposed() -> None:
    wide = {"spec": {"selector": {"app": "web"}}}
    canary = {"spec": {"replicas": 0}}
    assert not is_exposed(wide, stable(), canary, TARGET)
    assert is_exposed(wide, stable(), {"spec": {"replicas": 1}}, TARGET)
    assert not is_exposed(None, stable(), {"spec": {"replicas": 1}}, TARGET)
