"""Manifests and policies for them, from files and folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from domain.errors import SourceError, SourceProblem

ENDINGS: Final = (".yaml", ".yml", ".json")
NOT_OBJECTS: Final = ("kustomization.yaml", "kustomization.yml")
"""Input of kustomize, not manifests: what it builds from them is."""


def manifest_texts(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """(file, text) of files, and of the manifests in folders and the folders in them.

    Raises SourceError for what cannot be read, and for a folder with nothing to read in it.
    """
    for path in paths:
        if not path.is_dir():
            yield str(path), _text(path)
            continue
        inside = manifests_in(path)
        if not inside:
            raise _unreadable(path, f"the folder holds no {', '.join(ENDINGS)} files")
        for one in inside:
            if one.name not in NOT_OBJECTS:
                yield str(one), _text(one)


def manifests_in(folder: Path) -> list[Path]:
    """The files in a folder and the folders in it that may hold manifests, sorted."""
    return sorted(one for one in folder.rglob("*") if one.suffix in ENDINGS and one.is_file())


def decoded(data: bytes, file: str) -> str:
    """Text of a manifest. Raises SourceError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(Path(file), f"it is not UTF-8 text (byte {error.start})") from error


def _text(path: Path) -> str:
    try:
        return decoded(path.read_bytes(), str(path))
    except OSError as error:
        raise _unreadable(path, f"it cannot be read: {error.strerror}") from error


def _unreadable(path: Path, message: str) -> SourceError:
    return SourceError((SourceProblem(str(path), 1, 1, message, "check the path"),))
