"""The part of Cloud Deploy's REST API that its executor uses, on loopback, checked by its types.

After https://cloud.google.com/deploy/docs/api/reference/rest (v1): delivery pipelines, releases,
rollouts with phases, approve, advance, cancel and rollbackTarget. Bodies are parsed strictly into
the published messages. Time does not pass by itself: a test says when something is rendered
(`render`) and when a phase has ended (`finish`), unless `swift` is set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiohttp import web
from google.cloud import deploy_v1
from google.protobuf import json_format  # type: ignore[import-untyped]

from tests.servers.local import LocalServer

PIPELINE = r"/v1/(projects/[^/]+/locations/[^/]+/deliveryPipelines/[^/:]+)"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
State, PhaseState = deploy_v1.Rollout.State, deploy_v1.Phase.State
Render = deploy_v1.Release.RenderState
LIVE = (
    State.IN_PROGRESS,
    State.PENDING,
    State.PENDING_APPROVAL,
    State.PENDING_RELEASE,
    State.CANCELLING,
)
STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}


class CloudDeployServer(LocalServer):
    """Cloud Deploy for one token ('': for anybody). `approval` holds the targets that want one."""

    def __init__(self, *, token: str = "ya29.local", swift: bool = False) -> None:
        super().__init__()
        self.token = token
        self.swift = swift
        self.pipelines: dict[str, Any] = {}
        self.releases: dict[str, Any] = {}
        self.rollouts: dict[str, Any] = {}
        self.approval: set[str] = set()
        self.forgets_cancelled = False
        """Whether a rollout that was cancelled no longer counts as the latest on its target."""
        self._asked: dict[str, str] = {}
        self._now = datetime(2026, 1, 5, tzinfo=UTC)

    # --- what a test does to it ------------------------------------------------------------------

    def add_pipeline(self, name: str, stages: dict[str, list[int]]) -> None:
        """A pipeline with a canary of these percentages on each target (none: standard)."""
        made = [
            deploy_v1.Stage(
                target_id=target,
                strategy=deploy_v1.Strategy(
                    canary=deploy_v1.Canary(
                        canary_deployment=deploy_v1.CanaryDeployment(percentages=percentages)
                    )
                )
                if percentages
                else deploy_v1.Strategy(standard=deploy_v1.Standard()),
            )
            for target, percentages in stages.items()
        ]
        self.pipelines[name] = deploy_v1.DeliveryPipeline(
            name=name, serial_pipeline=deploy_v1.SerialPipeline(stages=made)
        )

    def deployed(self, pipeline: str, target: str, image: str) -> None:
        """An image that somebody has brought to a target before."""
        number = len(self.releases)
        release = deploy_v1.Release(
            name=f"{pipeline}/releases/by-hand-{number}",
            build_artifacts=[deploy_v1.BuildArtifact(image=image.partition(":")[0], tag=image)],
            render_state=Render.SUCCEEDED,
            create_time=self._tick(),
            delivery_pipeline_snapshot=self.pipelines[pipeline],
        )
        self.releases[release.name] = release
        name = f"{release.name}/rollouts/by-hand-{number}"
        self._begin(name, deploy_v1.Rollout(target_id=target), "stable")
        self.finish()

    def shares(self, target: str) -> dict[str, float]:
        """Which part of a target's traffic each image has now."""
        there = [one for one in self.rollouts.values() if one.target_id == target]
        there.sort(key=lambda one: one.create_time)
        found: dict[str, float] = {}
        for rollout in there:
            image = self.releases[rollout.name.rpartition("/rollouts/")[0]].build_artifacts[0].tag
            begun = [one.id for one in rollout.phases if one.state == PhaseState.SUCCEEDED]
            if not begun:
                continue
            part = 1.0 if begun[-1] == "stable" else int(begun[-1].partition("-")[2]) / 100
            found = {key: share * (1 - part) for key, share in found.items()}
            found[image] = found.get(image, 0.0) + part
        return found

    def render(self, *, fails: str = "") -> None:
        """Every release that is being rendered ends so, and what waited for it goes on."""
        for release in self.releases.values():
            if release.render_state == Render.IN_PROGRESS:
                release.render_state = Render.FAILED if fails else Render.SUCCEEDED
                for target in self._targets(release):
                    release.target_renders[target] = deploy_v1.Release.TargetRender(
                        rendering_state=2 if fails else 1, failure_message=fails
                    )
        for rollout in self.rollouts.values():
            if rollout.state == State.PENDING_RELEASE:
                if fails:
                    rollout.state = State.FAILED
                    rollout.deploy_failure_cause = deploy_v1.Rollout.FailureCause.RELEASE_FAILED
                else:
                    self._admit(rollout)

    def finish(self, *, fails: str = "") -> None:
        """Every phase that is in progress ends so."""
        for rollout in list(self.rollouts.values()):
            if rollout.state == State.CANCELLING:
                rollout.state = State.CANCELLED
                for phase in rollout.phases:
                    if phase.state in (PhaseState.PENDING, PhaseState.IN_PROGRESS):
                        phase.state = PhaseState.ABORTED
            for phase in rollout.phases:
                if phase.state == PhaseState.IN_PROGRESS:
                    phase.state = PhaseState.FAILED if fails else PhaseState.SUCCEEDED
                    if fails:
                        rollout.state = State.FAILED
                        rollout.failure_reason = fails
                        rollout.deploy_end_time = self._tick()
            if rollout.state == State.IN_PROGRESS and all(
                one.state in (PhaseState.SUCCEEDED, PhaseState.SKIPPED) for one in rollout.phases
            ):
                rollout.state = State.SUCCEEDED
                rollout.deploy_end_time = self._tick()
        self._begin_waiting()

    def reject(self, rollout: str) -> None:
        """Somebody says no."""
        found = self.rollouts[rollout]
        found.state = State.APPROVAL_REJECTED
        found.approval_state = deploy_v1.Rollout.ApprovalState.REJECTED

    # --- requests --------------------------------------------------------------------------------

    async def handle(self, request: web.Request, body: Any) -> web.Response:
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _problem(401, "Request had invalid authentication credentials.")
        if "gapic" not in request.headers.get("x-goog-api-client", ""):
            self.wrong(f"{request.method} {request.path}: no x-goog-api-client")
        if self.swift:
            self.render()
            self.finish()
        handlers: list[tuple[str, str, Callable[..., web.Response]]] = [
            ("GET", PIPELINE, self._get_pipeline),
            ("POST", PIPELINE + ":rollbackTarget", self._roll_back),
            ("GET", PIPELINE + "/releases", self._list_releases),
            ("POST", PIPELINE + "/releases", self._create_release),
            ("GET", PIPELINE + "/releases/([^/:]+)", self._get_release),
            ("GET", PIPELINE + "/releases/-/rollouts", self._list_rollouts),
            ("POST", PIPELINE + "/releases/([^/:]+)/rollouts", self._create_rollout),
            ("POST", PIPELINE + "/releases/([^/:]+)/rollouts/([^/:]+):(\\w+)", self._command),
        ]
        for method, pattern, handler in handlers:
            found = re.fullmatch(pattern, request.path)
            if found and request.method == method:
                return handler(request, body, *found.groups())
        self.wrong(f"{request.method} {request.path}: no such method")
        return _problem(404, "Method not found.")

    def _get_pipeline(self, request: web.Request, body: Any, name: str) -> web.Response:
        found = self.pipelines.get(name)
        return _told(found) if found else _problem(404, f"Resource '{name}' was not found")

    def _get_release(self, request: web.Request, body: Any, name: str, id: str) -> web.Response:
        full = f"{name}/releases/{id}"
        found = self.releases.get(full)
        return _told(found) if found else _problem(404, f"Resource '{full}' was not found")

    def _list_releases(self, request: web.Request, body: Any, name: str) -> web.Response:
        found = [one for key, one in self.releases.items() if key.startswith(f"{name}/releases/")]
        return self._listed(request, "releases", found)

    def _list_rollouts(self, request: web.Request, body: Any, name: str) -> web.Response:
        wanted = re.fullmatch(r'targetId="([^"]+)"', request.query.get("filter", ""))
        if wanted is None:
            self.wrong(f"filter {request.query.get('filter')!r} is not one that is known to work")
            return _problem(400, "invalid filter")
        found = [
            one
            for key, one in self.rollouts.items()
            if key.startswith(f"{name}/releases/") and one.target_id == wanted[1]
        ]
        return self._listed(request, "rollouts", found)

    def _listed(self, request: web.Request, key: str, found: list[Any]) -> web.Response:
        if request.query.get("orderBy") != "CreateTime desc":
            self.wrong(f"orderBy {request.query.get('orderBy')!r}")
        size = int(request.query.get("pageSize", 50))
        start = int(request.query.get("pageToken") or 0)
        found = sorted(found, key=lambda one: one.create_time, reverse=True)
        told: dict[str, Any] = {key: [_dict(one) for one in found[start : start + size]]}
        if start + size < len(found):
            told["nextPageToken"] = str(start + size)
        return web.json_response(told)

    def _create_release(self, request: web.Request, body: Any, name: str) -> web.Response:
        release = self._parsed(deploy_v1.Release, body)
        id = request.query.get("releaseId", "")
        refused = self._refused(request, id, f"{name}/releases/{id}", self.releases)
        if refused is not None:
            return refused
        if name not in self.pipelines:
            return _problem(404, f"Resource '{name}' was not found")
        release.name = f"{name}/releases/{id}"
        release.create_time = self._tick()
        release.render_state = Render.IN_PROGRESS
        release.delivery_pipeline_snapshot = self.pipelines[name]
        self.releases[release.name] = release
        return _operation(name)

    def _create_rollout(
        self, request: web.Request, body: Any, name: str, release: str
    ) -> web.Response:
        rollout = self._parsed(deploy_v1.Rollout, body)
        id = request.query.get("rolloutId", "")
        full = f"{name}/releases/{release}/rollouts/{id}"
        refused = self._refused(request, id, full, self.rollouts)
        if refused is not None:
            return refused
        return self._begin(full, rollout, request.query.get("startingPhaseId", ""))

    def _begin(self, name: str, rollout: Any, start: str) -> web.Response:
        release = self.releases.get(name.rpartition("/rollouts/")[0])
        if release is None:
            return _problem(404, f"Resource '{name}' was not found")
        if self.pipelines[name.partition("/releases/")[0]].suspended:
            return _untimely("the delivery pipeline is suspended")
        rollout.name = name
        rollout.create_time = self._tick()
        rollout.phases = self._phases(release, rollout.target_id, start)
        if rollout.target_id in self.approval:
            rollout.approval_state = deploy_v1.Rollout.ApprovalState.NEEDS_APPROVAL
        self.rollouts[name] = rollout
        if release.render_state == Render.IN_PROGRESS:
            rollout.state = State.PENDING_RELEASE
        elif release.render_state == Render.FAILED:
            rollout.state = State.FAILED
        else:
            self._admit(rollout)
        return _operation(name)

    def _phases(self, release: Any, target: str, start: str) -> list[Any]:
        """Canary phases are skipped on a target that has nothing yet, or by a starting phase."""
        ids = self._canary(release, target)
        was_there = any(
            one.target_id == target and one.state == State.SUCCEEDED
            for one in self.rollouts.values()
        )
        skips = start == "stable" or not was_there
        made = [
            deploy_v1.Phase(id=id, state=PhaseState.SKIPPED if skips else PhaseState.PENDING)
            for id in ids
        ]
        return [*made, deploy_v1.Phase(id="stable", state=PhaseState.PENDING)]

    def _command(
        self, request: web.Request, body: Any, name: str, release: str, id: str, verb: str
    ) -> web.Response:
        rollout = self.rollouts.get(f"{name}/releases/{release}/rollouts/{id}")
        if rollout is None:
            return _problem(404, f"rollout {id} was not found")
        match verb:
            case "approve":
                asked = self._parsed(deploy_v1.ApproveRolloutRequest, body)
                if rollout.state != State.PENDING_APPROVAL or not asked.approved:
                    return _untimely(f"rollout {id} is not pending approval")
                rollout.approval_state = deploy_v1.Rollout.ApprovalState.APPROVED
                self._start(rollout)
            case "advance":
                asked = self._parsed(deploy_v1.AdvanceRolloutRequest, body)
                ahead = [one for one in rollout.phases if one.state == PhaseState.PENDING]
                busy = any(one.state == PhaseState.IN_PROGRESS for one in rollout.phases)
                is_next = bool(ahead) and ahead[0].id == asked.phase_id
                if rollout.state != State.IN_PROGRESS or busy or not is_next:
                    return _untimely(f"cannot advance to phase {asked.phase_id!r}")
                ahead[0].state = PhaseState.IN_PROGRESS
            case "cancel":
                if rollout.state not in LIVE:
                    return _untimely(f"rollout {id} has ended")
                rollout.state = State.CANCELLING
            case _:
                self.wrong(f"{request.path}: no such method")
        return web.json_response({})

    def _roll_back(self, request: web.Request, body: Any, name: str) -> web.Response:
        asked = self._parsed(deploy_v1.RollbackTargetRequest, body)
        full = f"{name}/releases/{asked.release_id}/rollouts/{asked.rollout_id}"
        if full in self.rollouts:
            return _problem(409, f"Resource '{full}' already exists")
        counts = not self.forgets_cancelled
        there = [
            one
            for one in self.rollouts.values()
            if one.target_id == asked.target_id
            and (one.state != State.CANCELLED or (one.deploy_start_time and counts))
        ]
        latest = max(there, key=lambda one: one.create_time).name
        if asked.rollout_to_roll_back and asked.rollout_to_roll_back != latest:
            return _untimely("the rollout to roll back is not the latest on the target")
        rollout = deploy_v1.Rollout(asked.rollback_config.rollout)
        rollout.rollback_of_rollout = latest
        answer = self._begin(full, rollout, asked.rollback_config.starting_phase_id or "stable")
        return web.json_response({}) if answer.status == 200 else answer

    # --- how it goes on --------------------------------------------------------------------------

    def _admit(self, rollout: Any) -> None:
        needs = deploy_v1.Rollout.ApprovalState.NEEDS_APPROVAL
        if rollout.approval_state == needs:
            rollout.state = State.PENDING_APPROVAL
        else:
            self._start(rollout)

    def _start(self, rollout: Any) -> None:
        others = [
            one
            for one in self.rollouts.values()
            if one.target_id == rollout.target_id
            and one.state in (State.IN_PROGRESS, State.CANCELLING)
            and one.name != rollout.name
        ]
        if others:
            rollout.state = State.PENDING
            return
        rollout.state = State.IN_PROGRESS
        rollout.deploy_start_time = self._tick()
        first = next(one for one in rollout.phases if one.state == PhaseState.PENDING)
        first.state = PhaseState.IN_PROGRESS

    def _begin_waiting(self) -> None:
        for rollout in self.rollouts.values():
            if rollout.state == State.PENDING:
                self._start(rollout)

    def _canary(self, release: Any, target: str) -> list[str]:
        for stage in release.delivery_pipeline_snapshot.serial_pipeline.stages:
            if stage.target_id == target:
                return [
                    f"canary-{one}" for one in stage.strategy.canary.canary_deployment.percentages
                ]
        return []

    def _targets(self, release: Any) -> list[str]:
        stages = release.delivery_pipeline_snapshot.serial_pipeline.stages
        return [stage.target_id for stage in stages]

    # --- shape -----------------------------------------------------------------------------------

    def _parsed(self, kind: Any, body: Any) -> Any:
        try:
            return kind.from_json(json.dumps(body), ignore_unknown_fields=False)
        except json_format.ParseError as error:
            self.wrong(f"a {kind.__name__} that is none: {error}")
            return kind()

    def _refused(
        self, request: web.Request, id: str, name: str, there: dict[str, Any]
    ) -> web.Response | None:
        if not NAME.fullmatch(id):
            self.wrong(f"{id!r} is not an id")
        asked = request.query.get("requestId", "")
        UUID(asked)
        if name in there:
            # The same request sent again is answered as the first time.
            if self._asked.get(asked) == name:
                return _operation(name)
            return _problem(409, f"Resource '{name}' already exists")
        self._asked[asked] = name
        return None

    def _tick(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


def _dict(message: Any) -> Any:
    return json.loads(type(message).to_json(message, use_integers_for_enums=False))


def _told(message: Any) -> web.Response:
    return web.json_response(_dict(message))


def _operation(name: str) -> web.Response:
    parent = "/".join(name.split("/")[:4])
    return web.json_response({"name": f"{parent}/operations/operation-1", "done": False})


def _problem(status: int, message: str, word: str = "") -> web.Response:
    error = {"code": status, "message": message, "status": word or STATUS[status]}
    return web.json_response({"error": error}, status=status)


def _untimely(message: str) -> web.Response:
    return _problem(400, message, "FAILED_PRECONDITION")
