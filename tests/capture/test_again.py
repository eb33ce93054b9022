"""The second reading of chosen connections, and captures in several files, against reading everything at once."""

from __future__ import annotations

import io
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.capture import again, columns
from analyzer.capture.reader import Reading
from analyzer.tcp import fields as f
from tests.capture import packets

RECORDS = packets.conversations(seed=3, count=120)
RANDOM = packets.pcap(RECORDS)
WHOLE = packets.read(RANDOM)


def part(content: bytes) -> again.Part:
    return partial(io.BytesIO, content), len(content)


@pytest.mark.parametrize("jit", ["0", "1"])
@settings(max_examples=25, deadline=None)
@given(chosen=st.sets(st.integers(0, len(WHOLE.rows) - 1), min_size=1, max_size=12))
def test_chosen_connections_keep_all_their_segments(jit: str, chosen: set[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANALYZER_JIT", jit)
        segments, uids, kinds = again.segments_of([part(RANDOM)], WHOLE.rows[sorted(chosen)])
    of = np.isin(WHOLE.uids, list(chosen))
    assert np.array_equal(segments, WHOLE.segments[of])
    assert np.array_equal(uids, WHOLE.uids[of])
    assert np.array_equal(kinds, WHOLE.kinds[of])


def test_reading_stops_behind_the_last_chosen_segment() -> None:
    first = WHOLE.rows[WHOLE.rows[:, f.LAST_NO] < len(RECORDS) // 4]
    cut = RANDOM[: len(RANDOM) // 2]
    assert len(first)
    assert np.array_equal(again.segments_of([part(cut)], first)[0], again.segments_of([part(RANDOM)], first)[0])


def test_very_long_connections_are_thinned_without_a_silence_of_its_own_making(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, at, seq = [], 10**18, 0
    client, server = ("10.0.0.1", "10.0.0.2", 40_000, 80), ("10.0.0.2", "10.0.0.1", 80, 40_000)

    def add(ends: tuple[str, str, int, int], flags: int, seq: int, ack: int, payload: bytes = b"") -> None:
        src, dst, sport, dport = ends
        frames.append(
            (at, packets.ethernet(packets.ipv4(src, dst, packets.tcp(sport, dport, seq, ack, flags, payload))))
        )

    for k in range(6_000):
        at += 1_000_000 if k != 3_000 else 5_000_000_000
        add(client, 0x18, seq, 1, b"x" * 10)
        seq += 10
        at += 100_000
        add(server, 0x10, 1, seq)
    content = packets.pcap(frames)
    rows = packets.read(content).rows
    whole = again.segments_of([part(content)], rows)[0]
    monkeypatch.setattr(again, "THIN_FROM", 1_000)
    monkeypatch.setattr(again, "KEEP_SEGMENTS", 1_000)
    thin = again.segments_of([part(content)], rows)[0]
    assert len(whole) == 12_000
    assert len(thin) < 2 * again.THIN_ENDS + 500
    assert np.array_equal(thin[: again.THIN_ENDS], whole[: again.THIN_ENDS])
    assert np.array_equal(thin[-again.THIN_ENDS :], whole[-again.THIN_ENDS :])
    silences = np.sort(np.diff(thin[:, columns.TS]))
    assert silences[-1] == 5_000_000_000  # the real one
    assert silences[-2] <= 2 * again.THIN_NS


@pytest.mark.parametrize("jit", ["0", "1"])
def test_the_files_of_a_ring_are_one_capture(jit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANALYZER_JIT", jit)
    cuts = [0, 100, 101, len(RECORDS) // 2, len(RECORDS)]
    files = [packets.pcap(RECORDS[a:b]) for a, b in pairwise(cuts)]
    reading = Reading()
    for number, content in enumerate(files):
        reading.read(io.BytesIO(content), len(content), member=f"ring.pcap{number}")
    data = reading.result()
    assert np.array_equal(data.rows, WHOLE.rows)
    assert data.parts == [(cut, f"ring.pcap{k}") for k, cut in enumerate(cuts[:-1])]
    own = [c for c in range(columns.N_COLUMNS) if c != columns.OFFSET]  # a payload's place is its file's
    assert np.array_equal(data.segments[:, own], WHOLE.segments[:, own])
    assert (data.records, data.first_ns, data.last_ns, data.texts) == (
        WHOLE.records, WHOLE.first_ns, WHOLE.last_ns, WHOLE.texts,
    )  # fmt: skip
    chosen = WHOLE.rows[5:9]
    segments = again.segments_of([part(content) for content in files], chosen)[0]
    assert np.array_equal(segments[:, own], WHOLE.segments[np.isin(WHOLE.uids, range(5, 9))][:, own])


def test_damage_in_a_ring_names_its_file() -> None:
    reading = Reading()
    reading.read(io.BytesIO(RANDOM), len(RANDOM), member="ring.pcap0")
    reading.read(io.BytesIO(RANDOM[:-7]), None, member="ring.pcap1")
    assert [p.ref for p in reading.result().problems] == [f"ring.pcap1#{len(RECORDS)}"]
