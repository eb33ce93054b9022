"""Captures, through both forms of the kernels, which must agree."""

from __future__ import annotations

import io
import os
import random

from analyzer.capture.reader import CaptureData, read_capture
from fuzz.accidents import damaged
from fuzz.seeds import Files, files

NAME, SHARE = "captures", 500


def seeds() -> list[Files]:
    """Small captures."""
    return [{path.name: path.read_bytes()} for path in files("corpus", (".pcap", ".cap", ".ntar", ".pcapng"))]


def damage(seed: Files, chance: random.Random) -> Files:
    """Accidents of binary files."""
    return {name: damaged(content, chance) for name, content in seed.items()}


def _read(content: bytes, form: str) -> CaptureData:
    """Through the interpreted (`0`) or the compiled (`1`) kernels."""
    os.environ["ANALYZER_JIT"] = form
    try:
        return read_capture(io.BytesIO(content), len(content))
    finally:
        del os.environ["ANALYZER_JIT"]


def check(found: Files) -> None:
    """Read it both ways; raises if anything is not as it should be."""
    for content in found.values():
        slow, fast = _read(content, "0"), _read(content, "1")
        assert (slow.rows == fast.rows).all() and (slow.segments == fast.segments).all(), "the forms differ"
        assert (slow.problems, slow.paths, slow.icmp) == (fast.problems, fast.paths, fast.icmp)
        assert (slow.dns, slow.queries) == (fast.dns, fast.queries)
