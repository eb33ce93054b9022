"""The compiled kernels against their interpreted twins, and any cutting of the input against reading it whole."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.capture import containers, reader
from analyzer.capture.columns import N_COLUMNS
from analyzer.capture.reader import CaptureData, Decoder, read_capture
from analyzer.tcp.tracker import Table, Tracker
from tests.capture import packets

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("*/server.pcap*"))
RANDOM = packets.pcap(packets.conversations(seed=3, count=120))


def as_pcapng(records: list[packets.Record]) -> bytes:
    """The same records, every fourth on another interface, with a block to step over now and then."""
    out = [packets.section(), packets.interface(resolution=9), packets.interface(resolution=9, offset=-5)]
    for n, (ns, frame) in enumerate(records):
        number = int(n % 4 == 3)
        out.append(packets.enhanced("<", number, ns + 5 * 10**9 * number, frame))
        if n % 50 == 0:
            out.append(packets.block("<", 4, b"\0" * 4))
    return b"".join(out)


def read(content: bytes, monkeypatch: pytest.MonkeyPatch, jit: str) -> CaptureData:
    monkeypatch.setenv("ANALYZER_JIT", jit)
    return read_capture(io.BytesIO(content), len(content))


def assert_equal(a: CaptureData, b: CaptureData) -> None:
    for name in ("rows", "segments", "uids", "kinds"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    for name in (
        "format", "records", "tcp", "first_ns", "last_ns", "complete", "texts", "owners", "problems", "paths", "icmp", "dns",
        "names", "comments", "has_secrets",
    ):  # fmt: skip
        assert getattr(a, name) == getattr(b, name), name


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.parent.name)
def test_twins_agree_on_shipped_captures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = path.read_bytes()
    assert_equal(read(content, monkeypatch, "0"), read(content, monkeypatch, "1"))


@pytest.mark.parametrize(
    "content", [RANDOM, as_pcapng(packets.conversations(seed=4, count=120))], ids=["pcap", "pcapng"]
)
def test_twins_agree_on_random_conversations(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal(read(content, monkeypatch, "0"), read(content, monkeypatch, "1"))


@pytest.mark.shared
def test_twins_agree_on_public_captures(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged and foreign files too: every file of the collection."""
    paths = [
        path for path in sorted((shared / "corpus").rglob("*")) if path.is_file() and path.stat().st_size < 1 << 20
    ]
    contents = {path: path.read_bytes() for path in paths}
    interpreted = {path: read(content, monkeypatch, "0") for path, content in contents.items()}
    for path, content in contents.items():
        assert_equal(interpreted[path], read(content, monkeypatch, "1"))
    assert sum(data.tcp > 0 for data in interpreted.values()) > 200


# ---- any cutting of the input


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a pipe does."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self.rest, self.sizes = memoryview(content), sizes

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        size = min(len(target), len(self.rest), self.sizes[0])
        self.sizes = [*self.sizes[1:], self.sizes[0]]
        target[:size], self.rest = self.rest[:size], self.rest[size:]
        return size


@pytest.mark.parametrize("jit", ["0", "1"])
@settings(max_examples=15, deadline=None)
@given(
    window=st.integers(1_200, 40_000),
    batch=st.integers(1, 300),
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=5),
)
def test_windows_batches_and_reads_of_any_size_give_equal_rows(
    jit: str, window: int, batch: int, sizes: list[int]
) -> None:
    for content in (RANDOM, as_pcapng(packets.conversations(seed=3, count=60))):
        with pytest.MonkeyPatch.context() as patch:
            whole = read(content, patch, "0")
            patch.setenv("ANALYZER_JIT", jit)
            for module in (containers, reader):
                patch.setattr(module, "BATCH_COMPILED", batch)
                patch.setattr(module, "BATCH_INTERPRETED", batch)
            patch.setattr(containers, "READ_SIZE", window)
            stream: Any = Dribble(content, sizes)
            assert_equal(read_capture(stream), whole)


@settings(max_examples=15, deadline=None)
@given(threshold=st.integers(1, 1500), window=st.integers(1_200, 40_000))
def test_changing_to_the_compiled_kernel_on_the_way_changes_nothing(threshold: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = read(RANDOM, patch, "0")
        patch.setattr(containers, "compiled_wanted", lambda records: records >= threshold)
        patch.setattr(containers, "READ_SIZE", window)
        assert_equal(read_capture(io.BytesIO(RANDOM)), whole)


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=6))
def test_the_tracker_may_be_fed_in_pieces_of_either_form(sizes: list[tuple[int, bool]]) -> None:
    flat = read_flat(RANDOM)
    n = len(flat) // N_COLUMNS
    whole = Tracker()
    expected = [list(column) for column in whole.feed(flat, n, compiled=False)]
    pieces, found, at = Tracker(), [[], []], 0
    while at < n:
        size, compiled = sizes[0]
        sizes = [*sizes[1:], (size + 1, compiled)]
        size = min(size, n - at)
        part: Any = flat[at * N_COLUMNS : (at + size) * N_COLUMNS]
        result = pieces.feed(np.array(part, np.int64) if compiled else part, size, compiled)
        for column, more in zip(found, result, strict=True):
            column += [int(value) for value in more]
        at += size
    assert found == expected
    assert np.array_equal(pieces.finish(), whole.finish())


def read_flat(content: bytes) -> list[int]:
    """All segments of a capture, end to end."""
    decoder = Decoder(io.BytesIO(content), len(content))
    out: list[int] = []
    for chunk in decoder.chunks():
        out += [int(value) for value in chunk.out[: chunk.rows * N_COLUMNS]]
    return out


# ---- what is kept


def test_beyond_the_bound_nothing_is_kept_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "KEEP_SEGMENTS", 100)
    data = packets.read(RANDOM)
    assert (data.complete, len(data.segments), data.rows.shape[0] > 100) == (False, 0, True)


def test_a_table_grows_without_losing_rows() -> None:
    table = Table()
    for rows in (10, 5, 1000, 40_000):
        table.grow(rows)
        assert len(table.array) >= rows
        assert table.array[:7].tolist() == ([0] * 7 if rows == 10 else list(range(7)))
        table.array[:7] = range(7)
        assert not table.array[7:].any()


def test_an_error_in_the_decoding_thread_reaches_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYZER_JIT", "1")
    monkeypatch.setattr(containers, "READ_SIZE", 4096)

    class Broken(io.BytesIO):
        def readinto1(self, target: Any) -> int:
            if self.tell() > 20_000:
                raise MemoryError("no more")
            return super().readinto(memoryview(target)[:4096])

        readinto = readinto1

    with pytest.raises(MemoryError):
        read_capture(Broken(RANDOM))


def test_a_reader_that_stops_early_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.setenv("ANALYZER_JIT", "1")
    monkeypatch.setattr(containers, "READ_SIZE", 4096)

    def stop(done: int, records: int, size: int | None) -> None:
        if records > 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_capture(io.BytesIO(RANDOM), progress=stop)
    assert not [thread for thread in threading.enumerate() if thread.name == "decode"]
