"""The two forms of a kernel, and when which is used."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analyzer import kernel
from analyzer.kernel import COMPILE_FIRST_FROM, COMPILE_FROM, Column, Kernel, compiled_before, compiled_wanted
from tests.capture import packets


def double(value: int) -> int:
    return 2 * value


@kernel.kernel(double)
def total(table: Column, n: int) -> int:
    """The doubled sum of the first `n`."""
    result = 0
    for i in range(n):
        result += double(table[i])
    return result


def test_one_source_two_forms() -> None:
    assert isinstance(total, Kernel)
    assert total.interpreted([1, 2, 3], 2) == 6
    assert total.compiled(np.array([1, 2, 3]), 2) == 6
    assert total.compiled is total.compiled
    assert total.signature == "(int64[::1], int64)"


def test_the_number_of_records_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANALYZER_JIT", raising=False)
    for before, least in ((True, COMPILE_FROM), (False, COMPILE_FIRST_FROM)):
        monkeypatch.setattr(kernel, "compiled_before", lambda before=before: before)
        assert not compiled_wanted(least - 1)
        assert compiled_wanted(least)


def test_what_was_compiled_before_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compiled_before.cache_clear()
    assert not compiled_before()
    program = "from analyzer.tcp.track import track; track.compiled"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    compiled_before.cache_clear()
    assert compiled_before()
    monkeypatch.undo()
    compiled_before.cache_clear()


@pytest.mark.parametrize(("forced", "chosen"), [("0", False), ("1", True)])
def test_the_environment_may_choose(forced: str, chosen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYZER_JIT", forced)
    assert compiled_wanted(10**9) is chosen
    assert compiled_wanted(0) is chosen


def test_a_small_capture_never_loads_the_compiler() -> None:
    """Cold start counts: importing numba takes longer than interpreting thousands of packets."""
    content = packets.pcap(packets.conversations(seed=1, count=5))
    program = (
        "import io, os, sys; os.environ.pop('ANALYZER_JIT', None)\n"
        "from analyzer.capture.reader import read_capture\n"
        "data = sys.stdin.buffer.read()\n"
        "read_capture(io.BytesIO(data), len(data))\n"
        "assert 'numba' not in sys.modules and 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], input=io.BytesIO(content).read(), check=True, timeout=30)
