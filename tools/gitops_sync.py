"""What an Argo CD Application or a Flux Kustomization says of its last sync. Pure.

Only what is said of the present generation counts. An application that is Degraded has not failed
to sync: it is waited for, and the Deployment says itself when it is stuck.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tools.cluster_client import Kind

APPLICATION = Kind("argoproj.io", "v1alpha1", "Application", "applications")
KUSTOMIZATION = Kind("kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations")
UNDER_WAY = frozenset({"Progressing", "ProgressingWithRetry", "DependencyNotReady", "Unknown", ""})
"""Reasons of a Flux `Ready` that is not true and has not failed either."""
_COMMIT = re.compile(r"\b[0-9a-f]{40}\b")
MOST_MESSAGE = 300


@dataclass(frozen=True)
class Sync:
    """The controller's last word. Revisions are commit ids, '' where it names none."""

    who: str
    is_done: bool
    revision: str
    """What it has applied."""
    reason: str
    failed: str = ""
    """Why its last try failed, '' when it did not."""
    tried: str = ""
    """The revision of that try."""


def of_application(found: dict[str, Any], repo: str = "") -> Sync:
    """The sync of an Argo CD Application. Where it has several sources (a chart, and the values
    that go with it), `repo` (owner/name) says whose revision counts."""
    status, who = found.get("status") or {}, _named("Argo CD Application", found)
    sync, health = status.get("sync") or {}, (status.get("health") or {}).get("status") or "Unknown"
    operation = status.get("operationState") or {}
    state = sync.get("status") or "Unknown"
    # Unless it is in sync, its revision is the one it was compared with, and not applied.
    history = status.get("history") or [{}]
    applied = sync if state == "Synced" else history[-1]
    place = _place((found.get("spec") or {}).get("sources") or (), repo)
    revision = _revision(applied, place)
    reason = f"{who} is {state} and {health}"
    is_manual = not ((found.get("spec") or {}).get("syncPolicy") or {}).get("automated")
    if state == "OutOfSync" and is_manual:
        reason += ", and does not sync by itself: sync it, or give it an automated syncPolicy"
    failed = ""
    if operation.get("phase") in ("Failed", "Error"):
        failed = f"{who} could not sync: {_short(operation.get('message'))}"
    result = operation.get("syncResult") or (operation.get("operation") or {}).get("sync") or {}
    conditions = [
        one
        for one in status.get("conditions") or ()
        if str(one.get("type")).endswith("Error")  # ComparisonError, InvalidSpecError, ...
    ]
    if conditions:
        reason += f" ({conditions[0]['type']}: {_short(conditions[0].get('message'))})"
    return Sync(
        who=who,
        is_done=state == "Synced" and health == "Healthy" and not conditions,
        revision=revision,
        reason=reason,
        failed=failed,
        tried=_revision(result, place),
    )


def _place(sources: Sequence[dict[str, Any]], repo: str) -> int:
    """Which of several sources is the repository; the first one where none is."""
    for place, one in enumerate(sources):
        url = str(one.get("repoURL") or "").lower().removesuffix("/").removesuffix(".git")
        if repo and f"/{url.replace(':', '/')}".endswith(f"/{repo.lower()}"):
            return place
    return 0


def _revision(told: dict[str, Any], place: int) -> str:
    """The revision of the only source, or of the one at that place."""
    several = told.get("revisions") or ()
    return str(told.get("revision") or (several[place] if place < len(several) else ""))


def of_kustomization(found: dict[str, Any]) -> Sync:
    """The sync of a Flux Kustomization."""
    status, who = found.get("status") or {}, _named("Flux Kustomization", found)
    revision = _commit_in(status.get("lastAppliedRevision"))
    tried = _commit_in(status.get("lastAttemptedRevision"))
    if (found.get("spec") or {}).get("suspend"):
        return Sync(who, False, revision, f"{who} is suspended: resume it")
    generation = found["metadata"].get("generation", 0)
    if status.get("observedGeneration", 0) < generation:
        return Sync(who, False, revision, f"{who} has not been looked at by Flux yet")
    ready: dict[str, Any] = next(
        (one for one in status.get("conditions") or () if one.get("type") == "Ready"), {}
    )
    state, why = ready.get("status") or "Unknown", str(ready.get("reason") or "")
    words = f"{why}: {_short(ready.get('message'))}"
    failed = ""
    if state == "False" and why not in UNDER_WAY:
        failed = f"{who} could not apply: {words}"
    reason = f"{who} is ready" if state == "True" else f"{who} is not ready ({words})"
    return Sync(who, state == "True", revision, reason, failed, tried)


def _commit_in(revision: object) -> str:
    """The commit in `main@sha1:<commit>`, or `main/<commit>` of older versions."""
    found = _COMMIT.search(str(revision or ""))
    return found[0] if found else ""


def _named(kind: str, found: dict[str, Any]) -> str:
    meta = found["metadata"]
    return f"{kind} {meta.get('namespace')}/{meta.get('name')}"


def _short(message: object) -> str:
    text = " ".join(str(message or "no message").split())
    return text if len(text) <= MOST_MESSAGE else text[:MOST_MESSAGE] + "…"
