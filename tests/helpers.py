"""What several tests share."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CAPTURES = ROOT / "captures"
#: All shipped cases, and the three that tests of other rooms run on.
ALL_CASES = sorted(p.parent for p in CAPTURES.glob("*/expected.json"))
CASES = [CAPTURES / name for name in ("frozen-keepalive", "healthy", "zombie-fin-wait-2")]
GOLDEN = ROOT / "tests" / "golden"


def expected(folder: Path) -> dict:
    return json.loads((folder / "expected.json").read_text())


def check_golden(name: str, text: str) -> None:
    """Compare with `tests/golden/<name>`; ANALYZER_WRITE_GOLDEN=1 rewrites it, to be read in the diff."""
    path = GOLDEN / name
    if os.environ.get("ANALYZER_WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{name} changed: rewrite with ANALYZER_WRITE_GOLDEN=1 and read the diff"


def shift_pcap(source: Path, target: Path, seconds: float, ppm: float = 0.0) -> None:
    """A copy of a microsecond pcap whose clock is off by `seconds` and drifts by `ppm`."""
    data = source.read_bytes()
    out, i, first = bytearray(data[:24]), 24, None
    while i + 16 <= len(data):
        sec, usec, caplen, wire = struct.unpack_from("<IIII", data, i)
        time = sec * 10**6 + usec
        first = time if first is None else first
        moved = round(time + seconds * 10**6 + (time - first) * ppm * 1e-6)
        out += struct.pack("<IIII", moved // 10**6, moved % 10**6, caplen, wire) + data[i + 16 : i + 16 + caplen]
        i += 16 + caplen
    target.write_bytes(out)
