"""The columns that a search looks at say what the segments say, however many captures saw them."""

from __future__ import annotations

import numpy as np
import pytest

import analyzer
from analyzer.tcp.segments import columns_of
from tests.helpers import CAPTURES, expected


@pytest.mark.parametrize("name", ["any-interface", "nat-silent", "redis-closed-in-freeze", "reset-dropped"])
def test_columns_are_those_of_the_segments(name: str) -> None:
    folder = CAPTURES / name
    connections = analyzer.read(*(folder / one for one in expected(folder)["inputs"])).story.connections
    assert len(connections)
    for k in range(len(connections)):
        columns, made = connections.columns(k), columns_of(connections.segments(k))
        for column in columns.__struct_fields__:
            assert np.array_equal(getattr(columns, column), getattr(made, column)), (k, column)


def test_no_segments_have_no_columns() -> None:
    assert not len(columns_of([]).times_ns)
