"""Pairs that together fit best, against every pairing there is."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.timeline.pairing import best_of_both, best_pairs

tables = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.lists(st.one_of(st.just(-np.inf), st.integers(-50, 90)), min_size=shape[1], max_size=shape[1]),
        min_size=shape[0], max_size=shape[0],
    )
)  # fmt: skip


def best(gain, without=None):
    """The largest sum of all pairings, without one pair."""
    rows, columns = gain.shape
    sums = []
    for choice in product((*range(columns), None), repeat=rows):
        pairs = [(r, c) for r, c in enumerate(choice) if c is not None]
        if len({c for _, c in pairs}) == len(pairs) and without not in pairs:
            sums.append(sum(gain[pair] for pair in pairs))
    return max(sums)


def pairs_of(gain):
    return {r: {f"column {c}": g for c, g in enumerate(row) if g > -np.inf} for r, row in enumerate(gain.tolist())}


@given(tables)
def test_the_best_pairs_and_what_each_is_worth(table):
    gain = np.array(table, float)
    found = {r: (int(c.split()[1]), worth) for r, (c, worth) in best_pairs(pairs_of(gain)).items()}
    assert len({c for c, _ in found.values()}) == len(found)
    assert np.isclose(sum(gain[r, c] for r, (c, _) in found.items()), best(gain))
    for r, (c, worth) in found.items():
        assert np.isclose(worth, best(gain) - best(gain, (r, c)))


@given(tables)
def test_pairs_that_have_no_better_one_on_either_side(table):
    gain = np.array(table, float)
    for r, (name, worth) in best_of_both(pairs_of(gain)).items():
        c = int(name.split()[1])
        rivals = [*np.delete(gain[r], c), *np.delete(gain[:, c], r), 0.0]
        assert worth == gain[r, c] - max(rivals)
