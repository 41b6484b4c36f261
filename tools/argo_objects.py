"""An Argo `Rollout` and its ReplicaSets, read as pure functions on their JSON.

A Rollout is in progress while `status.currentPodHash` differs from `status.stableRS`. Its steps are
its owner's: Fermata moves from one stop to the next and never writes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from domain.errors import Permanent
from domain.service import Target
from tools.cluster_client import Kind
from tools.cluster_errors import Json
from tools.cluster_objects import replicas

ROLLOUT = Kind("argoproj.io", "v1alpha1", "Rollout", "rollouts")
REPLICASET = Kind("apps", "v1", "ReplicaSet", "replicasets")
HASH = "rollouts-pod-template-hash"
"""Label by which Argo tells a Rollout's ReplicaSets apart."""
INCONCLUSIVE = ("InconclusiveAnalysisRun", "InconclusiveExperiment")
PAUSE_STEP = "CanaryPauseStep"


@dataclass(frozen=True)
class Stop:
    """A step `pause: {}`: the Rollout stays there, at this weight, until somebody moves it on."""

    index: int
    weight: int


@dataclass(frozen=True)
class Sight:
    """A Rollout and the ReplicaSets it owns, as they were at one moment."""

    rollout: Json
    sets: tuple[Json, ...]

    @property
    def name(self) -> str:
        """`namespace/name`."""
        meta = self.rollout["metadata"]
        return f"{meta['namespace']}/{meta['name']}"

    @property
    def status(self) -> Json:
        """The status; empty before the controller has written one."""
        return self.rollout.get("status") or {}

    @property
    def observed(self) -> bool:
        """Whether the controller has seen the latest spec. Its `observedGeneration` is a string."""
        return bool(
            self.status.get("observedGeneration") == str(self.rollout["metadata"]["generation"])
        )

    @property
    def in_progress(self) -> bool:
        """Whether an update is under way, aborted ones included, as far as the controller knows."""
        current, stable = self.status.get("currentPodHash"), self.status.get("stableRS")
        return bool(current and stable and current != stable)

    @property
    def aborted(self) -> bool:
        """Whether the controller has carried an abort out: only it writes `abortedAt`."""
        return bool(self.status.get("abort") and self.status.get("abortedAt"))

    @property
    def step(self) -> int:
        """Index of the step that it is at."""
        return int(self.status.get("currentStepIndex") or 0)

    @property
    def steps(self) -> list[Json]:
        """The steps of its canary strategy."""
        return canary_strategy(self.rollout).get("steps") or []

    @property
    def pauses(self) -> tuple[str, ...]:
        """Why the controller has paused it."""
        return tuple(one["reason"] for one in self.status.get("pauseConditions") or ())

    @property
    def is_unpausing(self) -> bool:
        """Whether it was told to go on, and the controller has not acted on that yet."""
        return bool(self.in_progress and self.status.get("controllerPause") and not self.pauses)

    @property
    def undecided(self) -> str:
        """What an analysis of its own could not decide, '' when there is no such thing."""
        if not self.in_progress or not any(one in INCONCLUSIVE for one in self.pauses):
            return ""
        canary = self.status.get("canary") or {}
        for key in ("currentStepAnalysisRunStatus", "currentBackgroundAnalysisRunStatus"):
            run = canary.get(key) or {}
            if run.get("status") == "Inconclusive":
                told = f": {run['message']}" if run.get("message") else ""
                return f"AnalysisRun {run.get('name', '')} is inconclusive{told}"
        return f"it paused ({', '.join(self.pauses)})"

    @property
    def degraded(self) -> str:
        """Why the controller has given the update up, in its words; '' when it has not."""
        if not self.observed or self.status.get("phase") != "Degraded":
            return ""
        return str(self.status.get("message") or "Degraded")

    @property
    def stop(self) -> Stop | None:
        """The stop that it rests at, None while it is on its way."""
        if not self.observed or not self.in_progress or PAUSE_STEP not in self.pauses:
            return None
        return next((one for one in stops(self.rollout) if one.index == self.step), None)

    def replica_set(self, pod_hash: str | None) -> Json | None:
        """The ReplicaSet of a pod template's hash."""
        for one in self.sets:
            if pod_hash and (one["metadata"].get("labels") or {}).get(HASH) == pod_hash:
                return one
        return None

    @property
    def stable(self) -> Json | None:
        """The ReplicaSet that is known to be good to Argo; None before the first."""
        return self.replica_set(self.status.get("stableRS"))

    @property
    def canary(self) -> Json | None:
        """The ReplicaSet of the update; None where there is none."""
        return self.replica_set(self.status.get("currentPodHash")) if self.in_progress else None

    @property
    def available_canary(self) -> int:
        """Pods of the update that could serve."""
        return int(((self.canary or {}).get("status") or {}).get("availableReplicas") or 0)

    @property
    def is_routed(self) -> bool:
        """Whether a traffic router sets the weights; without one the pods are the weight."""
        return bool(canary_strategy(self.rollout).get("trafficRouting"))

    @property
    def weight(self) -> int:
        """The canary's weight in percent as Argo has set it; above zero is never rounded to it."""
        if self.is_routed:
            weights = (self.status.get("canary") or {}).get("weights") or {}
            most = canary_strategy(self.rollout)["trafficRouting"].get("maxTrafficWeight") or 100
            share = 100 * int((weights.get("canary") or {}).get("weight") or 0) / int(most)
            return max(1, round(share)) if share else 0
        if not self.in_progress or self.aborted:
            return 0
        given = [one["setWeight"] for one in self.steps[: self.step + 1] if "setWeight" in one]
        if self.step >= len(self.steps):
            return 100
        return int(given[-1]) if given else 0


def rollout_name(target: Target) -> str:
    """The Rollout's name: the catalogue's `deployment`."""
    return target.workload.deployment


def canary_strategy(rollout: Json) -> Json:
    """`spec.strategy.canary`; empty where another strategy is used."""
    return (rollout["spec"].get("strategy") or {}).get("canary") or {}


def stops(rollout: Json) -> tuple[Stop, ...]:
    """Where it stays until it is moved on. A pause with a duration is no such place."""
    found, weight = [], 0
    for index, step in enumerate(canary_strategy(rollout).get("steps") or ()):
        if "setWeight" in step:
            weight = int(step["setWeight"])
        elif "pause" in step and (step["pause"] or {}).get("duration") is None:
            found.append(Stop(index, weight))
    return tuple(found)


def stop_at(sight: Sight, weight: int) -> Stop:
    """The first stop at a weight. Raises Permanent when its steps have none."""
    found = next((one for one in stops(sight.rollout) if one.weight == weight), None)
    if found is None:
        raise Permanent(
            f"Rollout {sight.name} does not stop at {weight}%",
            f"add the steps `- setWeight: {weight}` and `- pause: {{}}` to it",
        )
    return found


def check_template(rollout: Json) -> None:
    """Raises Permanent for a Rollout without a pod template of its own: no image stands in it."""
    if rollout["spec"].get("workloadRef"):
        name = f"{rollout['metadata']['namespace']}/{rollout['metadata']['name']}"
        raise Permanent(
            f"Rollout {name} takes its pod template from another object (spec.workloadRef)",
            "put the template into the Rollout itself (spec.template)",
        )


def check_drivable(rollout: Json) -> None:
    """Raises Permanent for a Rollout whose template or strategy is not one that can be driven."""
    check_template(rollout)
    if "canary" not in (rollout["spec"].get("strategy") or {}):
        name = f"{rollout['metadata']['namespace']}/{rollout['metadata']['name']}"
        raise Permanent(
            f"Rollout {name} does not use the canary strategy",
            "give it `strategy: {canary: {...}}`; a blue-green Rollout is not driven",
        )


def check_steps(rollout: Json, target: Target, weight: int) -> None:
    """Raises Permanent unless the Rollout stops at exactly the weights that are planned.

    Steps between stops may be anything, as long as none passes the weight of the stop that follows:
    nothing may get more traffic than what was allowed.
    """
    name = f"{rollout['metadata']['namespace']}/{rollout['metadata']['name']}"
    found = tuple(dict.fromkeys(one.weight for one in stops(rollout)))
    planned = target.weights or (weight,)
    if 0 not in planned:
        # A stop before any traffic is passed over where nobody plans to look at it.
        found = tuple(one for one in found if one)
    if found != planned and (target.weights or weight not in found):
        steps = ", ".join(f"{{setWeight: {one}}}, {{pause: {{}}}}" for one in planned)
        theirs = f"set the canary weights of {target.key} in services.yaml to {_listed(found)}, or "
        raise Permanent(
            f"Rollout {name} stops at {_listed(found) or 'no weight'}, and {target.key} is "
            f"to be judged at {_listed(planned)}",
            f"make both agree: {theirs if found else ''}give the Rollout "
            f"`strategy.canary.steps: [{steps}]`",
        )
    passed = 0
    for index, step in enumerate(canary_strategy(rollout).get("steps") or ()):
        passed = max(passed, int(step.get("setWeight") or 0))
        stop = next((one for one in stops(rollout) if one.index == index), None)
        if stop is not None and passed > stop.weight:
            raise Permanent(
                f"Rollout {name} goes up to {passed}% before it stops at {stop.weight}%",
                "let the weights of its steps grow",
            )


def full_size(rollout: Json) -> int:
    """Pods that it is to have in all."""
    return replicas(rollout)


def _listed(weights: tuple[int, ...]) -> str:
    return ", ".join(f"{one}%" for one in weights)
