"""One connection to Google Cloud Deploy, over REST.

The library's REST transport is synchronous: each request runs in a thread of a pool of our own,
with a time limit. Its retries are off, because they would be sent past the guard; here only reads
are repeated, and only a little. Long-running operations are not followed: what they make is looked
at.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import requests
import tenacity
from aiolimiter import AsyncLimiter

from domain.errors import Permanent, Temporary
from domain.service import Target
from tools.cloud_deploy_errors import RENEW, Missing, Silent, translated
from tools.cloud_deploy_words import (
    STABLE,
    Ladder,
    Phase,
    Release,
    Rollout,
    last_part,
    pipeline_name,
    settings_of,
)
from tools.ports import Guard

with warnings.catch_warnings():
    # It speaks of a gRPC that is not used here.
    warnings.simplefilter("ignore", FutureWarning)
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth import default
    from google.auth.credentials import AnonymousCredentials, Credentials
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.cloud import deploy_v1
    from google.cloud.deploy_v1.services.cloud_deploy.transports.rest import (
        CloudDeployRestTransport,
    )

PUBLIC_API = "https://clouddeploy.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
READ_TRIES = 3
THREADS = 16
MOST_LISTED = 200
"""Newest rollouts and releases that are looked at."""
PAGE = 100
NEWEST_FIRST = "CreateTime desc"
"""As Google's own command line writes it; AIP-132 would have it in snake case."""
REQUESTS_PER_SECOND = 15.0
Answer = TypeVar("Answer")


class CloudDeployClient:
    """Reads and writes of Cloud Deploy. Raises only Temporary, Permanent, OutcomeUnknown.

    `timeout` is seconds for one request, `pace` requests a second. Without `credentials` the
    application default ones are taken, and none for an address on this machine that is not
    encrypted (a local server).
    """

    def __init__(
        self,
        url: str = PUBLIC_API,
        *,
        credentials: Credentials | None = None,
        timeout: float = 20.0,
        pace: float = REQUESTS_PER_SECOND,
    ) -> None:
        self.url = url.rstrip("/")
        self._credentials = credentials
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="cloud-deploy")
        self._pace = AsyncLimiter(pace, 1.0)
        self._connecting = asyncio.Lock()
        self._client: deploy_v1.CloudDeployClient | None = None

    async def aclose(self) -> None:
        """Close the connections; requests under way end by their time limit."""
        client, self._client = self._client, None
        if client is not None:
            client.transport.close()  # type: ignore[no-untyped-call]
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- reading ---

    async def ladder(self, target: Target) -> Ladder:
        """The canary phases that the pipeline has on the way to a target."""
        name, wanted = pipeline_name(target), settings_of(target).target(target.environment)
        found = await self._read(
            f"reading pipeline {last_part(name)}",
            lambda client: client.get_delivery_pipeline(
                name=name, retry=None, timeout=self._timeout
            ),
        )
        for stage in found.serial_pipeline.stages:
            if stage.target_id == wanted:
                return _ladder(last_part(name), stage, suspended=bool(found.suspended))
        stages = ", ".join(one.target_id for one in found.serial_pipeline.stages) or "none"
        raise Permanent(
            f"pipeline {last_part(name)} has no stage for target {wanted} (it has: {stages})",
            "correct `targets:` under `cloud_deploy:` in services.yaml, or the pipeline",
        )

    async def release(self, name: str, target: Target) -> Release | None:
        """A release by its full name; None when there is none."""
        try:
            found = await self._read(
                f"reading release {last_part(name)}",
                lambda client: client.get_release(name=name, retry=None, timeout=self._timeout),
            )
        except Missing:
            return None
        return _release(found, target)

    async def releases(self, target: Target) -> list[Release]:
        """The newest releases of the target's pipeline, newest first."""
        request = deploy_v1.ListReleasesRequest(
            parent=pipeline_name(target), page_size=PAGE, order_by=NEWEST_FIRST
        )
        listed = await self._read(
            f"listing releases of {last_part(request.parent)}",
            lambda client: _first(
                client.list_releases(request=request, retry=None, timeout=self._timeout)
            ),
        )
        found = [_release(one, target) for one in listed]
        return sorted(found, key=lambda one: one.created, reverse=True)

    async def rollouts(self, target: Target) -> list[Rollout]:
        """The newest rollouts to the target, newest first."""
        wanted = settings_of(target).target(target.environment)
        request = deploy_v1.ListRolloutsRequest(
            parent=f"{pipeline_name(target)}/releases/-",
            page_size=PAGE,
            filter=f'targetId="{wanted}"',
            order_by=NEWEST_FIRST,
        )
        listed = await self._read(
            f"listing rollouts to {wanted}",
            lambda client: _first(
                client.list_rollouts(request=request, retry=None, timeout=self._timeout)
            ),
        )
        found = [_rollout(one) for one in listed if one.target_id == wanted]
        return sorted(found, key=lambda one: one.created, reverse=True)

    # --- writing: each request is sent once, right after its guard ---

    async def create_release(
        self,
        target: Target,
        id: str,
        *,
        artifact: str,
        image: str,
        source: str,
        notes: dict[str, str],
        request_id: str,
        guard: Guard,
    ) -> None:
        """Begin to make a release. It appears, and is rendered, some time after."""
        request = deploy_v1.CreateReleaseRequest(
            parent=pipeline_name(target),
            release_id=id,
            request_id=request_id,
            release=deploy_v1.Release(
                skaffold_config_uri=source,
                build_artifacts=[deploy_v1.BuildArtifact(image=artifact, tag=image)],
                annotations=notes,
                description=f"{target.service} {image}, by Fermata",
            ),
        )
        await self._write(
            f"creating release {id}",
            lambda client: client.create_release(
                request=request, retry=None, timeout=self._timeout
            ),
            guard,
        )

    async def create_rollout(
        self,
        target: Target,
        release: str,
        id: str,
        *,
        phase: str,
        notes: dict[str, str],
        request_id: str,
        guard: Guard,
    ) -> None:
        """Begin to bring a release to a target, from `phase` on ('': the first one)."""
        request = deploy_v1.CreateRolloutRequest(
            parent=release,
            rollout_id=id,
            request_id=request_id,
            starting_phase_id=phase,
            rollout=deploy_v1.Rollout(
                target_id=settings_of(target).target(target.environment), annotations=notes
            ),
        )
        await self._write(
            f"creating rollout {id}",
            lambda client: client.create_rollout(
                request=request, retry=None, timeout=self._timeout
            ),
            guard,
        )

    async def approve(self, rollout: str, guard: Guard) -> None:
        """Approve a rollout that waits for it."""
        await self._write(
            f"approving rollout {last_part(rollout)}",
            lambda client: client.approve_rollout(
                request=deploy_v1.ApproveRolloutRequest(name=rollout, approved=True),
                retry=None,
                timeout=self._timeout,
            ),
            guard,
        )

    async def advance(self, rollout: str, phase: str, guard: Guard) -> None:
        """Let a rollout go on to its next phase."""
        await self._write(
            f"advancing rollout {last_part(rollout)} to {phase}",
            lambda client: client.advance_rollout(
                name=rollout, phase_id=phase, retry=None, timeout=self._timeout
            ),
            guard,
        )

    async def cancel(self, rollout: str, guard: Guard) -> None:
        """Call a rollout off. What it has changed stays."""
        await self._write(
            f"cancelling rollout {last_part(rollout)}",
            lambda client: client.cancel_rollout(name=rollout, retry=None, timeout=self._timeout),
            guard,
        )

    async def roll_back(
        self,
        target: Target,
        id: str,
        *,
        to_release: str,
        latest: str,
        notes: dict[str, str],
        guard: Guard,
    ) -> None:
        """Begin a rollout `id` of an earlier release, all of it at once.

        Refused by Cloud Deploy unless `latest` still is the last rollout on the target ('': any).
        """
        wanted = settings_of(target).target(target.environment)
        request = deploy_v1.RollbackTargetRequest(
            name=pipeline_name(target),
            target_id=wanted,
            rollout_id=id,
            release_id=last_part(to_release),
            rollout_to_roll_back=latest,
            rollback_config=deploy_v1.RollbackTargetConfig(
                rollout=deploy_v1.Rollout(target_id=wanted, annotations=notes)
            ),
        )
        await self._write(
            f"rolling {wanted} back to release {last_part(to_release)}",
            lambda client: client.rollback_target(
                request=request, retry=None, timeout=self._timeout
            ),
            guard,
        )

    # --- the wire ---

    async def _read(self, what: str, ask: Callable[[Any], Answer]) -> Answer:
        async for attempt in tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(_is_brief),
            stop=tenacity.stop_after_attempt(READ_TRIES),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=1.0),
            reraise=True,
        ):
            with attempt:
                answer = await self._ask(what, ask, mutating=False)
        return answer

    async def _write(self, what: str, ask: Callable[[Any], object], guard: Guard) -> None:
        await self._connected()
        await self._ask(what, ask, mutating=True, guard=guard)

    async def _ask(
        self, what: str, ask: Callable[[Any], Answer], *, mutating: bool, guard: Guard | None = None
    ) -> Answer:
        client = await self._connected()
        await self._pace.acquire()
        if guard is not None:
            await guard()
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, ask, client)
        except (GoogleAPICallError, GoogleAuthError, requests.RequestException) as error:
            raise translated(error, what, mutating=mutating) from None

    async def _connected(self) -> deploy_v1.CloudDeployClient:
        async with self._connecting:
            if self._client is None:
                loop = asyncio.get_running_loop()
                self._client = await loop.run_in_executor(self._pool, self._connect)
            return self._client

    def _connect(self) -> deploy_v1.CloudDeployClient:
        credentials = self._credentials
        if credentials is None and self.url.startswith(("http://127.0.0.1", "http://localhost")):
            credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        if credentials is None:
            try:
                credentials, _ = default(scopes=[SCOPE])
            except DefaultCredentialsError as error:
                raise Permanent(f"there are no Google credentials: {error}", RENEW) from None
        scheme, _, host = self.url.partition("://")
        transport = CloudDeployRestTransport(host=host, url_scheme=scheme, credentials=credentials)
        return deploy_v1.CloudDeployClient(transport=transport)


def _is_brief(error: BaseException) -> bool:
    """Whether a failed read may be tried again within the call: not when it would take long."""
    return isinstance(error, Temporary) and not isinstance(error, Silent) and not error.retry_after


def _first(pages: Any) -> list[Any]:
    found: list[Any] = []
    for one in pages:
        found.append(one)
        if len(found) >= MOST_LISTED:
            break
    return found


def _seconds(stamp: Any) -> float:
    return float(stamp.timestamp()) if stamp else 0.0


def _ladder(pipeline: str, stage: deploy_v1.Stage, *, suspended: bool) -> Ladder:
    canary = stage.strategy.canary
    phases = [
        (one.phase_id, int(one.percentage)) for one in canary.custom_canary_deployment.phase_configs
    ] or [(f"canary-{percent}", int(percent)) for percent in canary.canary_deployment.percentages]
    rungs = tuple(one for one in phases if one[1] < 100)
    final = next((id for id, percent in phases if percent == 100), STABLE)
    return Ladder(pipeline, rungs, final, suspended)


def _rollout(one: deploy_v1.Rollout) -> Rollout:
    cause = one.deploy_failure_cause.name if one.deploy_failure_cause else ""
    return Rollout(
        name=one.name,
        target=one.target_id,
        state=one.state.name,
        phases=tuple(Phase(phase.id, phase.state.name) for phase in one.phases),
        failure=": ".join(part for part in (cause, one.failure_reason) if part),
        needs_approval=one.approval_state.name == "NEEDS_APPROVAL",
        has_begun=bool(one.deploy_start_time),
        notes=dict(one.annotations),
        created=_seconds(one.create_time),
        ended=_seconds(one.deploy_end_time),
    )


def _release(one: deploy_v1.Release, target: Target) -> Release:
    wanted = settings_of(target).target(target.environment)
    render = one.target_renders.get(wanted)
    state, failure = one.render_state.name, ""
    if render is not None and render.rendering_state:
        state = render.rendering_state.name
        cause = render.failure_cause.name if render.failure_cause else ""
        failure = ": ".join(part for part in (cause, render.failure_message) if part)
    return Release(
        name=one.name,
        images=tuple((artifact.image, artifact.tag) for artifact in one.build_artifacts),
        rendered=state,
        failure=failure,
        abandoned=bool(one.abandoned),
        notes=dict(one.annotations),
        created=_seconds(one.create_time),
    )
