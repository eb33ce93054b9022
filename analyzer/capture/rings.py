"""The files of one ring buffer (`tcpdump -C/-G/-W`, `dumpcap -b`): names that differ in numbers only, times that follow.

Capture points may be named so, too (`node1.pcap`, `node2.pcap`), and where their clocks are far apart their times follow as well. They
show the same packets; a ring shows none twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from analyzer.capture.columns import R_LINK, R_TS
from analyzer.capture.containers import PCAP_MAGICS, Container
from analyzer.tcp import fields as f

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

#: A file may begin before the one before it ended, by packets that wait in buffers while the files are switched.
OVERLAP_NS = 1_000_000_000
#: Of a connection whose handshake neither file has, so many segments that are no retransmissions tell of both.
FEW_SEGMENTS = 5
#: A pcap file's header: byte order, unit of time, snap length, link type.
HEADER_SIZE = 24
SIDES = (f.SIDE, f.SIDE + f.SIDE_FIELDS)
ENDS, ISNS = [f.C_HI, f.C_LO, f.C_PORT, f.S_HI, f.S_LO, f.S_PORT], [side + f.ISN for side in SIDES]
CIRCLE = 1 << 32

_NUMBER = re.compile(r"\d+")


class First(Struct, frozen=True):
    """A capture file by its first record: time in ns, 0 if unknown, and link type; and by what all files of a ring begin with."""

    path: str
    time_ns: int
    link: int
    header: bytes


#: A first look reads so many bytes.
LOOK = 1 << 16


def first_of(path: str, head: bytes, stream: BinaryIO) -> First:
    """The first record of a capture; `head` are its first bytes, at least the magic number."""
    header = head[:HEADER_SIZE] if head[:4] in PCAP_MAGICS else head[:4]
    for batch in Container(stream, read_size=LOOK).batches():
        return First(path, int(batch.records[R_TS]), int(batch.records[R_LINK]), header)
    return First(path, 0, -1, header)


def pattern(path: str) -> str:
    """The path with `*` for each number of its name: what the files of a ring have in common.

    `tcpdump -C` writes `trace.pcap`, `trace.pcap1`, `trace.pcap2`: a number at the very end may be missing.
    """
    name = Path(path).name
    inner = name.removesuffix(".gz").removesuffix(".zst").removesuffix(".lz4")
    return str(Path(path).with_name(_NUMBER.sub("*", inner.rstrip("0123456789")) + "*" + name[len(inner) :]))


def names_alike(path: str, other: str) -> int:
    """How many numbers two names have in common: of two rings beside each other (`node1-00.pcap`), which one a file belongs to."""
    numbers = (_NUMBER.findall(Path(p).name) for p in (path, other))
    return sum(a == b for a, b in zip(*numbers, strict=False))


def candidates(files: Iterable[First]) -> list[list[First]]:
    """Captures that could be one, each group in order of time; whether their times follow is known when they are read."""
    groups: dict[tuple[str, int, bytes], list[First]] = {}
    for file in files:
        name = pattern(file.path) if file.time_ns else file.path
        groups.setdefault((name, file.link, file.header), []).append(file)
    return [sorted(group, key=lambda file: (file.time_ns, file.path)) for group in groups.values()]


def show_the_same(rows: Ints, others: Ints) -> bool:
    """Whether two captures, by the rows of their connections, show the same packets: a handshake that was completed is not sent
    again, nor most of a conversation."""
    return _same_handshakes(rows, others) or _same_bytes(rows, others)


def _same_handshakes(rows: Ints, others: Ints) -> bool:
    completed = ((t[:, ISNS] >= 0).all(axis=1) & (t[:, f.ESTABLISHED_TS] > 0) for t in (rows, others))
    one, other = (set(map(tuple, t[mine][:, ISNS].tolist())) for t, mine in zip((rows, others), completed, strict=True))
    return not one.isdisjoint(other)


def _same_bytes(rows: Ints, others: Ints) -> bool:
    """Whether of most conversations in both one has seen most of what the other has of a side."""
    known = {tuple(row[ENDS].tolist()): row for row in rows}
    told = [
        max(_shared(row, other, side) for side in SIDES)
        for other in others
        if (row := known.get(tuple(other[ENDS].tolist()))) is not None
    ]
    told = [share for share in told if share >= 0]
    return 2 * sum(share > 0.5 for share in told) > len(told)


def _shared(row: Ints, other: Ints, side: int) -> float:
    """The part of what one of two saw of a side that the other saw, too; −1 where either saw too little."""
    if any(r[side + f.PKTS] - r[side + f.RETX] < FEW_SEGMENTS for r in (row, other)):
        return -1.0
    ahead = (int(other[side + f.START] - row[side + f.START]) + CIRCLE // 2) % CIRCLE - CIRCLE // 2
    lengths = [int(r[side + f.NXT] - r[side + f.START]) for r in (row, other)]
    if min(lengths) <= 0:
        return -1.0
    return (min(lengths[0], ahead + lengths[1]) - max(ahead, 0)) / min(lengths)
