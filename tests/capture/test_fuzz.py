"""A short run of the fuzzer on what is shipped; `python -m fuzz.captures` runs as long as you like, on what you have."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from fuzz import captures
from tests.helpers import CAPTURES, ROOT


@pytest.mark.slow
def test_damaged_captures_for_twenty_seconds() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ANALYZER_SHARED"}
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.captures", "--seconds", "20", "--seed", "1"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "damaged captures" in done.stdout


def test_accidents_do_damage() -> None:
    content = (CAPTURES / "healthy" / "server.pcap").read_bytes()
    made = {captures.damaged(content, random.Random(seed)) for seed in range(50)}
    assert len(made) > 45
    assert captures.damaged(content, random.Random(3)) == captures.damaged(content, random.Random(3))
