"""One way in which an object breaks a rule, with its place and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from domain.yaml_source import Path
from policy.manifests.objects import Object, json_path

Weight = Literal["deny", "warn", "dryrun"]


@dataclass(frozen=True)
class Finding:
    """`path` leads to the value in the object; for what is missing, to where it belongs."""

    rule: str
    object: Object
    path: Path
    message: str
    fix: str
    weight: Weight = "deny"

    @property
    def line(self) -> int:
        """Line in the file, from 1."""
        return self.object.line(self.path)

    @property
    def json_path(self) -> str:
        """Path from the root of the document."""
        return json_path((*self.object.path, *self.path))

    def row(self) -> dict[str, str | int]:
        """The finding as the command prints it with `--json`."""
        return {
            "file": self.object.document.file,
            "document": self.object.document.index,
            "line": self.line,
            "path": self.json_path,
            "rule": self.rule,
            "message": self.message,
            "fix": self.fix,
        }
