"""Clocks as lines through bounds: the truth lies inside the stated error, whatever the clock does and the network delays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.model.clocks import Clock, Piece, chained, inverted
from analyzer.timeline.bounds import Bounds, fit

S, MS = 1_000_000_000, 1_000_000
T0 = 1_795_220_000 * S
SPAN = 60 * S


def bounds_of(offset, seed, count=60, least_delay=300_000, jitter=5 * MS):
    """Bounds as packets in both directions give them, for an offset that is a function of time."""
    random = np.random.default_rng(seed)
    at = np.sort(random.integers(T0, T0 + SPAN, 2 * count))
    delay = least_delay + random.exponential(jitter, 2 * count).astype(np.int64)
    true = np.array([offset(t) for t in at.tolist()], np.int64)
    up = random.random(2 * count) < 0.5
    return Bounds(at[~up], (true - delay)[~up], at[up], (true + delay)[up])


def clock_of(found):
    return Clock("packet", pieces=found.pieces)


def inside(found, offset, times):
    clock = clock_of(found)
    return all(abs(clock.aligned(t) - t - offset(t)) <= clock.error_at(t) for t in times)


@settings(max_examples=60, deadline=None)
@given(st.integers(-50_000 * S, 50_000 * S), st.floats(-200, 200), st.integers(0, 1000))
def test_the_truth_is_inside_the_error(shift, ppm, seed):
    def offset(t):
        return shift + round((t - T0) * ppm * 1e-6)

    found = fit(bounds_of(offset, seed), T0, T0 + SPAN)
    assert found is not None and found.consistent and not found.dropped and len(found.pieces) == 1
    assert inside(found, offset, range(T0, T0 + SPAN, S))


@pytest.mark.parametrize("ppm", [200, -200, 40])
def test_drift_is_proven_by_a_quick_network(ppm):
    found = fit(bounds_of(lambda t: round((t - T0) * ppm * 1e-6), 1, jitter=MS), T0, T0 + SPAN)
    assert found.drift_proven and found.pieces[0].ppm == pytest.approx(ppm, abs=15)


def test_no_drift_is_claimed_where_none_is_needed():
    found = fit(bounds_of(lambda t: 7 * S, 2), T0, T0 + SPAN)
    assert not found.drift_proven and found.pieces[0].ppm == 0


@pytest.mark.parametrize(("step", "ppm"), [(3 * S, 0), (-S // 2, 80), (50 * MS, -150)])
def test_a_clock_that_was_set_is_two_lines(step, ppm):
    def offset(t):
        return round((t - T0) * ppm * 1e-6) + (step if t >= T0 + SPAN // 3 else 0)

    found = fit(bounds_of(offset, 3, jitter=2 * MS), T0, T0 + SPAN)
    assert found.consistent and len(found.pieces) == 3  # before, while it was set, after
    assert inside(found, offset, range(T0, T0 + SPAN, S // 4))


def test_a_few_wrong_pairs_are_dropped():
    bounds = bounds_of(lambda t: 0, 4)
    bounds.low[10], bounds.high[20] = 9 * S, -9 * S
    found = fit(bounds, T0, T0 + SPAN)
    assert found.dropped == 2 and len(found.pieces) == 1
    assert inside(found, lambda t: 0, range(T0, T0 + SPAN, S))


def test_contradictions_widen_the_error():
    random = np.random.default_rng(5)
    at = np.sort(random.integers(T0, T0 + SPAN, 100))
    wild = random.integers(-S, S, 100)
    found = fit(Bounds(at, wild, at, wild[::-1] + MS), T0, T0 + SPAN)
    assert not found.consistent and found.pieces[0].error_ns > S // 2


def test_bounds_of_one_side_prove_nothing():
    nothing = np.empty(0, np.int64)
    assert fit(Bounds(np.array([T0]), np.array([5]), nothing, nothing), T0, T0 + SPAN) is None


def test_the_error_grows_away_from_the_anchors():
    """A handshake alone says where a clock stood then: not, to the same degree, where it stands a minute later."""
    at = np.arange(T0, T0 + 10 * MS, MS)
    clock = clock_of(fit(Bounds(at, np.full(10, -MS), at, np.full(10, MS)), T0, T0 + SPAN))
    assert clock.error_at(T0) < 2 * MS < 20 * MS < clock.error_at(T0 + SPAN)


# ---- clocks put together

PIECES = st.lists(
    st.builds(
        Piece, st.integers(0, 1000).map(lambda s: T0 + s * S), st.just(T0), st.integers(-S, S), st.floats(-300, 300),
        st.integers(0, MS),
    ), min_size=1, max_size=3, unique_by=lambda p: p.since_ns,
).map(lambda pieces: sorted(pieces, key=lambda p: p.since_ns))  # fmt: skip
STAMPS = st.integers(0, 2000).map(lambda s: T0 + s * S + 1)


@settings(max_examples=200, deadline=None)
@given(PIECES, PIECES, STAMPS)
def test_one_clock_through_another(inner, outer, stamp):
    middle = Clock("", pieces=inner).aligned(stamp)
    whole = Clock("", pieces=chained(inner, outer)).aligned(stamp)
    through = {Clock("", pieces=outer).aligned(middle + slack) - slack for slack in (-2 * S, 0, 2 * S)}
    assert min(through) - MS <= whole <= max(through) + MS  # where a clock was set, within the step


@settings(max_examples=200, deadline=None)
@given(PIECES.map(lambda pieces: pieces[:1]), STAMPS)
def test_there_and_back(pieces, stamp):
    there, back = Clock("", pieces=pieces), Clock("", pieces=inverted(pieces))
    assert abs(back.aligned(there.aligned(stamp)) - stamp) <= 2


@given(PIECES, st.lists(STAMPS, max_size=20))
def test_all_stamps_as_one_by_one(pieces, stamps):
    clock = Clock("", pieces=pieces)
    assert clock.aligned_all(np.array(stamps, np.int64)).tolist() == [clock.aligned(t) for t in stamps]
