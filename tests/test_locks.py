"""What the tests ran with is what `make install` installs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / name).read_text()))


def test_the_tests_run_with_the_versions_that_users_install() -> None:
    runtime, tests = pins("requirements.lock"), pins("requirements-dev.lock")
    assert runtime
    assert {name: tests.get(name) for name in runtime} == runtime


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_no_host(name: str) -> None:
    assert "://" not in (ROOT / name).read_text()
