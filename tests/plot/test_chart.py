"""Clock time on an axis: round, inside, with room."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.times import MS, SECOND, parse_iso
from analyzer.plot.chart import clock_ticks


@given(st.integers(0, 4_000_000_000), st.integers(5 * MS, 10**7 * SECOND), st.floats(3, 20))
def test_ticks_are_inside_and_keep_apart(start_s, span, width):
    start = start_s * SECOND
    ticks = clock_ticks(start, start + span, width)
    assert all(start <= t <= start + span for t, _ in ticks)
    assert all((b - a) / span * width >= 0.8 for (a, _), (b, _) in pairwise(ticks))
    assert len({label for _, label in ticks}) == len(ticks)


def test_labels_are_as_exact_as_their_step():
    at = parse_iso("2026-11-21T00:35:09.9Z") or 0
    assert [w for _, w in clock_ticks(at, at + SECOND // 2, 5.0)] == [
        "00:35:09.9",
        "00:35:10.0",
        "00:35:10.1",
        "00:35:10.2",
        "00:35:10.3",
        "00:35:10.4",
    ]
    assert [w for _, w in clock_ticks(at, at + 10 * SECOND, 5.0)] == [
        "00:35:10",
        "00:35:12",
        "00:35:14",
        "00:35:16",
        "00:35:18",
    ]
    assert [w for _, w in clock_ticks(at, at + 3600 * SECOND, 4.0)] == ["00:45", "01:00", "01:15", "01:30"]
