"""Chosen packets of a capture, copied record by record as they stand in the file.

A pcap stays a pcap (its byte order, its time resolution), a pcapng a pcapng with its sections, interfaces, names, statistics
and secrets: what a record says is never read and written anew, so no time stamp and no length changes. Two passes over the
file: the first finds the records' numbers, the second copies them; memory holds the numbers (8 bytes each) and one window.

An `Editor` may rewrite what is copied: that is how a capture is redacted.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np
from msgspec import Struct

from analyzer.capture.again import Part, candidates
from analyzer.capture.columns import (
    DPORT,
    DST_HI,
    DST_LO,
    N_RECORD,
    NO,
    R_CAPLEN,
    R_LEN,
    R_LINK,
    R_NO,
    R_OFFSET,
    SPORT,
    SRC_HI,
    SRC_LO,
)  # fmt: skip
from analyzer.capture.containers import (
    BLOCK_ENHANCED,
    BLOCK_PACKET_OLD,
    BLOCK_SECTION,
    BLOCK_SIMPLE,
    PCAP_MAGICS,
    PCAP_RECORD,
    Batch,
    Container,
)
from analyzer.model.problems import InputError
from analyzer.tcp import fields as f

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes of an enhanced packet block up to the packet (pcapng §4.3).
PACKET_BLOCK = 28
#: Where the packet begins in the body of a simple and of an old packet block, which the container hands out one by one.
SIMPLE_BODY, OLD_BODY = 4, 20

#: Decryption secrets block (pcapng §4.7).
BLOCK_SECRETS = 10

#: Positions in a batch of packets that are none of the connections' segments and yet about them.
Concerns = Callable[[Batch], list[int]]


class Editor(Protocol):
    """Rewrites a copy."""

    def block(self, block: bytes, order: str) -> bytes:
        """A pcapng block that is no packet (`order`: `<` or `>`), rewritten; empty to leave it out."""

    def packet(self, link: int, data: bytes) -> bytes | None:
        """A packet rewritten, at most as long as it was; None to leave it out."""


class Copied(Struct):
    """What a copy holds. `numbers` are the record numbers of the original, in order: the copy's packet n is `numbers[n - 1]`."""

    numbers: array[int]
    #: Packets that the editor left out.
    dropped: int = 0
    #: Blocks of decryption secrets (pcapng DSB) copied.
    secrets: int = 0


def record_numbers(parts: Iterable[Part], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The record numbers of every segment of the connections in `rows` (n × `tcp.fields.N_FIELDS`), in order."""
    lives: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for row in rows.tolist():
        client, server = tuple(row[f.C_HI : f.C_PORT + 1]), tuple(row[f.S_HI : f.S_PORT + 1])
        for ends in ((*client, *server), (*server, *client)):
            lives.setdefault(ends, []).append((row[f.FIRST_NO], row[f.LAST_NO]))
    columns = [SRC_HI, SRC_LO, SPORT, DST_HI, DST_LO, DPORT]
    found = [np.empty(0, np.int64)]
    for table, _ in candidates(parts, rows):
        tuples, whose = np.unique(table[:, columns], axis=0, return_inverse=True)
        for n, ends in enumerate(map(tuple, tuples.tolist())):
            mine = table[whose.ravel() == n, NO] if ends in lives else found[0]
            found += [mine[(mine >= first) & (mine <= last)] for first, last in lives.get(ends, ())]
    return np.unique(np.concatenate(found))


def copy_records(
    parts: Iterable[Part],
    numbers: NDArray[np.int64],
    out: BinaryIO,
    editor: Editor | None = None,
    concerns: Concerns | None = None,
) -> Copied:
    """Write the records of these numbers (1-based, going on from file to file) to `out`, as one capture file.

    Raises `InputError` where the files of a ring buffer are of different forms, so that no one file can hold them.
    """
    copied = Copied(array("q"))
    target = _Target(out, editor, copied)
    base = 0
    for open_part, size in parts:
        with open_part() as stream:
            container = Container(stream, size)
            container.aside = partial(target.aside, container)
            for batch in container.batches():
                first = base + int(batch.records[R_NO])
                low, high = np.searchsorted(numbers, (first, first + batch.n))
                chosen = (numbers[low:high] - first).tolist()
                if concerns is not None:
                    chosen = sorted({*chosen, *concerns(batch)})
                for position in chosen:
                    target.record(batch, position, first + position)
            base += container.number
    return copied


def packet_of(batch: Batch, position: int) -> tuple[int, bytes]:
    """(link type, captured bytes) of one record."""
    record = batch.records[position * N_RECORD : (position + 1) * N_RECORD]
    start = int(record[R_OFFSET])
    return int(record[R_LINK]), bytes(batch.data[start : start + int(record[R_CAPLEN])])


#: The magic number of a plain pcap file, by byte order and time unit.
PLAIN_MAGICS = {(order, unit): magic for magic, (order, unit, head) in PCAP_MAGICS.items() if head == PCAP_RECORD}


class _Target:
    """The file that is written: its header or blocks as they come, then records."""

    def __init__(self, out: BinaryIO, editor: Editor | None, copied: Copied) -> None:
        self._out, self._editor, self._copied = out, editor, copied
        self._header = b""
        self._order = "<"
        self._ng = False
        self._head = PCAP_RECORD

    def aside(self, container: Container, block: bytes) -> None:
        """A pcap's header, or a pcapng block that is no packet."""
        if container.format == "pcapng":
            self._block(block)
            return
        order, unit_ns, self._head = PCAP_MAGICS[block[:4]]
        if self._head != PCAP_RECORD:  # the longer record headers of a modified libpcap are written as the plain ones
            block = PLAIN_MAGICS[order, unit_ns] + block[4:]
        if self._header or self._ng:
            self._same_form(block)
        else:
            self._header = block
            self._out.write(block)

    def _same_form(self, header: bytes) -> None:
        """A later file of a ring buffer: its records follow under the first header."""
        if self._ng or header[:4] != self._header[:4] or header[20:] != self._header[20:]:
            raise InputError(
                "the files of this ring buffer differ in byte order, time resolution or link type: name one"
            )

    def _block(self, block: bytes) -> None:
        if self._header:
            raise InputError("the files of this ring buffer are pcap and pcapng: name one")
        self._ng = True
        if struct.unpack("<I", block[:4])[0] == BLOCK_SECTION:
            self._order = "<" if block[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
            block = block[:16] + b"\xff" * 8 + block[24:]  # the section's length is another now: unknown (pcapng §4.1)
        block += bytes(-len(block) % 4)
        kind = struct.unpack_from(self._order + "I", block)[0]
        if self._editor is not None:
            block = self._editor.block(block, self._order)
        if block and kind == BLOCK_SECRETS:
            self._copied.secrets += 1
        self._out.write(block)

    def record(self, batch: Batch, position: int, number: int) -> None:
        """One packet with its header."""
        record = [int(value) for value in batch.records[position * N_RECORD : (position + 1) * N_RECORD]]
        if self._editor is None:
            self._out.write(self._raw_block(batch.data, record) if self._ng else self._raw_record(batch.data, record))
        else:
            data = self._editor.packet(*packet_of(batch, position))
            if data is None:
                self._copied.dropped += 1
                return
            self._out.write(
                self._new_block(batch.data, record, data) if self._ng else self._new(batch.data, record, data)
            )
        self._copied.numbers.append(number)

    # ---- pcap

    def _raw_record(self, data: Any, record: list[int]) -> bytes:
        start = record[R_OFFSET]
        head = bytes(data[start - self._head : start - self._head + PCAP_RECORD])
        return head + bytes(data[start : start + record[R_CAPLEN]])

    def _new(self, data: Any, record: list[int], packet: bytes) -> bytes:
        order = "<" if self._header[:1] in (b"\xd4", b"\x4d") else ">"
        start = record[R_OFFSET] - self._head
        return bytes(data[start : start + 8]) + struct.pack(order + "II", len(packet), record[R_LEN]) + packet

    # ---- pcapng

    def _raw_block(self, data: Any, record: list[int]) -> bytes:
        start = record[R_OFFSET]
        if start in (SIMPLE_BODY, OLD_BODY):
            kind = BLOCK_SIMPLE if start == SIMPLE_BODY else BLOCK_PACKET_OLD
            body = bytes(data)
            return _framed(self._order, kind, body)
        begin = start - PACKET_BLOCK
        size = struct.unpack(self._order + "I", bytes(data[begin + 4 : begin + 8]))[0]
        return bytes(data[begin : begin + size + (-size % 4)])

    def _new_block(self, data: Any, record: list[int], packet: bytes) -> bytes:
        """An enhanced packet block without options, whatever it was before."""
        start, order = record[R_OFFSET], self._order
        if start == SIMPLE_BODY:
            face, time = 0, bytes(8)
        elif start == OLD_BODY:
            face, time = struct.unpack(order + "H", bytes(data[:2]))[0], bytes(data[4:12])
        else:
            face = struct.unpack(order + "I", bytes(data[start - 20 : start - 16]))[0]
            time = bytes(data[start - 16 : start - 8])
        head = struct.pack(order + "I", face) + time + struct.pack(order + "II", len(packet), record[R_LEN])
        return _framed(order, BLOCK_ENHANCED, head + packet)


def _framed(order: str, kind: int, body: bytes) -> bytes:
    """A pcapng block around a body."""
    size = struct.pack(order + "I", 12 + len(body) + (-len(body) % 4))
    return struct.pack(order + "I", kind) + size + body + bytes(-len(body) % 4) + size
