"""Which records of a block say anything: a search for all known words at once, and who is between two invocations.

A record is kept when it holds a word that a runtime or a recogniser reads, or when its environment is idle: what is
printed between REPORT and the next START bounds the freeze. Everything else is counted. Lines are never looked at one by one:
record starts, streams and states are columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
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
#: Idle records are kept up to here (a process that logs all the time is never frozen).
MOST_IDLE = 200_000


@dataclass(frozen=True, slots=True)
class Layout:
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


@cache
def _words() -> tuple[BytesAhoCorasick, NDArray[np.int8]]:
    """The search for all known words, and what each does to its environment: 1 idle, 0 running, -1 nothing."""
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    states = dict.fromkeys(runtimes.begins(), 0) | dict.fromkeys(runtimes.ends(), 1)
    words = list(dict.fromkeys([*states, *runtimes.needles(), *recognisers.telling()]))
    search = BytesAhoCorasick([word.encode() for word in words], matchkind=MatchKind.LeftmostFirst)
    return search, np.array([states.get(word, -1) for word in words], np.int8)


def found(block: bytes) -> tuple[Rows, NDArray[np.int8]]:
    """Where known words stand in a block, and what they do to the state of their environment."""
    search, states = _words()
    matches = search.find_matches_as_indexes(block)
    if not matches:
        return np.empty(0, np.int64), np.empty(0, np.int8)
    table = np.array(matches, np.int64)
    return table[:, 1], states[table[:, 0]]


class Sieve:
    """Keeps what matters of one file, block after block."""

    def __init__(self) -> None:
        self.folded = 0
        self._layout: Layout | None = None
        self._idle: dict[int, int] = {}
        self._last_kept = True
        self._left = MOST_IDLE

    def fits(self, block: bytes, layout: Callable[[str], Layout | None]) -> bool:
        """Whether the block's records have a layout; the first line that begins one tells."""
        for line in block[:65536].split(b"\n")[:200]:
            self._layout = layout(line.decode("utf-8", "replace"))
            if self._layout is not None:
                return True
        return False

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
        """For each line: whether it begins a record, whether it half does (another layout), and its stream."""
        layout = self._layout or Layout()
        padded = np.frombuffer(block + bytes(1024), np.uint8)
        if not layout.punctuation:
            heads = ~np.isin(padded[starts], np.frombuffer(layout.continues, np.uint8))
            return heads, np.zeros(len(starts), np.bool_), np.zeros(len(starts), np.uint64)
        agree = [padded[np.minimum(starts + offset, len(block))] == byte for offset, byte in layout.punctuation]
        same = np.logical_and.reduce(agree)
        odd = agree[0] & ~same
        keys = np.zeros(len(starts), np.uint64)
        if layout.stream_end:
            keys = stream_keys(padded, starts + layout.stream_end, len(block))
        return same | odd, odd, keys

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


def stream_keys(data: NDArray[np.uint8], ends: Rows, limit: int) -> NDArray[np.uint64]:
    """The eight bytes before each offset, as numbers."""
    first = np.clip(ends, KEY, max(limit, KEY)) - KEY
    words = np.ndarray((len(data) - KEY + 1,), np.dtype("<u8"), data, strides=(1,))
    return words[first]
