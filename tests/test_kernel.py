"""The two forms of a kernel, and when which is used."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest

from analyzer import kernel
from analyzer.kernel import COMPILE_FROM, Kernel, compiled_wanted
from tests.capture import packets


def double(value: int) -> int:
    return 2 * value


@kernel.kernel(double)
def total(table: object, n: int) -> int:
    """The doubled sum of the first `n`."""
    result = 0
    for i in range(n):
        result += double(table[i])  # type: ignore[index]
    return result


def test_one_source_two_forms() -> None:
    assert isinstance(total, Kernel)
    assert total.interpreted([1, 2, 3], 2) == 6
    assert total.compiled(np.array([1, 2, 3]), 2) == 6
    assert total.compiled is total.compiled


def test_the_number_of_records_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANALYZER_JIT", raising=False)
    assert not compiled_wanted(COMPILE_FROM - 1)
    assert compiled_wanted(COMPILE_FROM)


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
