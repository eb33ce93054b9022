"""Which connections of several captures are one: against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from analyzer.capture.reader import CaptureData
from analyzer.model.records import Source
from analyzer.tcp import fields as f
from analyzer.timeline import points
from analyzer.timeline.points import CLIENT, SERVER, Point, match_points

#: (client ISN, server ISN, client port): few values, so that keys meet often.
ROWS = st.lists(st.tuples(st.integers(-1, 2), st.integers(-1, 2), st.integers(1, 3)), max_size=12)


def point(rows: list[tuple[int, int, int]]) -> Point:
    table = np.zeros((len(rows), f.N_FIELDS), np.int64)
    for row, (client_isn, server_isn, port) in zip(table, rows, strict=True):
        row[[CLIENT + f.ISN, SERVER + f.ISN, f.C_PORT]] = client_isn, server_isn, port
    return Point(Source("", "", "pcap", ""), CaptureData(rows=table))


def plainly(tables: list[list[tuple[int, int, int]]]) -> set[tuple[int, ...]]:
    owners: dict[tuple[object, ...], list[int]] = {}
    for p, rows in enumerate(tables):
        seen: dict[tuple[object, ...], int] = {}
        for number, (client_isn, server_isn, port) in enumerate(rows):
            key: tuple[object, ...] = (client_isn, port) if client_isn >= 0 else ("?", port)
            if client_isn >= 0 and server_isn >= 0:
                key = (client_isn, server_isn, "any address")
            seen[key] = seen.get(key, 0) + 1
            owners.setdefault((*key, seen[key]), [-1] * len(tables))[p] = number
    return {tuple(members) for members in owners.values()}


def matched(members: NDArray[np.int64]) -> set[tuple[int, ...]]:
    assert len({tuple(m) for m in members.tolist()}) == len(members)
    return {tuple(m) for m in members.tolist()}


@settings(max_examples=200, deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=3))
def test_every_row_meets_its_own(tables: list[list[tuple[int, int, int]]]) -> None:
    assert matched(match_points([point(rows) for rows in tables])) == plainly(tables)


def test_keys_of_one_mixture_stay_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.array([[1, 2], [3, 4], [1, 2], [3, 4]], np.int64)
    monkeypatch.setattr(np, "unique", _colliding(np.unique))
    groups = points._groups(keys)
    assert groups[0] == groups[2] != groups[1] == groups[3]


def _colliding(unique):  # type: ignore[no-untyped-def]
    def call(values, **options):  # type: ignore[no-untyped-def]
        return unique(values if "axis" in options else np.zeros_like(values), **options)

    return call
