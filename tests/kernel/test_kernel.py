"""The two forms of a kernel, and when which is used."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analyzer import kernel
from analyzer.kernel import COMPILE_FIRST_FROM, COMPILE_FROM, Column, Kernel, compiled_wanted, native
from analyzer.tcp.track import track
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


def test_the_number_of_records_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANALYZER_JIT", raising=False)
    for before, least in ((True, COMPILE_FROM), (False, COMPILE_FIRST_FROM)):
        monkeypatch.setattr(kernel, "compiled_before", lambda before=before: before)
        assert not compiled_wanted(least - 1)
        assert compiled_wanted(least)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Object files are kept in two folders of the test's own, of which the first cannot be written."""
    found = [tmp_path / "file" / "below", tmp_path / "cache"]
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr(native, "places", lambda: iter(found))
    return found


def kept(places: list[Path]) -> list[Path]:
    return sorted(places[1].glob(f"*{native.SUFFIX}"))


def test_machine_code_is_kept_and_found_again(places: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not native.kept("total", (total.interpreted, double))
    assert native.load(total.interpreted, (double,))(np.array([1, 2, 3]), 3) == 12
    assert native.kept("total", (total.interpreted, double))
    assert len(kept(places)) == 1
    monkeypatch.setattr(native, "build", lambda *_: pytest.fail("built again"))
    assert native.load(total.interpreted, (double,))(np.array([5]), 1) == 10


@pytest.mark.parametrize("damage", [b"", b"short", bytes(100)])
def test_damaged_machine_code_is_built_again(damage: bytes, places: list[Path]) -> None:
    native.load(total.interpreted, (double,))
    kept(places)[0].write_bytes(damage)
    assert native.load(total.interpreted, (double,))(np.array([1, 2, 3]), 3) == 12
    assert len(kept(places)[0].read_bytes()) > 200


def test_a_changed_constant_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """numba's own cache looks at the kernel's file only, and would run yesterday's columns."""
    before = native.fingerprint((track.interpreted, *track.helpers))
    assert native.fingerprint((track.interpreted, *track.helpers)) == before
    monkeypatch.setitem(track.interpreted.__globals__, "SEQ", 77)
    assert native.fingerprint((track.interpreted, *track.helpers)) != before


def grows(table: Column, n: int) -> int:
    """Needs memory, which only numba's runtime hands out."""
    values = [table[0]]
    for i in range(n):
        values.append(i)
    return len(values)


def fails(table: Column, n: int) -> int:
    """Fails in a way of Python's."""
    if n > 1:
        raise ValueError
    return table[n]


def test_a_function_that_needs_a_runtime_is_left_to_numba(places: list[Path]) -> None:
    with pytest.raises(native.NotNativeError):
        native.load(grows, ())
    assert Kernel(grows, ()).compiled(np.array([1]), 3) == 4


def test_a_failure_inside_is_not_taken_for_a_result(places: list[Path]) -> None:
    assert native.load(fails, ())(np.array([1, 2]), 1) == 2
    with pytest.raises(RuntimeError, match="fails"):
        native.load(fails, ())(np.array([1, 2]), 2)


@pytest.mark.parametrize("table", [np.zeros(4, np.int32), np.zeros((4, 4), np.int64)[:, 0]], ids=["type", "strides"])
def test_wrong_arrays_are_refused(table: np.ndarray) -> None:
    with pytest.raises(TypeError):
        total.compiled(table, 2)


def test_bounds_are_checked_when_numba_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_BOUNDSCHECK", "1")
    with pytest.raises(native.NotNativeError):
        native.load(total.interpreted, (double,))
    assert kernel.Kernel(total.interpreted, (double,)).compiled(np.array([1, 2, 3]), 3) == 12


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
        "assert not {'numba', 'llvmlite', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], input=io.BytesIO(content).read(), check=True, timeout=30)


def hot_loops() -> dict[str, Kernel]:
    import analyzer.capture.reader
    import analyzer.tcp.signs  # noqa: F401 - register them

    mine = [one for one in kernel._kernels if one.interpreted.__module__.startswith("analyzer.")]
    return {one.interpreted.__name__: one for one in mine}


def test_every_hot_loop_is_machine_code_of_its_own() -> None:
    """A set display or a list in a helper would bring numba's runtime in, and with it importing and compiling every time."""
    loops = hot_loops()
    assert {"scan_pcap", "scan_enhanced", "unwrap", "decode", "track", "reindex", "read_signs"} <= set(loops)
    for one in loops.values():
        assert native.load(one.interpreted, one.helpers)
