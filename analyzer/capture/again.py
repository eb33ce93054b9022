"""A second reading, for chosen connections of a capture whose segments were too many to keep.

Every segment of a connection comes from its 4-tuple, so a filter over the decoded columns finds them without tracking the
rest; a tracker of their own then classifies them as the first reading did. Reading stops behind the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from analyzer.capture.columns import (
    DPORT,
    DST_HI,
    DST_LO,
    FIN,
    FLAGS,
    M_HELLO,
    M_NOTABLE,
    MARKS,
    N_COLUMNS,
    NO,
    RST,
    SPORT,
    SRC_HI,
    SRC_LO,
    SYN,
    TS,
)  # fmt: skip
from analyzer.capture.reader import AS_IS, KEEP_SEGMENTS, Decoder, How, read_ahead, renumber
from analyzer.tcp import fields as f
from analyzer.tcp.tracker import Tracker, with_connections

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A connection of more segments than this is thinned where the chosen ones together exceed `KEEP_SEGMENTS`.
THIN_FROM = 20_000
#: Thinned, ordinary data and acknowledgements are kept twice in this time and direction, the first and the last: far below the least silence
#: that any rule speaks of (1 s), so a thinned stretch never looks like one.
THIN_NS = 100_000_000
#: … and all of them at both ends of the connection, and every segment that is not ordinary.
THIN_ENDS = 2_000

ENDS = [f.C_HI, f.C_LO, f.C_PORT, f.S_HI, f.S_LO, f.S_PORT]

#: How to open a file of the capture, and its plain size where known.
Part = tuple[Callable[[], AbstractContextManager[BinaryIO]], int | None]


def segments_of(
    parts: Iterable[Part], rows: NDArray[np.int64], how: How = AS_IS
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(segments, their `UID`, their classification) of the connections in `rows` (n × `tcp.fields.N_FIELDS`), in order."""
    return tracked_again(parts, rows, how)[:3]


def tracked_again(
    parts: Iterable[Part], rows: NDArray[np.int64], how: How = AS_IS
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The same, and their rows as they come out now, under the same `UID`s. What another capture knows of their direction counts."""
    thinned = _thinned(rows)
    tracker = Tracker(with_connections(how.sides, rows[rows[:, f.ORIENTED] == f.BY_CAPTURE][:, ENDS].tolist()))
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    for mine, compiled in candidates(parts, rows, how):
        flat = mine.ravel() if compiled else mine.ravel().tolist()
        uids, kinds = tracker.feed(flat, len(mine), compiled)
        kept.append(_thin(mine, np.array(uids), np.array(kinds), thinned))
    return _named(kept, tracker.finish(), rows)


def candidates(
    parts: Iterable[Part], rows: NDArray[np.int64], how: How = AS_IS
) -> Iterator[tuple[NDArray[np.int64], bool]]:
    """(segments, whether compiled) by chunk: all those of the 4-tuples of `rows`, and few others, up to the last one's."""
    keys = np.unique(_key(rows, (f.C_HI, f.C_LO, f.C_PORT), (f.S_HI, f.S_LO, f.S_PORT)))
    last = int(rows[:, f.LAST_NO].max(initial=0))
    base = 0
    for open_part, size in parts:
        if base >= last:
            break
        with open_part() as stream:
            decoder = Decoder(stream, size, how.checksums)
            for chunk in read_ahead(decoder.chunks()):
                renumber(chunk, base)
                table = np.asarray(chunk.out[: chunk.rows * N_COLUMNS], np.int64).reshape(-1, N_COLUMNS)
                mine = table[np.isin(_key(table, (SRC_HI, SRC_LO, SPORT), (DST_HI, DST_LO, DPORT)), keys)]
                if len(mine):
                    yield mine, chunk.compiled
                if base + chunk.records >= last:
                    break
            base += decoder.container.number


def _key(table: NDArray[np.int64], one: tuple[int, int, int], other: tuple[int, int, int]) -> NDArray[np.int64]:
    """A number per row that both directions of a 4-tuple share. Different ones may share it too; `_named` tells them apart."""

    def end(hi: int, lo: int, port: int) -> NDArray[np.int64]:
        mixed = table[:, lo] * 0x9E3779B1 + table[:, hi] * 0x1F123BB5 + table[:, port] * 0x2C1B3C6D
        return np.asarray(mixed ^ (mixed >> 29), np.int64)

    return end(*one) + end(*other)


def _thinned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """First and last record numbers (n × 2) of the connections to thin, none where everything fits."""
    packets = rows[:, f.SIDE + f.PKTS] + rows[:, f.SIDE + f.SIDE_FIELDS + f.PKTS]
    fat = packets > THIN_FROM if packets.sum() > KEEP_SEGMENTS else np.zeros(len(rows), np.bool_)
    return rows[fat][:, [f.FIRST_NO, f.LAST_NO]]


def _thin(
    table: NDArray[np.int64], uids: NDArray[np.int64], kinds: NDArray[np.int64], thinned: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Leave out ordinary segments from the middle of very long connections."""
    if not len(thinned):
        return table, uids, kinds
    number = table[:, NO]
    middle = ((number[:, None] > thinned[:, 0] + THIN_ENDS) & (number[:, None] < thinned[:, 1] - THIN_ENDS)).any(axis=1)
    ordinary = (
        (table[:, FLAGS] & (SYN | FIN | RST) == 0)
        & (kinds & ~(f.K_SERVER | f.K_NEW_DATA | f.K_DUPLICATE) == 0)
        & (table[:, MARKS] & (M_NOTABLE | M_HELLO) == 0)
    )
    time = np.stack([uids, kinds & f.K_SERVER, table[:, TS] // THIN_NS])
    _, first = np.unique(time, axis=1, return_index=True)
    _, latest = np.unique(time[:, ::-1], axis=1, return_index=True)
    keep = ~(middle & ordinary)
    keep[first] = keep[len(table) - 1 - latest] = True
    return table[keep], uids[keep], kinds[keep]


def _births(rows: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """The first record of each connection, and its ends."""
    return [tuple(row) for row in rows[:, [f.FIRST_NO, *ENDS]].tolist()]


def _named(
    kept: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]],
    found: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The segments under the `UID`s of the first reading: no other connection of these ports has the same first record. And the rows."""
    if not kept:
        return np.empty((0, N_COLUMNS), np.int64), np.empty(0, np.int64), np.empty(0, np.int64), rows[:0]
    segments, uids, kinds = (np.concatenate(column) for column in zip(*kept, strict=True))
    owner = dict(zip(_births(rows), rows[:, f.UID].tolist(), strict=True))
    named = np.array([owner.get(birth, -1) for birth in _births(found)], np.int64)
    names, found = named[uids], found[named >= 0].copy()
    found[:, f.UID] = named[named >= 0]
    mine = names >= 0
    return segments[mine], names[mine], kinds[mine], found
