"""`fermata policy check`, `schema` and `explain`, as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import app
from policy.schema import policy_schema
from tests.policy.making import SHIPPED, SMALL, small_with

ROOT = SHIPPED.parent
MERGED = ROOT / "examples" / "merged-pull-request.json"
FRIDAY = "2026-03-27T18:01+01:00"


def line(part: str) -> int:
    """The line of the small policy that a piece stands in."""
    return SMALL[: SMALL.index(part)].count("\n") + 1


BROKEN: dict[str, tuple[bytes, int, str]] = {
    # name: the file, the line that has to be named, and a word of the hint
    "tab": (SMALL.replace("  staging:", "\tstaging:").encode(), 3, "spaces"),
    "duplicate": (b"version: 1\nversion: 1\n", 2, "line 1"),
    "unknown": (
        SMALL.replace("canary: {max", "canary: {most: 1, max").encode(),
        line("canary: {"),
        "valid keys",
    ),
    "type": (
        SMALL.replace("prod], count: 1", "prod], count: one").encode(),
        line("prod], count"),
        "1",
    ),
    "window": (
        small_with(
            (
                "  deny: []",
                '  deny:\n    - {id: w, from: "Fri 18:00", to: "Fri 18:00", environments: [prod]}',
            )
        ).encode(),
        12,
        "part of the week",
    ),
    "cron": (
        small_with(
            (
                "  deny: []",
                '  deny:\n    - {id: w, cron: "0 0 30 2 *", lasts: 1h, environments: [prod]}',
            )
        ).encode(),
        12,
        "0 22 * * 1-5",
    ),
    "bomb": (
        b"a: &a [1,1,1,1,1,1,1,1,1,1]\n"
        + b"".join(
            b"%c: &%c [*%c,*%c,*%c,*%c]\n" % (n, n, n - 1, n - 1, n - 1, n - 1)
            for n in range(ord("b"), ord("k"))
        ),
        8,
        "aliases",
    ),
    "large": (b"# " + b"x" * 10_000_000, 1, "split"),
    "null-byte": (SMALL.encode() + b"# \x00\n", 50, "remove"),
    "not-utf8": (b"version: 1\n# caf\xe9\n", 2, "UTF-8"),
    "list": (b"- version\n", 1, "keys"),
    "empty": (b"", 1, "shipped"),
    "section": (SMALL.replace("rollback: {manual: allow}\n", "").encode(), 1, "rollback"),
}


def run(*arguments: str, stdin: bytes | None = None, code: int = 0) -> Result:
    result = CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, arguments, input=stdin)
    assert result.exit_code == code, result.output
    return result


def test_broken_files_are_each_named_with_a_place_and_a_hint(tmp_path: Path) -> None:
    files = []
    for name, (data, _, _) in BROKEN.items():
        path = tmp_path / f"{name}.yaml"
        path.write_bytes(data)
        files.append(str(path))
    missing = str(tmp_path / "missing.yaml")
    output = run("policy", "check", *files, missing, str(SHIPPED), code=1).stdout
    for file in (*files, missing):
        told = [one for one in output.splitlines() if one.startswith(f"{file}:")]
        assert told, f"nothing is said about {file}"
    assert output.count("hint:") >= len(files)
    assert f"{SHIPPED}: good" in output


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_file_is_told_at_its_line_with_what_to_do(name: str, tmp_path: Path) -> None:
    data, place, hint = BROKEN[name]
    path = tmp_path / "policy.yaml"
    path.write_bytes(data)
    (entry,) = json.loads(run("policy", "check", str(path), "--json", code=1).stdout)
    first: dict[str, Any] = entry["problems"][0]
    assert first["line"] == place or name == "null-byte"
    assert first["column"] >= 1
    assert hint in first["hint"] + first["message"]


def test_a_byte_order_mark_and_stdin_are_fine() -> None:
    assert "good" in run("policy", "check", "-", stdin=b"\xef\xbb\xbf" + SMALL.encode()).stdout


def test_the_published_schema_is_the_one_that_the_code_makes() -> None:
    kept = json.loads((ROOT / "policy.schema.json").read_text(encoding="utf-8"))
    assert kept == policy_schema(), "run: fermata policy schema > policy.schema.json"
    assert json.loads(run("policy", "schema").stdout) == kept


def test_a_deploy_on_friday_evening_is_explained_with_the_next_opening() -> None:
    output = run("policy", "explain", str(MERGED), "--at", FRIDAY).stdout
    assert "checkout/prod: deny" in output
    assert "next opening Mon 2026-03-30 08:00 Europe/Berlin" in output
    assert "[windows.closed]" in output
    assert "to pass:" in output
    assert "checkout/staging: " in output


def explained(*arguments: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(run("policy", "explain", *arguments, "--json").stdout)
    return whole


def outcomes(whole: dict[str, Any]) -> dict[str, str]:
    return {one["scope"]: one["outcome"] for one in whole["scopes"]}


def test_what_is_assumed_can_be_given_instead() -> None:
    base = (str(MERGED), "--at", FRIDAY, "--path", "src/a.py")
    assert outcomes(explained(*base)) == {"checkout/staging": "allow", "checkout/prod": "deny"}
    lifted = explained(*base, "--override", "sam:sre-lead:checkout is down")
    assert outcomes(lifted)["checkout/prod"] == "needs_approval"
    assert "next_opening" in lifted["scopes"][1]
    first = explained(*base, "--running", "checkout/prod=")
    risks = {step["decision"]["risk"] for step in first["scopes"][1]["steps"]}
    assert risks == {"high"}
    assert any("runs in" in one for one in first["assumed"])


def test_every_form_of_an_event_is_understood(tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = [
        {"type": "deploy", "service": "checkout", "environment": "prod", "sha": "4f2c1a9d"},
        {"type": "rollback", "service": "checkout", "environment": "prod"},
        {
            "specversion": "1.0",
            "id": "1",
            "source": "/ci",
            "type": "dev.fermata.deploy",
            "data": {"service": "checkout", "environment": "prod", "sha": "4f2c1a9d"},
        },
    ]
    for form in forms:
        path = tmp_path / "event.json"
        path.write_text(json.dumps(form))
        whole = explained(str(path), "--at", "2026-03-25T12:00+01:00")
        assert set(outcomes(whole)) == {"checkout/prod"}, form


def test_a_title_from_outside_is_printed_as_plain_text(tmp_path: Path) -> None:
    payload = json.loads(MERGED.read_text(encoding="utf-8"))
    payload["pull_request"]["title"] = "[red]x[/red]\x1b[2J\nsecond"
    path = tmp_path / "event.json"
    path.write_text(json.dumps(payload))
    output = run("policy", "explain", str(path), "--at", FRIDAY).stdout
    assert output.startswith("[red]x[/red] [2J second at 2026-03-27")
    assert "\x1b" not in output


def test_an_event_that_changes_nothing_says_what_it_does() -> None:
    alert = {
        "type": "ci_result",
        "repo": "acme/checkout",
        "sha": "a" * 40,
        "name": "unit",
        "conclusion": "success",
        "source": "check_run",
    }
    output = run("policy", "explain", "-", "--at", FRIDAY, stdin=json.dumps(alert).encode()).stdout
    assert "nothing is changed" in output


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("{", (), "not JSON"),
        ("[]", (), "not an object"),
        ('{"type": "deplo"}', (), "Did you mean `deploy`?"),
        ("{}", ("--at", "2026-03-25T12:00"), "does not say where"),
        ("{}", ("--at", "Friday"), "not a time"),
    ],
)
def test_bad_input_says_what_to_do(
    text: str, arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "event.json"
    path.write_text(text)
    told = run("policy", "explain", str(path), *arguments, code=2).output
    assert said in " ".join(told.split())


def test_check_reads_the_constraints_that_the_policy_names(tmp_path: Path) -> None:
    """What keeps a server from starting must not be called good."""
    file = tmp_path / "policy.yaml"
    text = SHIPPED.read_text().replace("  constraints: []", "  constraints: [nowhere]")
    file.write_text(text)
    done = CliRunner().invoke(app, ["policy", "check", str(file)])
    assert done.exit_code == 1
    line = text[: text.index("[nowhere]")].count("\n") + 1
    assert f"{file}:{line}:17: the constraints in" in done.stdout
    assert "nowhere" in done.stdout


def test_check_warns_of_a_policy_that_states_no_cases(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    text = SHIPPED.read_text()
    file.write_text(text[: text.index("\nsamples:")] + "\n")
    done = run("policy", "check", str(file), code=0)
    assert "warning: it has no `samples`" in done.stdout
    assert "warning" not in run("policy", "check", str(SHIPPED), code=0).stdout
