"""One capture file read: records, segments, connections, and the segments that are kept for a closer look."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from analyzer.capture.columns import (
    C_CUT,
    C_FRAGMENT,
    C_LINK,
    C_MALFORMED,
    C_RECORDS,
    C_TCP,
    CAPTURED,
    M_KEEP,
    MARKS,
    N_COLUMNS,
    N_TALLIES,
    NO,
    OFFSET,
)
from analyzer.capture.containers import BATCH_COMPILED, BATCH_INTERPRETED, Batch, Container
from analyzer.capture.decode import LINK_NAMES, decode
from analyzer.model.problems import Problem
from analyzer.tcp.tracker import Tracker

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Segments kept in memory from the first reading (192 bytes each). Captures with more are read a second time for the
#: few connections that a rule examines, so memory does not follow the file's size.
KEEP_SEGMENTS = 250_000
#: Payload kept where a marker says that its text is evidence (GOAWAY debug data, error replies).
KEEP_TEXT = 256
KEEP_TEXTS = 10_000

#: Called now and then with (bytes done, records done).
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class CaptureData:
    """What one capture file holds.

    `rows` are connections (n × `tcp.fields.N_FIELDS`); `segments` (m × `columns.N_COLUMNS`), `uids` and `kinds` belong
    together, one a kept segment; `complete` tells whether every segment was kept. `texts` maps a record number to the
    start of its payload where that is evidence.
    """

    format: str = ""
    records: int = 0
    tcp: int = 0
    first_ns: int = 0
    last_ns: int = 0
    rows: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 0), np.int64))
    segments: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, N_COLUMNS), np.int64))
    uids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    kinds: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    complete: bool = True
    texts: dict[int, bytes] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Kept:
    """Segments set aside while reading: all of them up to a bound, or those of chosen connections."""

    def __init__(self, only: Collection[int] | None) -> None:
        self.only = np.array(sorted(only), np.int64) if only is not None else None
        self.segments: list[NDArray[np.int64]] = []
        self.uids: list[NDArray[np.int64]] = []
        self.kinds: list[NDArray[np.int64]] = []
        self.count = 0
        self.complete = True

    def take(self, segments: Any, uids: Any, kinds: Any, n: int) -> None:
        if self.only is None and not self.complete:
            return
        table, owner, kind = np.array(segments[:n], np.int64), np.array(uids, np.int64), np.array(kinds, np.int64)
        if self.only is not None:
            chosen = np.isin(owner, self.only)
            table, owner, kind = table[chosen], owner[chosen], kind[chosen]
        if self.count + len(table) > KEEP_SEGMENTS:
            self.complete = False
            if self.only is None:
                self.segments, self.uids, self.kinds, self.count = [], [], [], 0
                return
            room = KEEP_SEGMENTS - self.count
            table, owner, kind = table[:room], owner[:room], kind[:room]
        self.segments.append(table)
        self.uids.append(owner)
        self.kinds.append(kind)
        self.count += len(table)


def read_capture(
    stream: BinaryIO, size: int | None = None, only: Collection[int] | None = None, progress: Progress | None = None
) -> CaptureData:
    """Read a capture to its end. `only` keeps the segments of those connections (their `UID`) instead of all.

    Damage is a `Problem` in the result, never an exception; `size` is the plain file's size where known.
    """
    container = Container(stream, size)
    data = CaptureData(problems=container.problems)
    tracker = Tracker()
    kept = _Kept(only)
    tallies: dict[bool, Any] = {False: [0] * N_TALLIES}
    outs: dict[bool, Any] = {False: [[0] * N_COLUMNS for _ in range(BATCH_INTERPRETED)]}
    unknown_links: dict[int, int] = {}
    for batch in container.batches():
        if batch.compiled and True not in outs:
            tallies[True], outs[True] = np.zeros(N_TALLIES, np.int64), np.empty((BATCH_COMPILED, N_COLUMNS), np.int64)
        out, tally = outs[batch.compiled], tallies[batch.compiled]
        run = decode.compiled if batch.compiled else decode.interpreted
        before = int(tally[C_LINK])
        rows = int(run(batch.data, batch.base, batch.records, batch.n, out, tally))
        if tally[C_LINK] > before:
            _count_links(batch, unknown_links)
        _span(data, batch)
        if rows:
            uids, kinds = tracker.feed(out, rows, batch.compiled)
            _keep_texts(data.texts, batch, out, rows)
            kept.take(out, uids, kinds, rows)
        if progress:
            progress(batch.base, container.number)
    total = np.sum([np.array(t, np.int64) for t in tallies.values()], axis=0)
    data.format = container.format
    data.records, data.tcp = int(total[C_RECORDS]), int(total[C_TCP])
    data.rows = tracker.finish()
    data.complete = kept.complete
    if kept.count:
        data.segments, data.uids, data.kinds = map(np.concatenate, (kept.segments, kept.uids, kept.kinds))
    _report(data.problems, total, unknown_links)
    return data


def _span(data: CaptureData, batch: Batch) -> None:
    if batch.compiled:
        low, high = int(batch.records[: batch.n, 3].min()), int(batch.records[: batch.n, 3].max())
    else:
        times = [record[3] for record in batch.records[: batch.n]]
        low, high = min(times), max(times)
    data.first_ns = min(data.first_ns, low) if data.first_ns else low
    data.last_ns = max(data.last_ns, high)


def _count_links(batch: Batch, counts: dict[int, int]) -> None:
    for record in batch.records[: batch.n]:
        link = int(record[5])
        if link not in LINK_NAMES:
            counts[link] = counts.get(link, 0) + 1


def _keep_texts(texts: dict[int, bytes], batch: Batch, out: Any, rows: int) -> None:
    """Copy the payloads whose text is evidence out of the block before it is dropped."""
    if batch.compiled:
        chosen = np.flatnonzero(out[:rows, MARKS] & M_KEEP).tolist()
    else:
        chosen = [k for k in range(rows) if out[k][MARKS] & M_KEEP]
    for k in chosen:
        if len(texts) >= KEEP_TEXTS:
            return
        start = int(out[k][OFFSET]) - batch.base
        texts[int(out[k][NO])] = bytes(batch.data[start : start + min(int(out[k][CAPTURED]), KEEP_TEXT)])


def _report(problems: list[Problem], tally: NDArray[np.int64], links: dict[int, int]) -> None:
    for link, count in sorted(links.items()):
        problems.append(Problem("", f"{count:,} packets of link type {link} not decoded"))
    for column, what in (
        (C_CUT, "packets with headers cut by the snap length, not decoded (capture with -s 128 or more)"),
        (C_MALFORMED, "packets with impossible IP or TCP header lengths, not decoded"),
        (C_FRAGMENT, "IP fragments after the first, not counted as segments"),
    ):
        if tally[column]:
            problems.append(Problem("", f"{int(tally[column]):,} {what}"))
    if tally[C_RECORDS] and not tally[C_TCP]:
        problems.append(Problem("", f"no TCP among {int(tally[C_RECORDS]):,} packets"))
