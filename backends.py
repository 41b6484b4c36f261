"""Part of the composition root: each backend that is set becomes real, the others are simulated."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from backends_delivery import open_delivery
from domain.clock import Clock, SystemClock
from domain.service import Catalogue
from evals.simulated import SimulatedWorld, attach
from evals.world.clock import WorldClock
from settings import Settings
from tools.cluster_client import ClusterClient
from tools.cluster_write import CLUSTER_KINDS
from tools.forge import GitHubForge
from tools.forge_twin import ForgeTwin
from tools.github_client import App, GitHubClient, Token
from tools.notify import SlackNotifier, WebhookNotifier
from tools.notify_twin import NotifyTwin
from tools.ports import ForgeReader, WritePort
from tools.prometheus import PrometheusMetrics
from tools.toolbox import Backend, Readers, Toolbox


class NoWorld(RuntimeError):
    """A worker needs the simulated world of a `serve`, and none is running."""


@contextlib.asynccontextmanager
async def open_backends(
    settings: Settings, catalogue: Catalogue, world: SimulatedWorld | None, *, host: bool
) -> AsyncIterator[tuple[Clock, Toolbox]]:
    """The clock of the operated world, and the toolbox. Raises `NoWorld`."""
    async with contextlib.AsyncExitStack() as stack:
        in_cluster = settings.kubernetes_service_host is not None
        kubeconfig = Path(settings.kubeconfig) if settings.kubeconfig else None
        real_cluster = kubeconfig is not None or in_cluster
        clock: Clock = SystemClock()
        prometheus_url = settings.prometheus_url
        backends: list[Backend] = []
        if not real_cluster or prometheus_url is None:
            if host:
                world = world or SimulatedWorld(
                    catalogue,
                    settings.fermata_data,
                    kubeconfig=kubeconfig,
                    clock=None if real_cluster else _clock(settings),
                )
                simulated = await world.start()
                stack.push_async_callback(world.stop)
            else:
                found = attach(settings.fermata_data)
                if found is None:
                    raise NoWorld(
                        "no simulated world is running for this data folder; start `fermata "
                        "serve` first, or set KUBECONFIG and PROMETHEUS_URL"
                    )
                simulated = found
            clock = simulated.clock
            kubeconfig = kubeconfig or simulated.kubeconfig
            prometheus_url = prometheus_url or simulated.prometheus_url
        client = await stack.enter_async_context(
            ClusterClient(str(kubeconfig) if kubeconfig else None)
        )
        backends.append(
            Backend("kubernetes", "real", settings.kubeconfig or "in cluster")
            if real_cluster
            else Backend("kubernetes", "simulated", "emulator with its own controllers")
        )
        metrics = PrometheusMetrics(prometheus_url or "", token=settings.prometheus_token)
        stack.push_async_callback(metrics.close)
        backends.append(
            Backend("metrics", "real", settings.prometheus_url)
            if settings.prometheus_url
            else Backend("metrics", "simulated", "counters of the simulated world")
        )
        github, forge_reader, forge_writer, forge = await _forge(settings, stack)
        notifier, notify = await _notifier(settings, stack)
        delivery = await open_delivery(
            settings, catalogue, client, github, stack, is_real=real_cluster, clock=clock
        )
        backends += delivery.backends
        writers: dict[str, WritePort] = dict.fromkeys(CLUSTER_KINDS, delivery.writer)
        writers["git_comment_pr"] = writers["git_react"] = forge_writer
        writers["notify"] = notifier
        readers = Readers(
            delivery.reader, metrics, forge_reader, delivery.renderer, delivery.config
        )
        yield clock, Toolbox(readers, writers, (*backends, forge, notify))


def _clock(settings: Settings) -> WorldClock | None:
    if settings.fermata_world_speed == 1.0:
        return None
    return WorldClock(SystemClock().now(), settings.fermata_world_speed)


async def _forge(
    settings: Settings, stack: contextlib.AsyncExitStack
) -> tuple[GitHubClient | None, ForgeReader, WritePort, Backend]:
    """GitHub with a token or as an App; a twin that renders without sending otherwise.

    The connection comes along where it may be written through.
    """
    credentials: Token | App | None = None
    if settings.github_token is not None:
        credentials = Token(settings.github_token)
    elif settings.github_app_id and settings.github_app_private_key is not None:
        credentials = App(settings.github_app_id, settings.github_app_private_key)
    twin = ForgeTwin()
    if credentials is None:
        return None, twin, twin, Backend("github", "dry_run", "comments are rendered, not sent")
    client = GitHubClient(credentials, base_url=settings.github_api_url)
    stack.push_async_callback(client.aclose)
    forge = GitHubForge(client)
    if settings.fermata_dry_run:
        return None, forge, twin, Backend("github", "dry_run", f"reads with {client.detail}")
    return client, forge, forge, Backend("github", "real", client.detail)


async def _notifier(
    settings: Settings, stack: contextlib.AsyncExitStack
) -> tuple[WritePort, Backend]:
    """Slack, a generic webhook, or a twin that renders without sending."""
    twin = NotifyTwin()
    slack, generic = settings.slack_webhook_url, settings.notify_webhook_url
    if settings.fermata_dry_run or (slack is None and generic is None):
        return twin, Backend("notifications", "dry_run", "rendered, not sent")
    if slack is not None:
        notifier: SlackNotifier | WebhookNotifier = SlackNotifier(slack)
        name = "Slack"
    else:
        assert generic is not None
        notifier, name = WebhookNotifier(generic), "webhook"
    stack.push_async_callback(notifier.aclose)
    return notifier, Backend("notifications", "real", f"{name} at {notifier.host}")
