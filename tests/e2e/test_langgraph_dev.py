"""LangGraph's own dev server loads `langgraph.json`, draws the graph and shows Fermata's threads.

It cannot advance a run: that takes the lease, which only Fermata's engine holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from langgraph_sdk import get_client

from graph.blueprint import blueprint
from tests.e2e.api import FINAL
from tests.e2e.github import merged, sha_of
from tests.e2e.served import INHERITED, ROOT, START_SECONDS, Program, serving

READY = re.compile(r"Server started in|Application started up in")


@dataclass
class DevServer:
    """The dev server on a data folder that `fermata serve` has used before."""

    url: str
    thread: str
    """Of the run that was released here."""
    sha: str


@pytest.fixture(scope="module")
async def dev(
    tmp_path_factory: pytest.TempPathFactory,
    unused_tcp_port_factory: Callable[[], int],
    lacks: Callable[[str, str], None],
) -> AsyncIterator[DevServer]:
    command = shutil.which("langgraph", path=str(Path(sys.executable).parent))
    if command is None:
        lacks("langgraph", "install langgraph-cli[inmem]")
        raise AssertionError("unreachable")
    data = tmp_path_factory.mktemp("langgraph-dev")
    thread, sha = await _released(data)
    port = unused_tcp_port_factory()
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    environment |= {
        "FERMATA_DATA": str(data),
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }
    log = data / "langgraph.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *(command, "dev", "--no-browser", "--no-reload", "--port", str(port)),
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
        )
    program = Program(process, log)
    try:
        await program.until_said(READY, START_SECONDS)
        yield DevServer(f"http://127.0.0.1:{port}", thread, sha)
    finally:
        await program.stop()


async def _released(data: Path) -> tuple[str, str]:
    """Let Fermata plan a release and put the run to sleep; its thread and its commit."""
    sha = sha_of("langgraph dev")
    async with serving(data, settings={"FERMATA_WORLD_SPEED": "200"}) as served:
        run = await served.api.started("pull_request", merged("acme/checkout", 7, sha))
        told = await served.api.until(
            run, "an effect", lambda one: one["state"] in FINAL or bool(one["effects"]), 60
        )
        assert (await served.api.tell(run, "hold")).status_code == 200
    return str(told["thread_id"]), sha


async def test_the_graph_is_listed_and_drawn(dev: DevServer) -> None:
    async with httpx.AsyncClient(base_url=dev.url, timeout=30, trust_env=False) as http:
        found = (await http.post("/assistants/search", json={})).json()
        assert [one["graph_id"] for one in found] == ["fermata"]
        answer = await http.get(f"/assistants/{found[0]['assistant_id']}/graph")
    assert answer.status_code == 200, answer.text
    drawn = answer.json()
    assert {node["id"] for node in drawn["nodes"]} == set(blueprint().get_graph().nodes)
    assert {"source": "execute", "target": "observe"} in drawn["edges"]


async def test_the_sdk_finds_assistant_and_schemas(dev: DevServer) -> None:
    client = get_client(url=dev.url)
    (assistant,) = await client.assistants.search(graph_id="fermata")
    drawn = await client.assistants.get_graph(assistant["assistant_id"])
    assert "gate" in json.dumps(drawn)
    schemas = await client.assistants.get_schemas(assistant["assistant_id"])
    assert schemas["state_schema"] is not None
    assert {"plan", "ruling", "steps"} <= set(schemas["state_schema"]["properties"])


async def test_the_thread_of_a_release_shows_its_state(dev: DevServer) -> None:
    client = get_client(url=dev.url)
    await client.threads.create(thread_id=dev.thread, graph_id="fermata", if_exists="do_nothing")
    state = await client.threads.get_state(dev.thread)
    values = state["values"]
    assert isinstance(values, dict)
    assert values["plan"]["change"]["sha"] == dev.sha
    assert values["steps"]
    history = await client.threads.get_history(dev.thread, limit=5)
    assert len(history) == 5


async def test_nobody_advances_a_run_past_the_engine(dev: DevServer) -> None:
    client = get_client(url=dev.url)
    await client.threads.create(thread_id=dev.thread, graph_id="fermata", if_exists="do_nothing")
    before = await client.threads.get_state(dev.thread)
    answer = await client.runs.wait(
        dev.thread, "fermata", input=None, raise_error=False, multitask_strategy="reject"
    )
    assert "advanced by Fermata's own engine" in json.dumps(answer)
    after = await client.threads.get_state(dev.thread)
    assert after["checkpoint"] == before["checkpoint"]
