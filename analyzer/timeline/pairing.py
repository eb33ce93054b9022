"""The pairs of rows and columns that together fit best, and how much worse everything is without each of them.

Theory of operation. The best pairing is the assignment problem's (Kuhn, Munkres): row after row is added along the cheapest
alternating path, with prices of rows and columns that make every pair cost nothing or more. To do without one pair, its row has to
take another column, whose row takes another, … until a column is left over: a cycle in a graph of rows whose arcs are the costs
that the prices leave. The shortest such cycle (Floyd, Warshall) is what the pair is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import nlargest
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]


#: What each pair of a row and a column adds to the sum, by row and column; what is not there is no pair.
Gains = Mapping[int, Mapping[str, float]]
#: The column of each row that has one, and how much less the sum would be without that pair.
Pairs = dict[int, tuple[str, float]]


def best_pairs(gains: Gains) -> Pairs:
    """The pairs that together add most. Rows and columns may stay alone, which adds nothing.

    Takes the cube of the number of rows in time.
    """
    rows, columns = list(gains), sorted({column for mine in gains.values() for column in mine})
    number = {column: n for n, column in enumerate(columns)}
    cost = np.full((len(rows), len(columns) + len(rows)), np.inf)
    for r, row in enumerate(rows):
        cost[r, len(columns) + r] = 0.0  # alone
        for column, gain in gains[row].items():
            cost[r, number[column]] = -gain
    column_of, left = _assigned(cost)
    worth = _shortest_cycles(left, column_of)
    return {rows[r]: (columns[c], float(worth[r])) for r, c in enumerate(column_of.tolist()) if c < len(columns)}


def best_of_both(gains: Gains) -> Pairs:
    """Pairs of a row and a column that have no better one, with how much worse the next is; what others would do instead is not asked.

    Takes no more time than there are pairs.
    """
    of_column: dict[str, dict[int, float]] = {}
    for row, mine in gains.items():
        for column, gain in mine.items():
            of_column.setdefault(column, {})[row] = gain
    found = {}
    for row, mine in gains.items():
        column = max(mine, key=mine.__getitem__, default="")
        others = of_column.get(column, {})
        if others and max(others, key=others.__getitem__) == row:
            next_best = max(_second(mine), _second(others), 0.0)
            found[row] = column, mine[column] - next_best
    return found


def _second(gains: Mapping[int, float] | Mapping[str, float]) -> float:
    return nlargest(2, gains.values())[1] if len(gains) > 1 else 0.0


def _assigned(cost: Floats) -> tuple[Ints, Floats]:
    """The column of each row in the cheapest assignment of all rows, and what the prices leave of the costs: 0 for pairs of it, and
    in a last row for columns that stay free (of others what it costs to free them)."""
    rows, columns = cost.shape
    row_price, price = np.zeros(rows), np.zeros(columns)
    row_of = np.full(columns, -1)
    for start in range(rows):
        nearest, before = np.full(columns, np.inf), np.full(columns, -1)
        done = np.zeros(columns, np.bool_)
        row, column = start, -1
        while True:
            reach = cost[row] - row_price[row] - price
            closer = ~done & (reach < nearest)
            nearest[closer], before[closer] = reach[closer], column
            open_ = np.where(done, np.inf, nearest)
            column = int(np.argmin(open_))
            step = open_[column]
            mine = row_of[done]
            row_price[mine] += step
            row_price[start] += step
            price[done] -= step
            nearest[~done] -= step
            done[column] = True
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        while column >= 0:
            above = int(before[column])
            row_of[column] = row_of[above] if above >= 0 else start
            column = above
    column_of = np.empty(rows, np.int64)
    column_of[row_of[row_of >= 0]] = np.flatnonzero(row_of >= 0)
    return column_of, np.concatenate([cost - row_price[:, None] - price, -price[None]])


def _shortest_cycles(left: Floats, column_of: Ints) -> Floats:
    """For each row the least cost at which it and others change columns; the last node stands for columns that nobody has."""
    rows = len(column_of)
    arcs = np.full((rows + 1, rows + 1), np.inf)
    arcs[:, :rows] = left[:, column_of]
    free = np.setdiff1d(np.arange(left.shape[1]), column_of)
    arcs[:rows, rows] = left[:rows, free].min(axis=1, initial=np.inf)
    np.fill_diagonal(arcs, np.inf)
    ways = arcs.copy()
    for k in range(rows + 1):
        np.minimum(ways, ways[:, k, None] + ways[None, k], out=ways)
    return np.asarray((arcs + ways.T).min(axis=1)[:rows], np.float64)
