"""The audit record of a real story: proven beside the house that writes it, and offline."""

from __future__ import annotations

import asyncio
import io
import json
import os
import random
import sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from cli import app
from policy.proof.proving import prove
from tests.e2e.api import Json
from tests.e2e.github import comment, merged, sha_of
from tests.e2e.house import open_town, slow_services
from tests.e2e.served import INHERITED, ROOT

FRIDAY_EVENING = datetime(2026, 3, 6, 18, 1, tzinfo=ZoneInfo("Europe/Berlin"))
STORY = {
    "approval.asked", "approval.granted", "approval.spent", "command", "decision",
    "effect.applied", "effect.claimed", "event", "override", "plan", "policy", "vote.counted",
    "vote.refused",
}  # fmt: skip
FLIPS = 400


async def fermata(data: Path, *arguments: str) -> tuple[int, bytes]:
    """Exit code and output of a command that knows the data folder and nothing else."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli", *arguments),
        cwd=ROOT,
        env=environment | {"FERMATA_DATA": str(data), "NO_COLOR": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, told


async def told(data: Path, *arguments: str) -> tuple[int, Json]:
    """Exit code and JSON of a command."""
    code, text = await fermata(data, *arguments, "--json")
    return code, dict(json.loads(text))


@pytest.fixture(scope="module")
async def story(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dump of a release that was denied on Friday evening, let through by an
    override, refused two votes, approved and done; proven before the house was closed."""
    data = tmp_path_factory.mktemp("audit")
    async with open_town(data, FRIDAY_EVENING, slow_services(data, "3m")) as town:
        ready = await town.admin.get("/readyz")
        assert ready["audit"]["guard"] == "sealed"
        denied = await town.admin.started("pull_request", merged("acme/checkout", 7, sha_of("fri")))
        assert (await town.admin.until_over(denied))["state"] == "denied"
        words = "/override wrong tax is charged right now"
        word = comment("acme/checkout", 7, words, by="lin", association="OWNER")
        run = str((await town.admin.github("issue_comment", word)).json()["run_id"])
        assert run != denied
        question = await town.admin.question(run)
        for name, status in (("ada", 403), ("vic", 403), ("grace", 200)):
            assert (await town.who(name).vote(question)).status_code == status
        await town.admin.tell(run, "hold")
        await town.admin.tell(run, "resume")
        assert (await town.admin.until_over(run))["state"] == "succeeded"
        page = await town.admin.get("/api/audit", run=run, kind="vote.counted", limit="1")
        assert [one["data"]["principal"] for one in page["rows"]] == ["grace"]
        assert page["next"] is not None
        assert not (await town.admin.get("/api/audit", run=run, before="1"))["rows"]
        closed = await town.admin.http.get(
            f"{town.admin.url}/api/audit", headers={"Authorization": "Bearer grace-token"}
        )
        assert closed.status_code == 403
        code, proof = await told(data, "audit", "verify")
        assert (code, proof["holds"], proof["gaps"]) == (0, True, []), proof
        assert set(proof["kinds"]) >= STORY
        code, said = await fermata(data, "audit", "export", "--to", str(data / "dump.jsonl"))
        assert code == 0, said
        code, said = await fermata(
            data, "audit", "export", "--run", run[:8], "-o", str(data / "run.jsonl")
        )
        assert code == 0, said
    return data


def offline(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `fermata audit` in this process."""
    done = CliRunner().invoke(app, ["audit", *arguments])
    return done.exit_code, done.output


def verified(dump: Path) -> tuple[int, Json]:
    """Exit code and JSON of the proof of a dump."""
    code, said = offline("verify", str(dump), "--json")
    return code, dict(json.loads(said))


def test_a_dump_is_proven_without_a_database(story: Path) -> None:
    dump = story / "dump.jsonl"
    code, proof = verified(dump)
    assert (code, proof["holds"], proof["left_out"]) == (0, True, 0), proof
    assert set(proof["kinds"]) >= STORY
    head = f"{proof['head']['seq']}:{proof['head']['hash'][:12]}"
    assert offline("verify", str(dump), "--head", head)[0] == 0
    code, said = offline("verify", str(dump), "--head", "5:00000000")
    assert code == 1
    assert "row 5" in said
    code, part = verified(story / "run.jsonl")
    assert (code, part["holds"]) == (0, True), part
    assert part["left_out"] > 0
    assert part["head"]["seq"] >= proof["head"]["seq"]


def test_a_folder_without_a_database_is_told_once_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("FERMATA_DATA", str(tmp_path / "nowhere"))
    code, said = offline("verify")
    assert code == 2
    assert said.count("error:") == 1
    assert "set FERMATA_DATA or DATABASE_URL" in " ".join(said.split())


def test_one_changed_byte_in_any_row_names_that_row(story: Path, tmp_path: Path) -> None:
    good = (story / "dump.jsonl").read_bytes()
    rng = random.Random(20260306)
    starts = [0, *(at + 1 for at, byte in enumerate(good[:-1]) if byte == 10)]
    ends = [*starts[1:], len(good)]
    for number in range(FLIPS):
        # each row in turn, so that none is passed over
        row = number % len(starts)
        at = rng.randrange(starts[row], ends[row])
        changed = bytearray(good)
        changed[at] ^= rng.randrange(1, 256)
        broken = prove(io.BytesIO(bytes(changed))).broken
        assert broken is not None, (at, good[at : at + 1])
        assert broken.line == row + 1, (at, str(broken))
    forged = tmp_path / "forged.jsonl"
    forged.write_bytes(good.replace(b'"principal": "grace"', b'"principal": "gracf"', 1))
    code, proof = verified(forged)
    assert (code, proof["broken"]["kind"]) == (1, "vote.counted"), proof
    code, said = offline("verify", str(forged))
    assert code == 1
    assert "(vote.counted): its content does not match its hash" in said


def test_what_cannot_be_looked_at_is_not_called_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERMATA_DATA", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for arguments in (
        ("verify",),
        ("verify", str(tmp_path / "nowhere.jsonl")),
        ("verify", "--head", "x"),
        ("export", "--since", "yesterday"),
        ("export",),
    ):
        code, said = offline(*arguments)
        assert (code, "error" in said) == (2, True), said
    for text in (b"", b"not a dump\n", b"{}\n", b"\xff\xfe\n"):
        (tmp_path / "bad.jsonl").write_bytes(text)
        code, said = offline("verify", str(tmp_path / "bad.jsonl"))
        assert code == 1
        assert "line 1, the header" in said
