"""Payloads whose text is evidence, copied out of the file while it is read, within bounds that no file can exceed."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct

from analyzer.capture.columns import (
    CAPTURED,
    DPORT,
    LEN,
    M_HELLO,
    M_HTTP1,
    M_KEEP,
    M_TLS_CLIENT_HELLO,
    M_WHY,
    MARKS,
    N_COLUMNS,
    NO,
    OFFSET,
    SEQ,
    SRC_HI,
)

#: A ClientHello that is too long for one segment (post-quantum keys: 1.7 KB) goes on within so many segments.
CONTINUES_WITHIN = 64


class Budget(Struct, frozen=True):
    """What is kept of payloads with these markers: bytes of each, bytes of all."""

    marks: int
    each: int
    all: int
    what: str


#: Reasons are rare and short. Hellos are one or two a connection; the larger half of theirs is for the name.
#: First lines of HTTP/1 are as many as there are requests and prove little, so few are kept, and nobody is told when there are more.
BUDGETS = (
    Budget(M_WHY, 2_048, 4 << 20, "error replies and GOAWAY frames"),
    Budget(M_HELLO, 2_048, 16 << 20, "TLS hellos"),
    Budget(M_HTTP1, 160, 1 << 19, ""),
)
#: What a kept payload costs besides its bytes: two objects and their places in dictionaries.
OVERHEAD = 128


class Texts:
    """The payloads kept of one file: `kept` by record number."""

    def __init__(self) -> None:
        self.kept: dict[int, bytes] = {}
        #: Markers that are worth a look: of a spent budget only those whose loss is told.
        self.wanted = M_KEEP
        self._room = [budget.all for budget in BUDGETS]
        self._missed = [0] * len(BUDGETS)

    def take(self, data: Any, base: int, out: Any, rows: int) -> list[int]:
        """Keep what is worth it of `rows` decoded segments in `out`, whose payloads lie in `data`; returns which rows."""
        found = []
        for row, budget in self._wanted(out, rows):
            text = _payload(data, base, out, row, BUDGETS[budget].each)
            if out[row + MARKS] & M_TLS_CLIENT_HELLO:
                text = _continued(text, data, base, out, row, rows)[: BUDGETS[budget].each]
            cost = len(text) + OVERHEAD
            if cost > self._room[budget]:
                self._spent(budget)
                continue
            self._room[budget] -= cost
            self.kept[int(out[row + NO])] = text
            found.append(row // N_COLUMNS)
        return found

    def missed(self) -> list[str]:
        """What there was too much of, in words."""
        return [
            f"the text of {count:,} {budget.what} not kept: too many"
            for count, budget in zip(self._missed, BUDGETS, strict=True)
            if count and budget.what
        ]

    def _spent(self, budget: int) -> None:
        self._room[budget] = 0
        self._missed[budget] += 1
        if not BUDGETS[budget].what:
            self.wanted &= ~BUDGETS[budget].marks

    def _wanted(self, out: Any, rows: int) -> list[tuple[int, int]]:
        """(where a row starts, its budget) for rows with a marker whose budget has room; the others are counted."""
        marks = np.asarray(out[MARKS : rows * N_COLUMNS : N_COLUMNS], np.int64)
        taken = np.zeros(rows, np.bool_)
        found: list[tuple[int, int]] = []
        for number, budget in enumerate(BUDGETS):
            hit = (marks & budget.marks != 0) & ~taken
            taken |= hit
            if self._room[number]:
                found += [(row * N_COLUMNS, number) for row in np.flatnonzero(hit).tolist()]
            else:
                self._missed[number] += int(np.count_nonzero(hit))
        return sorted(found)


def _payload(data: Any, base: int, out: Any, row: int, most: int) -> bytes:
    start = int(out[row + OFFSET]) - base
    return bytes(data[start : start + min(int(out[row + CAPTURED]), most)])


def _continued(text: bytes, data: Any, base: int, out: Any, row: int, rows: int) -> bytes:
    """A ClientHello with what the sender's next segments add to its first record, where they come soon."""
    whole = 5 + int.from_bytes(text[3:5])
    length = int(out[row + LEN])
    nearby = range(row + N_COLUMNS, min(row + CONTINUES_WITHIN * N_COLUMNS, rows * N_COLUMNS), N_COLUMNS)
    for later in nearby if length < whole and len(text) == length else ():
        same = [int(v) for v in out[later + SRC_HI : later + DPORT + 1]] == [
            int(v) for v in out[row + SRC_HI : row + DPORT + 1]
        ]
        if same and out[later + SEQ] == (out[row + SEQ] + length) & 0xFFFFFFFF and out[later + LEN] > 0:
            more = _payload(data, base, out, later, whole - length)
            text, length = text + more, length + int(out[later + LEN])
            if length >= whole or len(text) < length:
                break
    return text
