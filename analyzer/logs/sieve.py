"""Which records of a block say anything: a search for all known words at once, and who is between two invocations.

A record is kept when it holds a word that a runtime or a recogniser reads, or when its environment is idle: what is
printed between REPORT and the next START bounds the freeze. Everything else is counted. Lines are never looked at one by one:
record starts, streams and states are columns.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from analyzer.logs import recognisers, runtimes

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Bytes by which two streams are told apart: the end of a stream's name is random.
KEY = 8
#: So many characters of a record's head must agree with the first record's for it to begin a record.
PUNCTUATION = 12
#: Words that are searched for at once: up to about sixty the search compares many bytes in one step (Teddy, measured: 3 to
#: 10 GB/s), for more it walks an automaton byte by byte (0.3 GB/s).
AT_ONCE = 48
#: Streams whose names differ in length ([$LATEST], [7], [12]) are so many layouts at most; others are kept whole.
LAYOUTS = 8
#: Idle records are kept up to here (a process that logs all the time is never frozen).
MOST_IDLE = 200_000


class Layout(Struct, frozen=True):
    """How a record begins: punctuation at fixed offsets, and where its stream's name ends (0: it names none).

    Without punctuation every line begins a record that does not begin with one of `continues`.
    """

    punctuation: tuple[tuple[int, int], ...] = ()
    stream_end: int = 0
    continues: bytes = b" \t})]\r\n\xc2"


def layout_of(line: str, message: int, stream: tuple[int, int] | None) -> Layout | None:
    """The layout of records whose head is as long as this line's: `message` and `stream` are offsets into it."""
    head = line[:message].encode("utf-8", "replace")
    if len(head) != message:  # not ASCII: offsets are not bytes
        return None
    marks = [(i, byte) for i, byte in enumerate(head) if not chr(byte).isalnum()]
    if stream is not None and stream[1] - stream[0] < KEY:
        return None
    return Layout(
        tuple(marks[: PUNCTUATION // 2] + marks[PUNCTUATION // 2 :][-PUNCTUATION // 2 :]), stream[1] if stream else 0
    )


def words() -> tuple[str, ...]:
    """All words that a record is searched for."""
    return tuple(dict.fromkeys([*runtimes.begins(), *runtimes.ends(), *runtimes.needles(), *recognisers.telling()]))


@cache
def _searches() -> list[tuple[BytesAhoCorasick, NDArray[np.int8]]]:
    """Searches for all words, and what each word does to its environment: 1 idle, 0 running, -1 nothing."""
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    states = dict.fromkeys(runtimes.begins(), 0) | dict.fromkeys(runtimes.ends(), 1)
    # Words that begin alike stand together (a third faster, measured), the longer first: of two at one place the first counts.
    every = sorted(words(), reverse=True)
    groups = [every[k : k + AT_ONCE] for k in range(0, len(every), AT_ONCE)]
    return [
        (
            BytesAhoCorasick([word.encode() for word in group], matchkind=MatchKind.LeftmostFirst),
            np.array([states.get(word, -1) for word in group], np.int8),
        )
        for group in groups
    ]


def found(block: bytes) -> tuple[Rows, NDArray[np.int8]]:
    """Where known words stand in a block, and what they do to the state of their environment."""
    places, effects = [np.empty(0, np.int64)], [np.empty(0, np.int8)]
    for search, states in _searches():
        if matches := search.find_matches_as_indexes(block):
            which, where, _ = zip(*matches, strict=True)  # a column at a time: half the time of a table of tuples
            places.append(np.array(where, np.int64))
            effects.append(states[np.array(which, np.int64)])
    return np.concatenate(places), np.concatenate(effects)


class Sieve:
    """Keeps what matters of one file, block after block. `describe` tells the layout of a line that begins a record."""

    def __init__(self, describe: Callable[[str], Layout | None] | None = None) -> None:
        self.folded = 0
        self._describe = describe
        self._layouts: list[Layout] = []
        self._idle: dict[int, int] = {}
        self._last_kept = True
        self._left = MOST_IDLE

    def fits(self, block: bytes) -> bool:
        """Whether the block's records have a layout; the first line that begins one tells."""
        if not self._layouts:
            any(self._learnt(line) for line in block[:65536].split(b"\n")[:200])
        return bool(self._layouts)

    def _learnt(self, line: bytes) -> bool:
        """Whether the layout of a line is a new one; remembers it."""
        layout = self._describe(line.decode("utf-8", "replace")) if self._describe else None
        if layout is None or layout in self._layouts or len(self._layouts) >= LAYOUTS:
            return False
        self._layouts.append(layout)
        return True

    def keep(self, block: bytes) -> tuple[Rows, Mask]:
        """The starts of the block's lines, and which of them to keep. Continuation lines go with their record."""
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == 10) + 1
        starts = np.concatenate(([0], ends[:-1] if len(ends) and ends[-1] == len(block) else ends)).astype(np.int64)
        heads, odd, keys = self._columns(block, starts)
        record: Rows = np.cumsum(heads, dtype=np.int64)  # 0: the record that the block before left open
        kept = self.records(block, starts, record, keys)
        kept[record[odd]] = True
        kept[0] |= self._last_kept
        self._last_kept = bool(kept[-1])
        self.folded = int(len(kept) - 1 - np.count_nonzero(kept[1:]))
        return starts, kept[record]

    def records(self, block: bytes, starts: Rows, record: Rows, keys: NDArray[np.uint64]) -> Mask:
        """Which records to keep; `record` numbers them from 1 for each start, `keys` is each start's stream."""
        kept: Mask = np.zeros(int(record[-1]) + 1, np.bool_)
        places, states = found(block)
        rows = np.searchsorted(starts, places, "right") - 1
        kept[record[rows]] = True
        kept[record[self._idle_rows(keys, rows[states >= 0], states[states >= 0])]] = True
        return kept

    def _columns(self, block: bytes, starts: Rows) -> tuple[Mask, Mask, NDArray[np.uint64]]:
        """For each line: whether it begins a record, whether it half does (a layout that is not known), and its stream."""
        padded = np.frombuffer(block + bytes(KEY), np.uint8)
        heads: Mask = np.zeros(len(starts), np.bool_)
        keys = np.zeros(len(starts), np.uint64)
        first = self._layouts[0]
        if not first.punctuation:
            return ~np.isin(padded[starts], np.frombuffer(first.continues, np.uint8)), heads, keys
        half = padded[np.minimum(starts + first.punctuation[0][0], len(block))] == first.punctuation[0][1]
        known = 0
        while known < len(self._layouts):
            layout = self._layouts[known]
            rows = np.flatnonzero(half & ~heads)
            rows = rows[_agree(padded, starts[rows], layout, len(block))]
            heads[rows] = True
            if layout.stream_end:
                keys[rows] = stream_keys(padded, starts[rows] + layout.stream_end, len(block))
            known += 1
            odd = np.flatnonzero(half & ~heads)[:1]
            if known == len(self._layouts) and len(odd):
                self._learnt(block[starts[odd[0]] : starts[odd[0]] + 4096].partition(b"\n")[0])
        return half, half & ~heads, keys

    def _idle_rows(self, keys: NDArray[np.uint64], rows: Rows, states: NDArray[np.int8]) -> Rows:
        """Rows whose stream is between REPORT and START at their place; remembers the states for the next block."""
        names, which = np.unique(keys, return_inverse=True)
        size = len(keys) + 1
        before = np.array([self._idle.get(name, 0) for name in names.tolist()], np.int8)
        # One line of changes: at (stream, row) the state becomes so; the state before the block stands at row -1.
        place = np.concatenate((np.arange(len(names)) * size, which[rows] * size + rows + 1))
        order = np.argsort(place, kind="stable")
        place, state = place[order], np.concatenate((before, states))[order]
        now = state[np.searchsorted(place, which * size + np.arange(len(keys)) + 1, "right") - 1]
        last = state[np.searchsorted(place, (np.arange(len(names)) + 1) * size, "left") - 1]
        self._idle.update(zip(names.tolist(), last.tolist(), strict=True))
        idle = np.flatnonzero(now == 1)[: self._left]
        self._left -= len(idle)
        return idle


def _agree(data: NDArray[np.uint8], starts: Rows, layout: Layout, limit: int) -> Mask:
    """Which lines have a layout's punctuation."""
    same: Mask = np.ones(len(starts), np.bool_)
    for offset, byte in layout.punctuation:
        same &= data[np.minimum(starts + offset, limit)] == byte
    return same


def stream_keys(data: NDArray[np.uint8], ends: Rows, limit: int) -> NDArray[np.uint64]:
    """The eight bytes before each offset, as numbers."""
    first = np.clip(ends, KEY, max(limit, KEY)) - KEY
    words = np.ndarray((len(data) - KEY + 1,), np.dtype("<u8"), data, strides=(1,))
    return words[first]
