"""The time axis: order is kept, silences are cut out and told, ticks have room."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.model.times import SECOND
from analyzer.plot.scale import LEAST_BREAK_NS, Scale, breaks, ticks

times = st.lists(st.integers(0, 4_000 * SECOND), min_size=1, max_size=60)


@given(times, st.floats(4.0, 30.0))
def test_time_never_runs_backwards_and_stays_on_the_page(marks, width):
    scale = Scale(marks, width)
    places = [scale.x(t) for t in sorted(marks)]
    assert all(a <= b + 1e-9 for a, b in pairwise(places))
    assert all(-1e-9 <= x <= width + 1e-9 for x in places)


@given(times, st.floats(4.0, 30.0))
def test_breaks_are_long_silences_and_hold_no_mark(marks, width):
    scale = Scale(marks, width)
    for b in scale.breaks:
        assert b.length_ns >= LEAST_BREAK_NS
        assert not [t for t in marks if b.start_ns < t < b.end_ns]
    spans = sorted([*scale.stretches, *scale.breaks], key=lambda s: s.x0)
    assert spans[0].x0 == 0 and spans[-1].x1 == pytest.approx(width)
    assert all(a.x1 == pytest.approx(b.x0) for a, b in pairwise(spans))


@given(times, st.floats(4.0, 30.0))
def test_ticks_keep_apart(marks, width):
    scale = Scale(marks, width)
    found = ticks(scale, marks[0])
    assert found
    assert all(b.x - a.x >= 0.2 for a, b in pairwise(found))


def test_the_longest_silence_is_cut_first():
    marks = [0, SECOND // 10, 10 * SECOND, 10 * SECOND + SECOND // 2, 12 * SECOND]
    assert breaks(marks, most=5) == [(SECOND // 10, 10 * SECOND), (10 * SECOND + SECOND // 2, 12 * SECOND)]
    assert breaks(marks, most=1) == [(SECOND // 10, 10 * SECOND)]


def test_a_steady_rhythm_is_left_alone():
    assert breaks([n * 2 * SECOND for n in range(60)], most=5) == []


def test_less_than_a_second_is_no_silence():
    assert breaks([0, SECOND - 1], most=5) == []


def test_ticks_are_round_seconds_since_zero():
    scale = Scale([n * SECOND // 10 for n in range(101)], 6.0)
    assert [t.label for t in ticks(scale, 0)] == [str(n) for n in range(11)]
    assert ticks(Scale([-SECOND // 2, 0, SECOND // 2], 3.0), 0)[0].label == "−0.4"


def test_a_stretch_too_narrow_for_round_ticks_tells_its_ends():
    scale = Scale([0, 9_111_000_000, 9_150_000_000], 1.8)
    assert [t.label for t in ticks(scale, 0)] == ["0", "9.111", "9.150"]
