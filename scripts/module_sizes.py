"""Fails when a module outgrows the house: none over 600 lines (tests included)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from statistics import median, quantiles

LIMIT = 600


def main() -> int:
    """Print the sizes and return 1 when a module is over the limit."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.py"],
        check=True,
        capture_output=True,
        text=True,
    )
    files = [Path(name) for name in listed.stdout.split() if Path(name).exists()]
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    real = [size for size in sizes.values() if size > 3]
    print(
        f"{len(real)} modules: median {median(real):.0f} lines, "
        f"p90 {quantiles(real, n=10)[-1]:.0f}, largest {max(real)}"
    )
    over = {path: size for path, size in sizes.items() if size > LIMIT}
    for path, size in sorted(over.items()):
        print(f"{path}: {size} lines, over the limit of {LIMIT}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
