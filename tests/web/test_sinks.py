"""What leads out of the house is looked at last: logs, writers, readers' errors."""

from __future__ import annotations

import json
import logging
from uuid import uuid4

import pytest
import structlog

from domain.action import Action, GitCommentPr
from domain.effect import Applied, Stamp
from domain.errors import AdapterError, OutcomeUnknown, Permanent, Temporary
from tests.policy.redaction.making import credentials, redactor
from tools.forge_twin import ForgeTwin
from tools.ports import Guard
from web.logs import set_up_logging
from web.sinks import Sinks

TOKEN, _ = credentials()["personal access token"]
STAMP = Stamp(run_id=uuid4(), step_id="say", digest="0" * 64, decision_id=uuid4())
COMMENT = GitCommentPr(repo="acme/shop", number=7, marker="release", body=f"uses {TOKEN}")


async def allowed() -> None:
    """A guard that lets pass."""


class Failing:
    """A writer whose backend answers with what it was sent."""

    def __init__(self, error: AdapterError) -> None:
        self.error = error

    async def apply(self, action: Action, stamp: Stamp, guard: Guard) -> Applied:
        raise self.error

    async def read_back(self, action: Action, stamp: Stamp) -> Applied | None:
        raise self.error


async def test_a_comment_is_cleaned_before_it_is_sent() -> None:
    forge = ForgeTwin()
    writer = Sinks(redactor()).written({"git_comment_pr": forge})["git_comment_pr"]
    applied = await writer.apply(COMMENT, STAMP, allowed)
    assert "[redacted:github-pat:" in str(forge.comments)
    assert TOKEN not in str(forge.comments) + applied.model_dump_json()
    assert await writer.read_back(COMMENT, STAMP) is not None


@pytest.mark.parametrize(
    "error",
    [
        Temporary(f"503 for {TOKEN}", 7.0),
        Permanent(f"403 for {TOKEN}", f"replace {TOKEN}"),
        OutcomeUnknown(f"cut off at {TOKEN}"),
    ],
)
async def test_an_error_keeps_its_kind_and_loses_the_secret(error: AdapterError) -> None:
    writer = Sinks(redactor()).written({"notify": Failing(error)})["notify"]
    with pytest.raises(type(error)) as raised:
        await writer.apply(COMMENT, STAMP, allowed)
    assert TOKEN not in str(raised.value) + str(vars(raised.value))
    assert raised.value.__cause__ is None
    if isinstance(error, Temporary):
        assert vars(raised.value)["retry_after"] == 7.0


def test_log_lines_fields_and_tracebacks_hold_no_secret(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers
    try:
        set_up_logging("info", redactor())
        log = structlog.get_logger("test")
        try:
            raise ValueError(f"the backend said {TOKEN}")
        except ValueError:
            log.exception("broke off", header={"Authorization": "plainword"}, error=OSError(TOKEN))
            logging.getLogger("library").exception("also %s", TOKEN)
        said = capfd.readouterr().err
    finally:
        logging.getLogger().handlers = before
        structlog.reset_defaults()
    assert TOKEN not in said
    assert "plainword" not in said
    lines = [json.loads(line) for line in said.splitlines()]
    assert len(lines) == 2
    assert all("[redacted:github-pat:" in line["exception"] for line in lines)
