"""Cloud Deploy's resources in our own words, and the names that we give ours. Pure.

A release of ours belongs to one run and one target, and says so in its annotations: what is
prepared for a target can then be told from Cloud Deploy alone. Names are derived from run, target
and image, so that whoever does a step again finds what was made the first time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, UUID, uuid5

from domain.effect import Stamp
from domain.errors import Permanent
from domain.service import CloudDeploy, Target

RUN, STEP, DIGEST = "fermata.dev/run", "fermata.dev/step", "fermata.dev/digest"
TARGET = "fermata.dev/target"
STABLE = "stable"
"""Cloud Deploy's own name for the last phase; a custom canary may give it another."""
LIVE = frozenset(
    {"IN_PROGRESS", "PENDING", "PENDING_APPROVAL", "PENDING_RELEASE", "CANCELLING", "HALTED"}
)
"""States of a rollout that has not ended."""
BEGUN = frozenset({"IN_PROGRESS", "SUCCEEDED", "FAILED"})
"""States of a phase that has begun. An ABORTED one may have, or not."""


@dataclass(frozen=True)
class Phase:
    """One phase of a rollout."""

    id: str
    state: str


@dataclass(frozen=True)
class Rollout:
    """A release on its way to a target."""

    name: str
    """Full resource name."""
    target: str
    state: str
    phases: tuple[Phase, ...] = ()
    failure: str = ""
    needs_approval: bool = False
    has_begun: bool = False
    """Whether it ever began to deploy."""
    notes: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0
    """Seconds since 1970."""
    ended: float = 0.0

    @property
    def id(self) -> str:
        """The last part of its name."""
        return last_part(self.name)

    @property
    def release(self) -> str:
        """Full name of its release."""
        return self.name.rpartition("/rollouts/")[0]

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.state in LIVE

    @property
    def at(self) -> Phase | None:
        """The last phase that has begun, or may have; None: nothing is changed yet."""
        begun = [one for one in self.phases if one.state in BEGUN]
        if begun or not self.has_begun:
            return begun[-1] if begun else None
        return next((one for one in self.phases if one.state == "ABORTED"), None)

    @property
    def in_canary(self) -> bool:
        """Whether it got as far as a canary phase and no further: part of the traffic has it."""
        return self.at is not None and self.at is not self.phases[-1]

    @property
    def is_canary(self) -> bool:
        """Whether it is in a canary phase, or would begin with one."""
        first = next((one for one in self.phases if one.state != "SKIPPED"), None)
        at = self.at or first
        return at is not None and at is not self.phases[-1]

    def phase(self, id: str) -> Phase | None:
        """The phase of that id."""
        return next((one for one in self.phases if one.id == id), None)

    @property
    def next(self) -> Phase | None:
        """The first phase that has yet to begin."""
        return next((one for one in self.phases if one.state == "PENDING"), None)


@dataclass(frozen=True)
class Release:
    """Rendered manifests of one set of images."""

    name: str
    images: tuple[tuple[str, str], ...]
    """(name in the Skaffold configuration, reference) pairs."""
    rendered: str
    """SUCCEEDED, FAILED or IN_PROGRESS, for the target that was asked about."""
    failure: str = ""
    abandoned: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    created: float = 0.0

    def image(self, target: Target) -> str:
        """The reference of the service's image, '' when the release has none of it."""
        names = [one for one in self.images if one[0] == settings_of(target).artifact]
        if not names and len(self.images) == 1:
            names = list(self.images)
        if not names:
            names = [one for one in self.images if bare(one[1]) == one[0]]
        return names[0][1] if len(names) == 1 else ""


@dataclass(frozen=True)
class Ladder:
    """What a pipeline's stage does on the way to a target: (phase, percent) of its canary."""

    pipeline: str
    rungs: tuple[tuple[str, int], ...]
    final: str = STABLE
    """The phase in which all traffic has the new version."""
    suspended: bool = False

    def phase(self, weight: int) -> str:
        """The phase that gives the canary this weight. Raises Permanent that names those it has."""
        for id, percent in self.rungs:
            if percent == weight:
                return id
        known = ", ".join(f"{percent}%" for _, percent in self.rungs) or "none"
        raise Permanent(
            f"pipeline {self.pipeline} has no canary phase of {weight}% (it has: {known})",
            "make the weights under `canary:` in services.yaml and the percentages of the "
            "pipeline's canary the same",
        )

    def weight(self, phase: str) -> int:
        """The canary's share of the traffic in a phase; 0 for one that is not a canary's."""
        return dict(self.rungs).get(phase, 0)


def settings_of(target: Target) -> CloudDeploy:
    """The pipeline of a target. Raises Permanent for a service that has none."""
    found = target.workload.cloud_deploy
    if found is None:
        raise Permanent(
            f"{target.service} names no delivery pipeline",
            "add `cloud_deploy:` to its workload in services.yaml (docs/executors.md)",
        )
    return found


def pipeline_name(target: Target) -> str:
    """Full name of the delivery pipeline."""
    of = settings_of(target)
    return f"projects/{of.project}/locations/{of.location}/deliveryPipelines/{of.pipeline}"


def release_id(target: Target, image: str, run: UUID) -> str:
    """The id of the release that a run makes of an image for a target."""
    return f"f-{run.hex[:16]}-{_short(target.key, image)}"


def release_name(target: Target, image: str, run: UUID) -> str:
    """The full name of that release."""
    return f"{pipeline_name(target)}/releases/{release_id(target, image, run)}"


def rollback_id(target: Target, stamp: Stamp) -> str:
    """The id of the rollout that one rollback step makes."""
    return f"b-{stamp.run_id.hex[:16]}-{_short(target.key, stamp.step_id, stamp.digest)}"


def request_id(stamp: Stamp, what: str) -> str:
    """A UUID by which Cloud Deploy knows a request that was sent before."""
    return str(uuid5(NAMESPACE_URL, f"{stamp.run_id}/{stamp.step_id}/{stamp.digest}/{what}"))


def notes(target: Target, stamp: Stamp) -> dict[str, str]:
    """Annotations that say which run and step made something, for which of our targets."""
    return {
        RUN: str(stamp.run_id),
        STEP: stamp.step_id,
        DIGEST: stamp.digest,
        TARGET: target.key,
    }


def is_of_run(of: Rollout | Release, target: Target, run: UUID) -> bool:
    """Whether a run has made it, for this target."""
    return of.notes.get(RUN) == str(run) and of.notes.get(TARGET) == target.key


def artifact_of(target: Target, image: str) -> str:
    """What the Skaffold configuration calls the image."""
    return settings_of(target).artifact or bare(image)


def bare(image: str) -> str:
    """An image reference without tag and digest."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def version_in(image: str) -> str:
    """The tag of an image, for `{version}` in the source's address."""
    name = image.partition("@")[0].rpartition("/")[2]
    return name.partition(":")[2]


def newest(rollouts: Sequence[Rollout]) -> Rollout | None:
    """The rollout that has the last word on a target: one that was called off before it began has
    changed nothing and is passed over."""
    counting = [one for one in rollouts if one.state != "CANCELLED" or one.at is not None]
    return max(counting, key=lambda one: (one.created, one.name), default=None)


def deployed(rollouts: Sequence[Rollout]) -> Rollout | None:
    """The last rollout that went all the way."""
    done = [one for one in rollouts if one.state == "SUCCEEDED"]
    return max(done, key=lambda one: (one.ended, one.created), default=None)


def last_part(name: str) -> str:
    """The id at the end of a resource name."""
    return name.rpartition("/")[2]


def _short(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
