"""Constraint templates of the usual sorts, in Gatekeeper's own format, each with its samples."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from policy.manifests.check import read_constraints, read_objects

FILES = sorted((Path(__file__).parent / "library").glob("*.yaml"))


def test_there_are_as_many_as_are_promised() -> None:
    assert len(FILES) >= 15


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_sample_comes_out_as_stated(file: Path) -> None:
    *policy, samples = file.read_text(encoding="utf-8").split("\n---\n")
    found = read_constraints([(str(file), "\n---\n".join(policy))])
    outcomes = set()
    for sample in yaml.safe_load(samples)["samples"]:
        objects, problems = read_objects([("sample.json", json.dumps(sample["object"]))])
        assert not problems
        said = [one.message for obj in objects for one in found.examine_one(obj, {})]
        assert len(said) == sample["violations"], (sample, said)
        outcomes.add(bool(said))
        if "message" in sample:
            assert any(re.search(sample["message"], one) for one in said), (sample, said)
    assert outcomes == {True, False}
