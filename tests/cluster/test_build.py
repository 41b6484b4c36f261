"""What the builder says and does where it cannot build, or need not. Nothing is compiled here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import build


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> build.Cache:
    monkeypatch.setenv("FERMATA_CLUSTER_CACHE", str(tmp_path / "cache"))
    return build.locate()


def program(folder: Path, name: str, script: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def test_no_go_on_path_is_exit_code_3_and_names_the_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build.main([]) == 3
    assert "no `go` on PATH: the test cluster is built with Go 1." in capsys.readouterr().err


def test_an_old_go_is_exit_code_3_and_names_both_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin", "go", "echo go1.25.9")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert build.main([]) == 3
    assert "`go` is go1.25.9, too old: the test cluster is built" in capsys.readouterr().err


def test_a_failed_build_is_exit_code_1_with_the_compilers_words_and_leaves_nothing_half(
    cache: build.Cache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = 'case "$1" in env) echo go1.99.0;; *) echo "no space left" >&2; exit 1;; esac'
    program(tmp_path / "bin", "go", script)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert build.main(["--no-rollouts"]) == 1
    assert "no space left" in capsys.readouterr().err
    assert list(cache.root.iterdir()) == []


def test_a_complete_cache_needs_no_go(
    cache: build.Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in cache.missing(rollouts=False):
        (cache.root / name).mkdir(parents=True)
    assert build.build(rollouts=False) == cache
    assert cache.missing(rollouts=True) == ["bin/rollouts-controller", "crds/argo-rollouts"]


def test_the_cache_folder_follows_the_pinned_versions(
    cache: build.Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in build.MODULES:
        (tmp_path / module).mkdir()
        for name in ("go.mod", "go.sum"):
            (tmp_path / module / name).write_bytes((build.HERE / module / name).read_bytes())
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert build.locate() == cache
    with (tmp_path / "etcd" / "go.sum").open("a") as file:
        file.write("example.org/new v1.0.0 h1:x=\n")
    assert build.locate() != cache
