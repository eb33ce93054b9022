"""Damage is data: any truncation or mutation of a capture gives a result or a problem, never an exception or a hang."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.capture import containers
from analyzer.capture.columns import N_ASIDE, N_COLUMNS, N_RECORD, N_TALLIES
from analyzer.capture.decode import decode
from analyzer.capture.layers import N_TRAIL
from analyzer.capture.paths import room
from analyzer.capture.unwrap import unwrap
from analyzer.model.problems import Problem
from analyzer.tcp.tracker import Tracker
from tests.capture import hostile, packets
from tests.capture.test_twins import assert_equal, read

ROOT = Path(__file__).parents[2]
CAPTURES = sorted((ROOT / "captures").glob("*/server.pcap*"))
GOOD = packets.pcap(packets.conversations(seed=5, count=8))
GOOD_NG = packets.section() + packets.interface() + packets.enhanced("<", 0, 1, b"x" * 60)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_both_kernels_survive_damage_and_agree_on_it(seed: int) -> None:
    content = hostile.damaged(seed)
    with pytest.MonkeyPatch.context() as patch:
        assert_equal(read(content, patch, "0"), read(content, patch, "1"))


@pytest.mark.parametrize("content", [GOOD[:3000], packets.section() + GOOD_NG * 6], ids=["pcap", "pcapng"])
def test_every_truncation_gives_the_packets_before_it(content: bytes) -> None:
    before = 0
    for size in range(len(content) + 1):
        data = packets.read(content[:size])
        assert data.records >= before
        before = data.records
    assert before


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.parent.name)
def test_a_cut_capture_says_so(path: Path) -> None:
    content = path.read_bytes()
    data = packets.read(content[:-5])
    assert data.records == packets.read(content).records - 1
    assert any("cut short" in problem.what for problem in data.problems)


@pytest.mark.slow
def test_compiled_kernels_stay_inside_their_arrays(tmp_path: Path) -> None:
    """Compiled code checks no bounds; compiled to check them, it finds nothing to complain of."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "ANALYZER_JIT": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "tests.capture.hostile", "1500"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) > 10_000


class Strict(list[int]):
    """A table that has no end to count from: what a pointer makes of a negative index."""

    def __getitem__(self, i: Any) -> Any:
        assert isinstance(i, slice) or i >= 0
        return super().__getitem__(i)

    def __setitem__(self, i: Any, value: Any) -> None:
        assert isinstance(i, slice) or i >= 0
        super().__setitem__(i, value)


class StrictBytes(bytes):
    def __getitem__(self, i: Any) -> Any:
        assert isinstance(i, slice) or i >= 0
        return super().__getitem__(i)


def test_no_kernel_counts_from_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYZER_JIT", "0")
    monkeypatch.setattr(containers.Window, "form", lambda self, compiled: StrictBytes(self.data))
    for content in [*map(hostile.damaged, range(300)), packets.pcap(packets.conversations(seed=6, count=40))]:
        container = containers.Container(io.BytesIO(content), len(content))
        container._records[False] = Strict([0] * containers.BATCH_INTERPRETED * N_RECORD)
        tracker = Tracker()
        tracker.rows, tracker.index = Strict(tracker.rows), Strict(tracker.index)
        for batch in container.batches():
            out, tallies = Strict([0] * batch.n * N_COLUMNS), Strict([0] * N_TALLIES)
            scratch = [Strict([0] * size) for size in (N_TRAIL, len(room()), batch.n * N_ASIDE)]
            records = Strict(batch.records)
            unwrap.interpreted(batch.data, records, batch.n, *scratch, tallies)
            rows = decode.interpreted(batch.data, batch.base, records, batch.n, 10**6, 1, out, tallies)
            tracker.feed(out, rows, compiled=False)


# ---- cost follows the bytes, whatever they say


def seconds(content: bytes) -> float:
    start = time.perf_counter()
    packets.read(content)
    return time.perf_counter() - start


def many(unit: bytes, size: int) -> bytes:
    return packets.section() + packets.interface() + unit * (size // len(unit))


FRAME = packets.ethernet(packets.ipv4("10.0.0.1", "10.0.0.2", packets.tcp(1, 2, 3, 4, 16)))


@pytest.mark.parametrize(
    ("what", "unit"),
    [
        ("interfaces between packets", packets.interface() + packets.enhanced("<", 0, 1, FRAME)),
        ("unknown blocks between packets", packets.block("<", 99, b"") + packets.enhanced("<", 0, 1, FRAME)),
        ("packets of unknown interfaces", packets.enhanced("<", 0xFFFFFF, 1, FRAME)),
        ("packets that claim more than their block", packets.block("<", 6, bytes(12) + b"\xff" * 4 + bytes(4))),
        ("statistics", packets.block("<", 5, bytes(12) + packets.option("<", 7, b"\1" + bytes(7)))),
        ("sections", packets.section() + packets.interface() + packets.enhanced("<", 0, 1, FRAME)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("jit", ["0", "1"])
def test_cost_is_linear_and_problems_are_bounded(
    what: str, unit: bytes, jit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYZER_JIT", jit)
    small, large = many(unit, 100_000), many(unit, 800_000)
    packets.read(small)
    assert min(seconds(large) for _ in range(2)) < 8 * 4 * min(seconds(small) for _ in range(3)) + 0.2
    assert len(packets.read(large).problems) <= containers.MAX_PROBLEMS + 10


@pytest.mark.parametrize("size", [0x0FFF_FFF0, 0x1000_0000, 0xFFFF_FFF0])
def test_a_block_that_claims_a_huge_size_allocates_nothing(size: int) -> None:
    import tracemalloc

    content = packets.section() + packets.interface() + size.to_bytes(4, "little") * 3
    tracemalloc.start()
    data = packets.read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.problems
    assert peak < 40 << 20


def test_statistics_of_drops_are_no_list_without_end() -> None:
    unit = packets.block("<", 5, bytes(12) + packets.option("<", 7, b"\1" + bytes(7)))
    assert len(packets.read(many(unit, 200_000)).problems) <= 3


# ---- what is said


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty file"),
        (b"\xd4\xc3", "shorter than a capture file header"),
        (b"hello world, this is a text", "not a capture file: it starts with 68 65 6c 6c"),
        (GOOD[:20], "cut short inside the file header"),
        (GOOD[:30], "cut short: 6 bytes of a record header at the end"),
        (GOOD[:24] + b"\0" * 8 + b"\xff" * 8, "a record claims 4,294,967,295 captured bytes at byte 24; stopped there"),
        (GOOD_NG[:-8], "cut short: the last block has"),
        (packets.section() + packets.block("<", 6, bytes(20)), "packet before any interface block; skipped"),
        (packets.section() + packets.interface() + packets.enhanced("<", 7, 1, b""), "packet of interface 7"),
        (packets.section() + b"\x0a\x0d\x0d\x0a" + bytes(20), "unknown byte-order magic"),
        (packets.pcap([(1, b"x" * 60)], link=147), "1 packets of link type 147 not decoded"),
        (packets.pcap([(1, bytes(12) + b"\x08\x06" + bytes(40))]), "no TCP among 1 packets"),
        (packets.pcap([(1, FRAME[:14] + b"\x41" + FRAME[15:])]), "impossible IP or TCP header lengths"),
    ],
)  # fmt: skip
def test_problems_name_what_is_wrong(content: bytes, what: str) -> None:
    assert any(what in problem.what for problem in packets.read(content).problems)


def test_a_problem_has_a_place() -> None:
    problems = packets.read(GOOD[:-3]).problems
    assert len(problems) == 1
    assert isinstance(problems[0], Problem)
    assert problems[0].ref == f"#{packets.read(GOOD).records}"
