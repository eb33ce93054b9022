"""`unwrap` with its tables, over the batches of one file; and what that loop leaves aside: frames aggregated into one record.

A record holds one packet, but for an A-MSDU of 802.11, in which several stand one behind the other. The loop reads the first and
marks the record; here, off the hot path, each of the others gets a record of its own, under the same number and time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from analyzer.capture.columns import (
    A_AT,
    A_END,
    A_NO,
    C_AGGREGATED,
    N_ASIDE,
    N_RECORD,
    N_TALLIES,
    R_AT,
    R_CAPLEN,
    R_IFACE,
    R_KIND,
    R_LINK,
    R_OFFSET,
)
from analyzer.capture.containers import BATCH_COMPILED, BATCH_INTERPRETED
from analyzer.capture.layers import N_TRAIL, TRAIL_FROM, TRAIL_NEXT
from analyzer.capture.paths import described, is_full, room
from analyzer.capture.unwrap import unwrap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from analyzer.capture.containers import Batch


class Unwrapped(NamedTuple):
    """`n` unwrapped records, and `beside` rows of packets that are no segment but about one (the A_ columns), both end to end."""

    records: Any
    n: int
    asides: Any
    beside: int


class Unwrapper:
    """Unwraps batch after batch. `tallies` are those of each form of the kernel: compiled or not."""

    def __init__(self) -> None:
        self.tallies: dict[bool, Any] = {}
        self._room: dict[bool, tuple[Any, Any, Any]] = {}

    def unwrapped(self, batch: Batch) -> Unwrapped:
        """A batch, every frame of it. The tables are used again for the next one."""
        trail, paths, asides = self._tables(batch.compiled)
        tally = self.tallies[batch.compiled]
        before = tally[C_AGGREGATED]
        step = unwrap.compiled if batch.compiled else unwrap.interpreted
        beside = int(step(batch.data, batch.records, batch.n, trail, paths, asides, tally))
        found = Unwrapped(batch.records, batch.n, asides, beside)
        return found if tally[C_AGGREGATED] == before else self._with_subframes(batch, found)

    def paths(self) -> dict[int, str]:
        """What each `PATH` stands for, in words."""
        return {path: text for _, table, _ in self._room.values() for path, text in described(table).items()}

    def is_full(self) -> bool:
        """Whether there were more paths than are described."""
        return any(is_full(paths) for _, paths, _ in self._room.values())

    def _tables(self, compiled: bool) -> tuple[Any, Any, Any]:
        if compiled not in self._room:
            self.tallies[compiled] = np.zeros(N_TALLIES, np.int64) if compiled else [0] * N_TALLIES
            self._room[compiled] = (
                (np.zeros(N_TRAIL, np.int64), np.array(room(), np.int64), np.empty(BATCH_COMPILED * N_ASIDE, np.int64))
                if compiled
                else ([0] * N_TRAIL, room(), [0] * (BATCH_INTERPRETED * N_ASIDE))
            )
        return self._room[compiled]

    def _with_subframes(self, batch: Batch, found: Unwrapped) -> Unwrapped:
        """The same with a record behind each marked one for every other frame in it that holds TCP."""
        records = _table(found.records, found.n, N_RECORD)
        asides = [_table(found.asides, found.beside, N_ASIDE)]
        places: list[int] = []
        more: list[list[int]] = []
        for place in np.flatnonzero(records[:, R_LINK] < 0).tolist():
            batch.records[place * N_RECORD + R_LINK] = records[place, R_LINK] = ~records[place, R_LINK]
            for record, aside in self._subframes(batch, records[place].tolist()):
                if record[R_KIND] > 0:
                    places.append(place + 1)
                    more.append(record)
                asides.append(aside)
        table = np.insert(records, places, np.array(more, np.int64).reshape(-1, N_RECORD), axis=0)
        beside = np.concatenate(asides)
        beside = beside[np.argsort(beside[:, A_NO], kind="stable")]
        flat = (table.ravel(), beside.ravel())
        if not batch.compiled:
            return Unwrapped(flat[0].tolist(), len(table), flat[1].tolist(), len(beside))
        return Unwrapped(flat[0], len(table), flat[1], len(beside))

    def _subframes(self, batch: Batch, record: list[int]) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        """(unwrapped record, asides) of each frame of a record but the first."""
        trail, paths, _ = self._tables(False)
        start = record[R_OFFSET]
        frame = bytes(batch.data[start : start + record[R_CAPLEN]])
        at, first = 0, True
        while first or at:
            row, aside = [0, *record[1:]], [0] * N_ASIDE
            trail[TRAIL_FROM] = at
            tally = [0] * N_TALLIES if first else self.tallies[False]
            beside = unwrap.interpreted(frame, row, 1, trail, paths, aside, tally)
            row[: R_IFACE + 1] = record[: R_IFACE + 1]  # what the container said, and the interface as told before
            row[R_AT] += start
            aside[A_AT] += start
            aside[A_END] += start
            if not first:
                yield row, np.array(aside[: beside * N_ASIDE], np.int64).reshape(beside, N_ASIDE)
            at, first = trail[TRAIL_NEXT], False


def _table(rows: Any, n: int, width: int) -> NDArray[np.int64]:
    """A copy of rows that are laid end to end."""
    return np.array(rows[: n * width], np.int64).reshape(n, width)
