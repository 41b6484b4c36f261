"""`fermata policy manifests` as it is used: files, folders, stdin, formats, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from typer.testing import CliRunner, Result

from cli import app
from tests.policy.making import small_with
from tests.policy.manifests.test_builtin import GOOD_POD, GUARD, workload
from tests.policy.manifests.test_constraints import POD, constraint, never, template

TREE = Path(__file__).parents[3]


def run(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(
        app, ["policy", "manifests", "--policy", str(TREE / "policy.yaml"), *args], input=stdin
    )


def rows(result: Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "web.yaml").write_text(workload("Deployment", GOOD_POD))
    (tmp_path / "app" / "guard.yml").write_text(GUARD)
    (tmp_path / "kustomization.yaml").write_text("resources: [app]\n")
    return tmp_path


def test_good_manifests_pass_with_an_empty_list(folder: Path) -> None:
    result = run(str(folder), "--json")
    assert result.exit_code == 0, result.output
    assert rows(result) == []
    assert "kustomization.yaml is passed over" in " ".join(result.stderr.split())


def test_what_a_policy_names_beside_it_is_read_as_while_serving(folder: Path) -> None:
    beside = folder / "beside"
    (beside / "constraints").mkdir(parents=True)
    (beside / "freeze.ics").write_text(
        "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:t\nBEGIN:VEVENT\nDTSTART:20260105T100000Z\n"
        "DURATION:PT1H\nSUMMARY:one\nEND:VEVENT\nEND:VCALENDAR\n"
    )
    never_good = yaml.safe_dump_all([template(never("no")), constraint()])
    (beside / "constraints" / "never.yaml").write_text(never_good)
    deny = "  deny:\n    - {id: freeze, calendar: freeze.ics, environments: [prod]}"
    named = "manifests:\n  constraints: [constraints]\n"
    policy = beside / "policy.yaml"
    policy.write_text(small_with(("  deny: []", deny), ("manifests:\n", named)))
    args = ["policy", "manifests", "--policy", str(policy), str(folder / "app"), "--json"]
    result = CliRunner().invoke(app, args)
    assert result.exit_code == 1, result.output
    assert "no" in {one["message"] for one in rows(result)}


def test_what_is_found_has_every_field_and_exit_one() -> None:
    text = f"# head\n---\n{GUARD}---\r\n" + workload("Pod", {**GOOD_POD, "hostNetwork": True})
    result = run("-", "--json", stdin=text)
    assert result.exit_code == 1
    (row,) = rows(result)
    assert row.keys() == {"file", "document", "line", "path", "rule", "message", "fix"}
    assert (row["file"], row["document"], row["rule"]) == ("stdin", 2, "host-namespaces")
    assert row["path"] == "$.spec.hostNetwork"
    assert text.splitlines()[row["line"] - 1].strip() == "hostNetwork: true"


def test_files_are_looked_at_together(folder: Path) -> None:
    web, guard = str(folder / "app" / "web.yaml"), str(folder / "app" / "guard.yml")
    alone = run(web, "--json")
    assert [one["rule"] for one in rows(alone)] == ["network-policy"]
    assert run(web, guard).exit_code == 0


def test_the_plain_output_names_place_rule_and_fix() -> None:
    result = run("-", stdin=workload("Pod", {**GOOD_POD, "hostPID": True}))
    assert "stdin:" in result.stdout
    assert "host-namespaces" in result.stdout
    assert "fix: Take `hostPID` out." in result.stdout


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        ("", "not one Kubernetes object"),
        ("# Source: nothing\n---\n", "not one Kubernetes object"),
        ("a: [\n", "stdin:2:1"),
        ("kind: Pod\nspec: {{ .Values.x }}\n", "stdin:2:7"),
        ("apiVersion: apps/v1\nkind: Deployment\n", "pods cannot be judged"),
    ],
)
def test_what_cannot_be_read_never_passes(stdin: str, words: str) -> None:
    result = run("-", "--json", stdin=stdin)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert result.stdout == ""


def test_missing_files_empty_folders_and_no_files_are_bad_usage(tmp_path: Path) -> None:
    for args in ([str(tmp_path / "none.yaml")], [str(tmp_path)], [], ["--json", "--sarif", "-"]):
        assert run(*args).exit_code == 2


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    result = run(str(file))
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


@pytest.fixture
def constraints(tmp_path: Path) -> Path:
    home = tmp_path / "constraints"
    home.mkdir()
    (home / "template.yaml").write_text(yaml.safe_dump(template(never("told so"))))
    (home / "constraint.yaml").write_text(yaml.safe_dump(constraint()))
    return home


def test_constraints_come_on_top_of_the_built_in_rules(constraints: Path) -> None:
    stdin = workload("Pod", GOOD_POD) + "---\n" + GUARD
    result = run("-", "--constraints", str(constraints), "--json", stdin=stdin)
    assert result.exit_code == 1
    assert {(one["rule"], one["message"]) for one in rows(result)} == {("K8sTold/told", "told so")}
    assert len(rows(result)) == 2


def test_constraints_may_stand_alone_and_only_warn(constraints: Path) -> None:
    soft = {**constraint(enforcementAction="warn")}
    (constraints / "constraint.yaml").write_text(yaml.safe_dump(soft))
    result = run(
        "-", "--no-builtin", "--constraints", str(constraints), "--json", stdin=yaml.safe_dump(POD)
    )
    assert result.exit_code == 0
    assert rows(result) == []
    assert "warn: stdin:1 K8sTold/told: told so" in result.stderr


def test_a_template_only_in_rego_stops_everything(constraints: Path) -> None:
    rego = template(kind="K8sOld", code=[{"engine": "Rego", "source": {"rego": "package x"}}])
    (constraints / "old.yaml").write_text(yaml.safe_dump(rego))
    result = run("-", "--constraints", str(constraints), stdin=yaml.safe_dump(POD))
    assert result.exit_code == 2
    assert "ConstraintTemplate k8sold" in result.stderr
    assert "Rego only" in result.stderr


def test_sarif_has_rules_places_and_levels(constraints: Path, tmp_path: Path) -> None:
    file = tmp_path / "a b.yaml"
    file.write_text("\n\n" + workload("Pod", {**GOOD_POD, "hostPID": True}) + "---\n" + GUARD)
    result = run(str(file), "--constraints", str(constraints), "--sarif")
    assert result.exit_code == 1
    log = json.loads(result.stdout)
    assert log["version"] == "2.1.0"
    (found,) = log["runs"]
    ids = [one["id"] for one in found["tool"]["driver"]["rules"]]
    assert sorted(ids) == ["K8sTold/told", "host-namespaces"]
    for one in found["results"]:
        assert ids[one["ruleIndex"]] == one["ruleId"]
        place = one["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert unquote(place["artifactLocation"]["uri"]).endswith("/a b.yaml")
    assert {one["level"] for one in found["results"]} == {"error"}


def test_suites_are_run_as_gator_runs_them(constraints: Path) -> None:
    (constraints / "pod.yaml").write_text(yaml.safe_dump(POD))
    suite: dict[str, Any] = {
        "apiVersion": "test.gatekeeper.sh/v1alpha1",
        "kind": "Suite",
        "tests": [
            {
                "name": "told",
                "template": "template.yaml",
                "constraint": "constraint.yaml",
                "cases": [
                    {
                        "name": "pod",
                        "object": "pod.yaml",
                        "assertions": [
                            {"violations": "yes"},
                            {"violations": 1, "message": "^told so$"},
                            {"violations": "no", "message": "something else"},
                        ],
                    }
                ],
            }
        ],
    }
    file = constraints / "suite.yaml"
    file.write_text(yaml.safe_dump(suite))
    good = run("--suite", str(constraints), "--json")
    assert good.exit_code == 0
    assert [one["status"] for one in rows(good)] == ["pass"]
    suite["tests"][0]["cases"][0]["assertions"][1]["violations"] = 2
    file.write_text(yaml.safe_dump(suite))
    bad = run("--suite", str(file), "--json")
    assert bad.exit_code == 1
    assert "expected 2" in rows(bad)[0]["detail"]
    suite["tests"][0]["cases"][0]["object"] = "none.yaml"
    file.write_text(yaml.safe_dump(suite))
    assert rows(run("--suite", str(file), "--json"))[0]["status"] == "error"
