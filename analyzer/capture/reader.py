"""One capture file read: records, segments, connections, and the segments that are kept for a closer look."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from msgspec import Struct, field
from msgspec.structs import replace

from analyzer.capture.asides import Asides, DnsQuery, IcmpError
from analyzer.capture.columns import (
    C_CHECKED,
    C_CUT,
    C_DEEP,
    C_ENCRYPTED,
    C_FIRST,
    C_FRAGMENT,
    C_LAST,
    C_LINK,
    C_MALFORMED,
    C_MARKS,
    C_TCP,
    C_UNTIMED,
    C_WRONG,
    M_KEEP,
    MARKS,
    N_COLUMNS,
    N_RECORD,
    N_TALLIES,
    NO,
    R_LINK,
)
from analyzer.capture.containers import BATCH_COMPILED, BATCH_INTERPRETED, Batch, Container
from analyzer.capture.decode import decode
from analyzer.capture.layers import LINK_NAMES, MAX_STEPS
from analyzer.capture.texts import Texts
from analyzer.capture.unwrapper import Unwrapped, Unwrapper
from analyzer.model.problems import Problem
from analyzer.tcp.tracker import NOBODY, Tracker

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Segments kept in memory from the first reading (192 bytes each). Captures with more are read a second time for the
#: few connections that a rule examines, so memory does not follow the file's size.
KEEP_SEGMENTS = 250_000
#: Tables of decoded segments: one looked at, one written, the others waiting between them.
RING = 4

#: Checksums are looked at in the first segments only, which tells a damaged capture from a whole one and costs nothing;
#: `check` looks at all, `drop` leaves out what is wrong.
CHECKSUMS = {"sample": 128, "check": 1 << 62, "drop": 1 << 62}

#: Called now and then with (bytes of the file done, records done, bytes of the file or None).
Progress = Callable[[int, int, int | None], None]


class CaptureData(Struct):
    """What one capture file holds.

    `rows` are connections (n × `tcp.fields.N_FIELDS`); `segments` (m × `columns.N_COLUMNS`), `uids` and `kinds` belong
    together, one a kept segment; `complete` tells whether every segment was kept (else none, or those of a sample of connections). `texts` maps a record number to the
    start of its payload where that is evidence, `owners` the same number to its connection's `UID`. `parts` are the files:
    (records before it, its name in a ring buffer). `paths` describes what a segment's `PATH` stands for. `icmp` are errors
    about TCP segments, `dns` answers as (record number, time in ns, message) and `queries`, `names` hosts that the capture itself names,
    `comments` what people wrote into it, with the number of the record before (0: the file's own); `has_secrets`: it
    carries keys of TLS sessions.
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
    texts: dict[int, bytes] = {}
    owners: dict[int, int] = {}
    problems: list[Problem] = []
    parts: list[tuple[int, str]] = []
    paths: dict[int, str] = {}
    icmp: list[IcmpError] = []
    dns: list[tuple[int, int, bytes]] = []
    queries: list[DnsQuery] = []
    names: dict[str, str] = {}
    comments: list[tuple[int, str]] = []
    has_secrets: bool = False


class _Kept:
    """Segments set aside while reading: all of them, up to a bound."""

    def __init__(self) -> None:
        self.segments: list[NDArray[np.int64]] = []
        self.uids: list[NDArray[np.int64]] = []
        self.kinds: list[NDArray[np.int64]] = []
        self.count = 0
        self.complete = True

    def take(self, segments: Any, uids: Any, kinds: Any, n: int) -> None:
        if not self.complete:
            return
        if self.count + n > KEEP_SEGMENTS:
            self._give_up()
            return
        self.segments.append(np.array(segments[: n * N_COLUMNS], np.int64).reshape(n, N_COLUMNS))
        self.uids.append(np.array(uids, np.int64))
        self.kinds.append(np.array(kinds, np.int64))
        self.count += n

    def expect(self, records: int) -> None:
        """The file will hold about so many: far more than the bound, and none need be copied."""
        if self.complete and records > 2 * KEEP_SEGMENTS:
            self._give_up()

    def _give_up(self) -> None:
        self.complete = False
        self.segments, self.uids, self.kinds, self.count = [], [], [], 0

    def joined(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The kept segments, whose they are, and what they are."""
        if not self.count:
            return np.empty((0, N_COLUMNS), np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate(self.segments), np.concatenate(self.uids), np.concatenate(self.kinds)


class Chunk(Struct):
    """`rows` decoded segments, their columns end to end in `out`; `done` bytes and `records` of the file so far.

    `kept` are the rows whose text was kept.
    """

    out: Any
    rows: int
    compiled: bool
    done: int
    records: int
    kept: list[int]


class How(NamedTuple):
    """How captures are read: `checksums` is one of `CHECKSUMS`, `sides` tells clients' and servers' networks (`tracker.sides_of`)."""

    checksums: str = "sample"
    sides: tuple[int, ...] = NOBODY


#: As it is without a word of the user.
AS_IS = How()


class Decoder:
    """A capture file as chunks of decoded segments, with what was counted on the way.

    `checksums` is one of `CHECKSUMS`.
    """

    def __init__(self, stream: BinaryIO, size: int | None = None, checksums: str = "sample") -> None:
        self.container = Container(stream, size)
        self.asides = Asides()
        self._checksums = checksums
        self._unwrapper = Unwrapper()
        self._texts = Texts()
        self.texts = self._texts.kept
        self._tallies = self._unwrapper.tallies
        self._outs: dict[bool, list[Any]] = {}
        self._turn = 0
        self._unknown_links: dict[int, int] = {}

    def chunks(self) -> Iterator[Chunk]:
        """Every TCP segment of the file. A chunk's `out` is used again `RING` chunks later."""
        for batch in self.container.batches():
            links = self._links()
            found = self._unwrapper.unwrapped(batch)
            self.asides.take(batch.data, found.asides, found.beside)
            if self._links() > links:
                self._count_links(batch)
            if found.n == batch.n:
                yield self._decoded(batch, found)
            else:
                yield from self._in_parts(batch, found)

    def _links(self) -> int:
        return sum(int(tally[C_LINK]) for tally in self._tallies.values())

    def _decoded(self, batch: Batch, found: Unwrapped, shared: bool = False) -> Chunk:
        out, tally = self._out(batch.compiled), self._tallies[batch.compiled]
        check = CHECKSUMS[self._checksums] - sum(int(one[C_CHECKED]) for one in self._tallies.values())
        run = decode.compiled if batch.compiled else decode.interpreted
        drop = int(self._checksums == "drop")
        rows = int(run(batch.data, batch.base, found.records, found.n, check, drop, out, tally))
        if shared:
            _first_says(out, rows)
        worth = self._texts.wanted & int(tally[C_MARKS])
        kept = self._texts.take(batch.data, batch.base, out, rows) if worth else []
        return Chunk(out, rows, batch.compiled, self.container.done, self.container.number, kept)

    def _in_parts(self, batch: Batch, found: Unwrapped) -> Iterator[Chunk]:
        """More records than a batch has, because of frames aggregated into one: as many chunks as that takes."""
        most = BATCH_COMPILED if batch.compiled else BATCH_INTERPRETED
        for first in range(0, found.n, most):
            n = min(most, found.n - first)
            part = found.records[first * N_RECORD : (first + n) * N_RECORD]
            yield self._decoded(batch, found._replace(records=part, n=n), shared=True)

    def totals(self) -> list[int]:
        """The tallies of both forms together."""
        if not self._tallies:
            return [0] * N_TALLIES
        columns = [[int(value) for value in column] for column in zip(*self._tallies.values(), strict=True)]
        total = [sum(column) for column in columns]
        total[C_FIRST] = min((value for value in columns[C_FIRST] if value), default=0)
        total[C_LAST] = max(columns[C_LAST])
        return total

    def report(self) -> list[Problem]:
        """What was not decoded, and all that the container could not read."""
        tally = self.totals()
        problems = list(self.container.problems)
        _report(problems, tally, self.container.number, self._unknown_links)
        problems += _checksums(tally, self._checksums)
        if tally[C_UNTIMED] and self.container.format == "pcapng" and not any("unknown" in p.what for p in problems):
            problems.append(
                Problem("", f"{tally[C_UNTIMED]:,} packets have a time stamp that cannot be: their times are unknown")
            )
        if self._unwrapper.is_full():
            problems.append(Problem("", "very many VLANs or tunnels: only the first are described"))
        problems += [Problem("", what) for what in self.asides.missed()]
        problems += [Problem("", what) for what in self._texts.missed()]
        return problems

    def paths(self) -> dict[int, str]:
        """What each `PATH` stands for, in words."""
        return self._unwrapper.paths()

    def _out(self, compiled: bool) -> Any:
        """The table whose turn it is."""
        if compiled not in self._outs:
            self._outs[compiled] = (
                [np.empty(BATCH_COMPILED * N_COLUMNS, np.int64) for _ in range(RING)]
                if compiled
                else [[0] * (BATCH_INTERPRETED * N_COLUMNS) for _ in range(RING)]
            )
        self._turn = (self._turn + 1) % RING
        return self._outs[compiled][self._turn]

    def _count_links(self, batch: Batch) -> None:
        links = batch.records[R_LINK : batch.n * N_RECORD : N_RECORD]
        for link, count in Counter(links.tolist() if batch.compiled else links).items():
            if link not in LINK_NAMES:
                self._unknown_links[link] = self._unknown_links.get(link, 0) + count


def _first_says(out: Any, rows: int) -> None:
    """Payload is kept by record number: of several segments in one record, the first has the say."""
    for row in range(N_COLUMNS, rows * N_COLUMNS, N_COLUMNS):
        if out[row + NO] == out[row - N_COLUMNS + NO]:
            out[row + MARKS] &= ~M_KEEP


def read_ahead(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """The same chunks; from the first compiled one on, the next are decoded in a thread while one is looked at.

    Compiled kernels release the interpreter's lock, so reading and tracking run on two cores.
    """
    for chunk in chunks:
        if chunk.compiled:
            yield from _from_thread(chain([chunk], chunks))
        else:
            yield chunk


def _from_thread(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    ready: queue.Queue[Chunk | BaseException | None] = queue.Queue(maxsize=RING - 2)
    stop = threading.Event()

    def work() -> None:
        last: BaseException | None = None
        try:
            for chunk in chunks:
                ready.put(chunk)
                if stop.is_set():
                    break
        except BaseException as error:  # raised again where the chunks are used
            last = error
        ready.put(last)

    worker = threading.Thread(target=work, name="decode", daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while worker.is_alive():  # let a full queue's writer see the flag
            with contextlib.suppress(queue.Empty):
                ready.get(timeout=0.01)
        worker.join()


class Reading:
    """One capture point while it is read: a file, or the files of a ring buffer one after the other.

    Record numbers go on from file to file; `CaptureData.parts` tells which file holds a number.
    """

    def __init__(self, how: How = AS_IS) -> None:
        self.data = CaptureData()
        self._how = how
        self._tracker = Tracker(how.sides)
        self._kept = _Kept()
        self._current: Decoder | None = None

    def read(
        self, stream: BinaryIO, size: int | None = None, member: str = "", progress: Progress | None = None
    ) -> None:
        """Read one file to its end. Damage is a `Problem`, never an exception; `size` is the plain file's where known."""
        self._current = decoder = Decoder(stream, size, self._how.checksums)
        base = self.data.records
        chunks = decoder.chunks()
        try:
            # A stream that still runs is not read ahead of: `snapshot` wants decoder and tracker at the same place.
            for chunk in chunks if getattr(stream, "live", False) else read_ahead(chunks):
                # A few records do not tell how long those of a file are.
                if size and chunk.records >= BATCH_INTERPRETED:
                    self._kept.expect(base + chunk.records * size // chunk.done)
                if chunk.rows:
                    renumber(chunk, base)
                    uids, kinds = self._tracker.feed(chunk.out, chunk.rows, chunk.compiled)
                    self._kept.take(chunk.out, uids, kinds, chunk.rows)
                    for row in chunk.kept:
                        self.data.owners[int(chunk.out[row * N_COLUMNS + NO])] = int(uids[row])
                if progress:
                    progress(chunk.done, base + chunk.records, size)
        finally:
            self._current = None
            _account(self.data, decoder, member)

    def result(self) -> CaptureData:
        """What was read. The rows are the tracker's own: nothing may be read after this."""
        data = self.data
        data.segments, data.uids, data.kinds = self._kept.joined()
        data.complete = self._kept.complete
        data.rows = self._tracker.finish()
        data.problems += self._tracker.problems()
        return data

    @property
    def rows(self) -> NDArray[np.int64]:
        """A copy of the connections so far, as `CaptureData.rows` has them."""
        return self._tracker.finish().copy()

    @property
    def records(self) -> int:
        """Packets read so far."""
        return self.data.records + (self._current.container.number if self._current else 0)

    def snapshot(self) -> CaptureData:
        """What was read so far, for a look at a stream that still runs: a copy."""
        data = replace(
            self.data,
            texts=dict(self.data.texts),
            problems=list(self.data.problems),
            parts=list(self.data.parts),
            icmp=list(self.data.icmp),
            dns=list(self.data.dns),
            queries=list(self.data.queries),
            comments=list(self.data.comments),
            names=dict(self.data.names),
            paths=dict(self.data.paths),
        )
        if self._current is not None:
            _account(data, self._current, "")
        data.segments, data.uids, data.kinds = self._kept.joined()
        data.complete = self._kept.complete
        data.rows = self.rows
        data.problems += self._tracker.problems()
        return data


def _account(data: CaptureData, decoder: Decoder, member: str) -> None:
    """Add what was decoded of one file to the capture."""
    base, total = data.records, decoder.totals()
    data.parts.append((base, member))
    data.format = data.format or decoder.container.format
    data.records, data.tcp = base + decoder.container.number, data.tcp + total[C_TCP]
    data.first_ns = min((t for t in (data.first_ns, total[C_FIRST]) if t), default=0)
    data.last_ns = max(data.last_ns, total[C_LAST])
    data.texts |= {base + number: text for number, text in decoder.texts.items()}
    data.paths |= decoder.paths()
    data.icmp += [replace(error, no=base + error.no) for error in decoder.asides.icmp]
    data.dns += [(base + number, ns, message) for number, ns, message in decoder.asides.dns]
    data.queries += [replace(query, no=base + query.no) for query in decoder.asides.queries]
    data.names |= decoder.container.names
    data.comments += [(base + number, text) for number, text in decoder.container.comments]
    data.has_secrets |= decoder.container.has_secrets
    data.problems += [Problem(f"{member}{p.ref}", p.what) for p in decoder.report()]


def renumber(chunk: Chunk, base: int) -> None:
    """Let a chunk's record numbers go on from those of the files before."""
    if base and chunk.compiled:
        chunk.out[NO : chunk.rows * N_COLUMNS : N_COLUMNS] += base
    elif base:
        for row in range(NO, chunk.rows * N_COLUMNS, N_COLUMNS):
            chunk.out[row] += base


def read_capture(
    stream: BinaryIO, size: int | None = None, progress: Progress | None = None, checksums: str = "sample"
) -> CaptureData:
    """Read one capture file to its end (see `Reading.read`); `checksums` is one of `CHECKSUMS`."""
    reading = Reading(How(checksums))
    reading.read(stream, size, progress=progress)
    return reading.result()


def _report(problems: list[Problem], tally: list[int], records: int, links: dict[int, int]) -> None:
    for link, count in sorted(links.items()):
        problems.append(Problem("", f"{count:,} packets of link type {link} not decoded"))
    for column, what in (
        (C_CUT, "packets with headers cut by the snap length, not decoded (capture with -s 128 or more)"),
        (C_MALFORMED, "packets with impossible IP or TCP header lengths, not decoded"),
        (C_DEEP, f"packets with more than {MAX_STEPS} tags, labels and tunnels around them, not decoded"),
        (
            C_ENCRYPTED,
            "encrypted frames (802.11, MACsec), not decoded (capture behind the access point, or on the host)",
        ),
        (C_FRAGMENT, "IP fragments after the first, not counted as segments"),
    ):
        if tally[column]:
            problems.append(Problem("", f"{tally[column]:,} {what}"))
    if records and not tally[C_TCP]:
        problems.append(Problem("", f"no TCP among {records:,} packets"))


def _checksums(tally: list[int], how: str) -> list[Problem]:
    wrong, checked = tally[C_WRONG], tally[C_CHECKED]
    if not wrong:
        return []
    if how == "drop":
        return [Problem("", f"{wrong:,} TCP segments with a bad checksum, left out")]
    of = f"{wrong:,} of the first {checked:,} TCP segments have" if how == "sample" else f"{wrong:,} TCP segments have"
    return [Problem("", f"{of} a bad checksum, counted anyway")]
