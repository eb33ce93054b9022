"""Who runs at a time, against every interval asked in turn; what environments fit, in blocks of any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.timeline import shares
from analyzer.timeline.running import Running

intervals = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(1, 12)), max_size=12)
moments = st.lists(st.integers(-2, 45), max_size=8)


def table_of(chosen):
    return np.array([(env, begin, begin + length) for env, begin, length in chosen], np.int64).reshape(-1, 3)


@given(intervals, moments)
def test_who_runs(chosen, times):
    table, times = table_of(chosen), np.sort(np.array(times, np.int64))
    running = Running(table)
    expected = [{env for env, begin, end in table.tolist() if begin <= t <= end} for t in times.tolist()]
    which, env = running.at(times)
    assert sorted(zip(which.tolist(), env.tolist(), strict=True)) == [
        (n, env) for n, here in enumerate(expected) for env in sorted(here)
    ]
    assert running.count_at(times).tolist() == [len(here) for here in expected]


@given(intervals, moments)
def test_the_shortest_interval_then_the_latest(chosen, times):
    table = table_of(chosen)
    running = Running(table)
    for env in range(5):
        at = running.interval(np.full(len(times), env), np.array(times, np.int64))
        for t, found in zip(times, at.tolist(), strict=True):
            here = [(end - begin, t - begin) for e, begin, end in table.tolist() if e == env and begin <= t <= end]
            if not here:
                assert found == -1
            else:
                begin, end = int(running.begin[found]), int(running.end[found])
                assert (int(running.env[found]), (end - begin, t - begin)) == (env, min(here))


@given(
    intervals,
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 42)), min_size=1, max_size=25),
    st.integers(1, 30),
)
def test_what_fits_in_blocks_of_any_size(chosen, bursts, block):
    table = table_of(chosen)
    group, times = np.array(bursts, np.int64).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "BLOCK", block)
        found = shares.Fitting(list("abcd"), np.zeros(4, np.bool_), Running(table), group, times, np.ones(len(times)))
    for g in range(6):
        mine = times[group == g].tolist()
        expected = {}
        for env, name in enumerate("abcd"):
            inside = sum(any(e == env and begin <= t <= end for e, begin, end in table.tolist()) for t in mine)
            if mine and inside >= shares.LEAST_SHARE * len(mine):
                expected[name] = inside / len(mine)
        assert found.gains(g).keys() == expected.keys()
        assert {env: share for share, env in found.of(g)}.items() <= expected.items()
