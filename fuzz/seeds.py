"""What the fuzzers start from: files of the folder that ANALYZER_SHARED names if it is set, the shipped cases otherwise."""

from __future__ import annotations

import os
from pathlib import Path

#: An input: the content of each of its files by name.
Files = dict[str, bytes]
CASES = Path(__file__).parents[1] / "captures"
#: Files larger than this are not damaged: many small ones find more.
LARGEST = 200_000


def files(under: str, endings: tuple[str, ...]) -> list[Path]:
    """Files with one of these endings, in the folder `under` of the shared one or in the shipped cases."""
    shared = os.environ.get("ANALYZER_SHARED")
    root = Path(shared) / under if shared else CASES
    found = (path for path in root.rglob("*") if path.suffix in endings and path.name != "expected.json")
    return sorted(path for path in found if path.is_file() and 0 < path.stat().st_size <= LARGEST)
